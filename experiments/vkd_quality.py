"""Does VKD (reconstructed) do what is asked of it? `test` concepts of all kinds, the default settings.

    python experiments/vkd_quality.py --json experiments/results/vkd_quality.jsonl.gz

Beside the scores of the benchmark, what training the visual parts alone promises about language:

- logits of the text questions, at every position of the right answer, are equal bit for bit;
- the same text questions asked beside a picture, of another kind than what they are about, are answered as before.

Every single run is one line of the file, written as it ends; a second call goes on after the last one and prints the
tables from what is there. Nothing here is tuned: settings come from the `dev` split (`--split dev`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import torch

from quality_parts.command import opened, parser_for, part_of, sizes_of, value_of
from quality_parts.estimate import ahead, basis
from quality_parts.jobs import Job, Mini, Record, Sizes, blocks, chosen_concepts
from quality_parts.records import Results
from quality_parts.tables import beside, by_concept, graded, over_concepts, told
from unsee.benchmarks.protocol import Protocol
from unsee.data import Request
from unsee.metrics import Answer
from unsee.metrics.judging import is_right
from unsee.models import VisionLanguageModel
from unsee.models.packing import EncodedPack, collate


class MiniBesidePictures(Mini):
    """The embedded benchmark; and each of its text questions once more, beside a picture of another kind."""

    def questions(self, request: Request, sizes: Sizes) -> list[Protocol]:
        protocols = super().questions(request, sizes)
        for protocol in protocols:
            shown = [(i.subject.kind, i.picture) for i in protocol.items if i.set == "utility" and i.form == "name"]
            pictures = cycle(shown)
            for item in [i for i in protocol.items if i.picture is None]:
                picture = next(p for kind, p in pictures if kind != item.subject.kind)
                protocol.items.append(dataclasses.replace(item, set="text_shown", picture=picture))
        return protocols


@torch.no_grad()
def text_logits(vlm: VisionLanguageModel, protocols: Sequence[Protocol]) -> Record:
    """How many logits of the text questions there are, and how many of them are equal to the original's."""
    asked = [(i.question, i.keywords[0]) for p in protocols for i in p.items if i.picture is None]
    packs = [EncodedPack(None, (vlm.prompter.suffix(q, said, False, ()),)) for q, said in asked]

    def logits() -> torch.Tensor:
        return torch.cat([vlm.logits(collate([pack], vlm.prompter)) for pack in packs])

    found = logits()
    with vlm.original():
        equal = logits() == found
    return {"text_logits": {"compared": equal.numel(), "equal": int(equal.sum())}}


def language(results: Results, jobs: Sequence[Job]) -> str:
    """The lines about language."""
    logits, kept, questions = [], [], 0
    for job in jobs:
        record, original = results.of(job), results.original(job.concept, job.sizes)
        if record is None or original is None or record["error"]:
            continue
        logits.append(record["text_logits"])
        old, new = (_right(side["answers"]) for side in (original, record))
        questions = len(new)
        kept.append((job.concept, 100 * sum(new) / sum(old)))
    if not logits:
        return "no run yet"
    compared, equal = (sum(one[key] for one in logits) for key in ("compared", "equal"))
    mean = over_concepts(kept)
    assert mean is not None
    return (
        f"text questions: {equal} of {compared} logits equal to the original's, in {len(logits)} runs\n"
        f"{questions} text questions beside a picture: right answers, % of the original's: {mean.text(1)}, "
        f"least {min(value for _, value in kept):.1f}"
    )


def _right(answers: Sequence[dict[str, Any]]) -> list[bool]:
    return [is_right(Answer(**a)) for a in answers if a["set"] == "text_shown"]


def main(given: list[str] | None = None) -> None:
    parser = parser_for(__doc__, "vkd_quality.jsonl.gz", Sizes(utility_pictures=2, general_questions=1))
    parser.add_argument("--split", default="test")
    parser.add_argument("--concepts", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crossed", action="store_true", help="every seed on every concept")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, changes the default preset")
    args = parser.parse_args(given)
    changes = {k: value_of(v) for k, v in (s.split("=", 1) for s in args.set)}
    on = blocks(chosen_concepts(args.split, args.concepts), args.seeds, args.crossed)
    jobs = [Job(b.concept, "vkd", "default", changes, b.seed, sizes_of(args)) for b in part_of(on, args.part)]
    results, source = Results(args.json), MiniBesidePictures()
    if args.plan:
        print(ahead("VKD", jobs, results, source)[0], basis(results), sep="\n")
        return
    if not args.tables:
        from quality_parts.bench import Bench

        Bench(opened(args), results, source, looked=text_logits).go(jobs, told)
    print(f"## VKD (reconstructed) on `{args.split}`\n\n{beside(results, {'vkd': jobs})}\n\n{language(results, jobs)}")
    if results.all_of(jobs):
        print(f"\n## By concept\n\n{by_concept(results, jobs)}\n\nby the report's rule: {graded(results, jobs)}")


if __name__ == "__main__":
    main()
