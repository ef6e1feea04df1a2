"""From a request to a finished run: build facets, ask before, train, ask after, score, report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsee import facets, report
from unsee.benchmarks.protocol import Originals, Protocol, Recorder
from unsee.data import Picture, Request, Sample
from unsee.data.samples_file import as_rows, load_samples
from unsee.errors import UnseeError
from unsee.facets import NEW_ANSWERS, Facets, FacetSettings
from unsee.methods import Method
from unsee.metrics import Answer, read_answers, summarise_run, write_answers
from unsee.models import Reply, VisionLanguageModel
from unsee.models.lora import load_adapter, remove_adapter, save_adapter
from unsee.runs.folder import BEFORE, CHECKPOINTS, FACETS, RunFolder, describe_pictures
from unsee.training import History, train

Progress = Callable[[str, int, int], None]
"""Called with the stage ("asking before", "training", ...), what is done of it, and how much there is."""

SHOWN_PICTURES = 24
"""How many pictures a run folder keeps for its report."""


@dataclass
class Run:
    """A finished run.

    Args:
        path: its folder.
        metrics: as in `metrics.json`.
        answers: the record, before and after.
        history: of training.
        left_out: protected pictures in which the original sees the concept.
    """

    path: Path
    metrics: dict[str, Any]
    answers: list[Answer]
    history: History
    left_out: list[str]


def forget(
    vlm: VisionLanguageModel,
    request: Request,
    method: Method[Any],
    protocol: Protocol | Sequence[Protocol],
    out: Path,
    *,
    facet_settings: FacetSettings | None = None,
    samples: Sequence[Sample] | None = None,
    seed: int = 0,
    force: bool = False,
    test_pictures: str = "benchmark",
    command: str | None = None,
    originals: Originals | None = None,
    progress: Progress | None = None,
    redact: bool = False,
) -> Run:
    """Make a model forget, and write the run folder.

    Args:
        vlm: the original model. Afterwards it carries the adapter; `remove_adapter` takes it off. Where this fails,
            it is the original again.
        request: what to forget; all of `request.also` is forgotten in the same training.
        method: with its settings; see `unsee.methods.make_method`.
        protocol: what is asked before and after; of several requests one for each, in the order of `request.every`.
        out: the run folder; it must not exist. An interrupted run of the same config is gone on with.
        facet_settings: how the four targets are built; by default with the questions that the method has a use for.
        samples: the four targets themselves, instead of building them; or, for a method that needs them, the training
            data.
        seed: of names, order and LoRA.
        force: go on where the model does not know the concept.
        test_pictures: "benchmark", "folder" or "augmented": where unseen pictures come from.
        command: how to repeat it, for the record.
        originals: answers of the original model to share between runs.
        progress: called as the work goes on.
        redact: leave the picture and the name out of the report, and keep no picture in the run folder.

    Raises:
        RunFolderError: `out` exists, or holds an unfinished run of another config.
        UnseeError: the model carries an adapter already, or the method needs what the samples do not have, or
            another model to begin with; or the protocols are not those of the requests.
        UnknownConceptError: the model does not know the concept.
        TrainingError: the loss exploded.
    """
    method.check_data(samples is not None)
    say = progress or (lambda *_: None)
    facet_settings = facet_settings or FacetSettings(protected_questions=method.protected_questions)
    vlm.refuse_adapter()
    protocols = [protocol] if isinstance(protocol, Protocol) else list(protocol)
    fitting = not request.also or [p.concept for p in protocols] == list(request.concepts)
    if len(protocols) != len(request.every) or not fitting:
        raise UnseeError("several requests need a protocol for the concept of each, in their order")
    folder = RunFolder(
        out,
        {
            "concept": dataclasses.asdict(request.concept),
            **({"concepts": [dataclasses.asdict(c) for c in request.concepts]} if request.also else {}),
            "method": method.name,
            "preset": method.preset,
            "settings": dataclasses.asdict(method.settings),
            "facets": _facet_config(facet_settings, request) if samples is None else "given",
            "model": {
                "name": vlm.name,
                "path": str(vlm.path) if vlm.path else None,
                "dtype": str(vlm.base.dtype).removeprefix("torch."),
                "sha256": vlm.weights_sha256(),
            },
            "seed": seed,
            "pictures": _pictures(request),
            "protected_pictures": len({p.sha256 for one in request.every for p in one.protected}),
            "test_pictures": test_pictures,
            "questions": sum(len(p.items) for p in protocols),
            "data_sha256": _data_sha256(request, protocols, samples),
            "redact": redact,
            **({"command": command} if command else {}),
        },
    )
    with folder.alone():
        return _carried_out(
            folder, vlm, request, method, protocols, facet_settings, samples, seed, force, Recorder(vlm, originals), say
        )


def _carried_out(
    folder: RunFolder,
    vlm: VisionLanguageModel,
    request: Request,
    method: Method[Any],
    protocols: Sequence[Protocol],
    facet_settings: FacetSettings,
    samples: Sequence[Sample] | None,
    seed: int,
    force: bool,
    recorder: Recorder,
    say: Progress,
) -> Run:
    """All that a run does, as far as an earlier call has not done it."""
    try:
        anew = "training data" in method.data
        built = _facets(folder, vlm, request, facet_settings, samples, seed, force, anew, say)
        chosen = method.samples(built.samples, seed)
    except UnseeError:
        # To be mended by another request, which a folder left behind would stand in the way of.
        if not (folder.resumed and folder.has(FACETS)):
            folder.discard()
        raise
    names = built.new_names | {name for concept in request.concepts for name in concept.names}
    protocols = [dataclasses.replace(p, new_names=p.new_names | names) for p in protocols]
    before = _before(folder, recorder, protocols, say)
    try:
        history = _train(folder, vlm, request, method, chosen, seed, say)
        after = _after(recorder, protocols, say)
        answers = before + after
        write_answers(folder.work / "answers.parquet", answers)
        metrics = summarise_run(answers, seed=seed)
        folder.write_json("metrics.json", metrics)
        if not folder.config["redact"]:  # nor had a call that was interrupted asked for it
            folder.keep_pictures(_shown(request, protocols))
        report.write(folder.work)
        return Run(folder.finish(), metrics, answers, history, built.left_out)
    except BaseException:
        remove_adapter(vlm)
        raise


def _facet_config(settings: FacetSettings, request: Request) -> dict[str, Any]:
    """How the targets are built; what a request itself says of the new answer goes before the settings.

    A name is "given" here: this part of the config is shown in redacted reports, too.
    """
    said = [one.new_answer or settings.new_answer for one in request.every]
    policies = [one if one in NEW_ANSWERS else "given" for one in said]
    return {**dataclasses.asdict(settings), "new_answer": policies if len(set(policies)) > 1 else policies[0]}


def _pictures(request: Request) -> list[dict[str, Any]]:
    """The pictures trained on; of several requests, each with the name of what it shows."""
    if not request.also:
        return describe_pictures(request.pictures)
    return [entry for one in request.every for entry in describe_pictures(one.pictures, concept=one.concept.name)]


def _data_sha256(request: Request, protocols: Sequence[Protocol], samples: Sequence[Sample] | None) -> str:
    """Hash of all that the run learns from and is asked, so that another test set or facets file is another run."""
    first, *further = [
        {
            "facts": [dataclasses.astuple(f) for f in one.facts],
            "protect": [p.name for p in one.protect],
            "protected": [p.sha256 for p in one.protected],
            "new_answer": one.new_answer,
        }
        for one in request.every
    ]
    data = {
        **first,
        "asked": [[i.set, i.form, i.subject.name, *i.keywords, *i.key] for p in protocols for i in p.items],
        "samples": [
            [s.question, s.answer, s.picture.sha256 if s.picture else None, s.target_phrase, s.role, s.facet, s.truth]
            for s in samples or ()
        ],
        **({"also": further} if further else {}),
    }
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def _counting(say: Progress, stage: str, total: int) -> Callable[[int], None]:
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        say(stage, done, total)

    return more


def _before(folder: RunFolder, recorder: Recorder, protocols: Sequence[Protocol], say: Progress) -> list[Answer]:
    """The original's answers, or those that an interrupted run has already asked for."""
    total = sum(len(p.items) for p in protocols)
    say("asking before", 0, total)
    if folder.has(BEFORE):
        answers = read_answers(folder.work / BEFORE)
        for protocol in protocols:
            recorder.remember(protocol, [a for a in answers if a.concept == protocol.concept.name])
    else:
        more = _counting(say, "asking before", total)
        answers = [a for protocol in protocols for a in recorder.before(protocol, more)]
        write_answers(folder.work / BEFORE, answers)
    say("asking before", total, total)
    return answers


