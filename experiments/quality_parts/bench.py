"""One run, and what runs on a concept share: the original's answers and the four targets, made once for all."""

from __future__ import annotations

import dataclasses
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

import unsee
from quality_parts.jobs import Job, Mini, Record, Sizes, Source, jointly
from quality_parts.records import ORIGINAL, RUN, Results, original_key
from speed_parts.machine import described, revision
from unsee import facets
from unsee.benchmarks.protocol import Originals, Protocol, Recorder
from unsee.errors import UnseeError
from unsee.facets import Facets, FacetSettings
from unsee.methods import get_method
from unsee.metrics import Answer
from unsee.models.lora import remove_adapter


class Bench:
    """Runs jobs with one model and writes their records.

    Args:
        vlm: the original model.
        results: where records go, and what an earlier call left.
        source: of requests and questions.
        clock: seconds; a run's time is from facets given to answers scored, without what runs share.
        looked: what else is to be recorded of the unlearned model, asked while its adapter is on.

    Raises:
        SystemExit: the results are of another model.
    """

    def __init__(
        self,
        vlm: Any,
        results: Results,
        source: Source | None = None,
        clock: Callable[[], float] = time.perf_counter,
        looked: Callable[[Any, Sequence[Protocol]], Record] | None = None,
    ):
        self.vlm, self.results, self.clock = vlm, results, clock
        self._weights = vlm.weights_sha256()
        if {r["versions"]["weights"] for r in results.lines if r["line"] == ORIGINAL} - {self._weights}:
            raise SystemExit(
                f"{results.path} holds answers of other weights, or of these in another precision than "
                f"{str(vlm.base.dtype).removeprefix('torch.')}: they are not mixed; give another --json, or --dtype"
            )
        self.source: Source = source or Mini()
        self.looked = looked
        self._memory = Originals()
        self._asked: set[str] = set()
        self._facets: dict[tuple[str, int, int, FacetSettings], Facets] = {}

    def go(self, jobs: Iterable[Job], told: Callable[[Record], None] | None = None) -> None:
        """Run what is not in the file yet. `jobs` is read as runs end, so it may look at them.

        A bug in one method does not cost the others their night: what it said is printed, and nothing recorded.

        Raises:
            SystemExit: at the end, where there was one.
        """
        broken: list[Job] = []
        for job in jobs:
            if self.results.of(job) is None:
                try:
                    record = self.run(job)
                except Exception:
                    traceback.print_exc()
                    broken.append(job)
                    continue
                self.results.append(record)
                if told:
                    told(record)
        if broken:
            said = "; ".join(f"{job.method} on {job.concept}, seed {job.seed}" for job in broken)
            raise SystemExit(f"{len(broken)} runs ended in an unexpected error, and are not in the file: {said}")

    def run(self, job: Job) -> Record:
        """The record of a run; one that fails for a reason the user could mend has an "error" and no answers."""
        request = self.source.request(job.concepts, get_method(job.method).protected_pictures)
        protocols = self.source.questions(request, job.sizes)
        for concept, protocol in zip(job.concepts, protocols, strict=True):
            self._original(concept, job.sizes, protocol)
        record: Record = {
            "line": RUN,
            "key": job.key,
            **dataclasses.asdict(job),
            "kind": jointly([c.kind for c in request.concepts]),
            "questions": dict(Counter(i.set for p in protocols for i in p.items)),
            "code": revision(),
            "error": None,
        }
        begin = self.clock()
        try:
            targets = self._targets(job, request)
            self.vlm.forget_features()  # those of the targets' pictures: who runs first should not find them ready
            begin = self.clock()
            method = job.made()
            record["settings"] = job.settings
            with tempfile.TemporaryDirectory() as folder:
                run = unsee.forget(
                    self.vlm,
                    request,
                    method,
                    protocols,
                    Path(folder) / "run",
                    seed=job.seed,
                    samples=targets.samples,
                    originals=self._memory,
                )
            seconds = self.clock() - begin
            seen = self.looked(self.vlm, protocols) if self.looked else {}
        except UnseeError as error:
            return record | {"error": f"{type(error).__name__}: {error}", "wall_seconds": self.clock() - begin}
        finally:
            remove_adapter(self.vlm)
        return record | {
            **seen,
            "wall_seconds": seconds,
            "training_seconds": run.history.seconds,
            "threads": torch.get_num_threads(),
            "peak_memory_gib": run.history.peak_memory_gib,
            "loss": [s["loss"] for s in run.history.steps],
            "after": {k: s and s["value"] for k, s in run.metrics["after"].items()},
            "answers": [dataclasses.asdict(a) for a in run.answers if a.model == "after"],
        }

    def _original(self, concept: str, sizes: Sizes, protocol: Protocol) -> None:
        """Ask the original model, or take what it said from the file: never twice."""
        found, recorder = self.results.original(concept, sizes), Recorder(self.vlm, self._memory)
        if found is None:
            begin = self.clock()
            answers = recorder.before(protocol)
            self.results.append(
                {
                    "line": ORIGINAL,
                    "concept": concept,
                    "sizes": dataclasses.asdict(sizes),
                    "machine": described(str(self.vlm.device)),
                    "versions": {"unsee": unsee.__version__, "weights": self._weights},
                    "wall_seconds": self.clock() - begin,
                    "answers": [dataclasses.asdict(a) for a in answers],
                }
            )
        elif original_key(concept, sizes) not in self._asked:
            try:
                recorder.remember(protocol, [Answer(**a) for a in found["answers"]])
            except UnseeError as error:
                raise SystemExit(f"{self.results.path}: {error}; they are not mixed, give another --json") from None
        self._asked.add(original_key(concept, sizes))

    def _targets(self, job: Job, request: unsee.Request) -> Facets:
        """The four targets: by concept, seed, and what is asked of which pictures; nothing else of a method."""
        settings = FacetSettings(protected_questions=get_method(job.method).protected_questions)
        place = (job.concept, job.seed, len(request.protected), settings)
        if place not in self._facets:
            self._facets[place] = facets.build(self.vlm, request, settings, job.seed)
        return self._facets[place]