def _after(recorder: Recorder, protocols: Sequence[Protocol], say: Progress) -> list[Answer]:
    """The unlearned model's answers; what several protocols ask is asked once."""
    total = sum(len(p.items) for p in protocols)
    more = _counting(say, "asking after", total)
    said: dict[tuple[str, str], Reply] = {}
    answers = [a for protocol in protocols for a in recorder.after(protocol, more, said)]
    say("asking after", total, total)
    return answers


def _facets(
    folder: RunFolder,
    vlm: VisionLanguageModel,
    request: Request,
    settings: FacetSettings,
    samples: Sequence[Sample] | None,
    seed: int,
    force: bool,
    anew: bool,
    say: Progress,
) -> Facets:
    say("building facets", 0, 1)
    if samples is None and folder.has(FACETS) and "new_answer" in folder.config:
        read = load_samples(folder.work / FACETS, facets.shown(request, settings, seed))
        built = Facets(read, folder.config["new_answer"], folder.config["left_out"])
    else:
        if samples is None:
            built = facets.build(vlm, request, settings, seed, force)
        else:
            built = facets.given(vlm, request, samples, settings, force, anew)
        folder.write_json(FACETS, as_rows(built.samples))
        folder.note(new_answer=built.new_answer, left_out=built.left_out)
    say("building facets", 1, 1)
    return built


def _train(
    folder: RunFolder,
    vlm: VisionLanguageModel,
    request: Request,
    method: Method[Any],
    samples: Sequence[Sample],
    seed: int,
    say: Progress,
) -> History:
    """Train, or take up what an interrupted run has already trained."""
    adapter = folder.work / "adapter"
    if folder.has("history.json"):  # written last: the adapter is whole
        load_adapter(vlm, adapter)
        return History(**json.loads((folder.work / "history.json").read_text()))
    steps = method.settings.steps if method.trains else 1
    try:
        method.attach(vlm, seed)
        say("training", 0, steps)
        history = train(
            vlm,
            method,
            samples,
            request,
            seed,
            folder.work / CHECKPOINTS,
            progress=lambda done, total: say("training", done, total),
            save_steps=max(10, steps // 4),
        )
    except UnseeError:  # the same settings would end the same way, and others must not find the folder in their way
        folder.discard()
        raise
    shutil.rmtree(adapter, ignore_errors=True)
    save_adapter(vlm, adapter)
    folder.write_json("history.json", dataclasses.asdict(history))
    return history


def _shown(request: Request, protocols: Sequence[Protocol]) -> list[Picture]:
    """The requests' pictures, some unseen ones of each concept, and some of others."""
    given = {p.sha256: p for one in request.every for p in one.pictures}
    pictures = dict(given)
    items = [i for p in protocols for i in p.items]
    unseen = max(10, 2 * len(protocols))
    for name, most in (("forget", unseen), ("neighbours", 6), ("utility", 10)):
        found = {i.picture.sha256: i.picture for i in items if i.set == name and i.picture is not None}
        chosen = list(found.values())
        step = max(1, len(chosen) // most)
        pictures |= {p.sha256: p for p in chosen[::step][:most]}
    return list(pictures.values())[: SHOWN_PICTURES + unseen - 10 + len(given)]
