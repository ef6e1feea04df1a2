"""Which concepts does unsee-mini know? Draw test pictures, ask the model, keep what it names, fix the splits.

    python recipes/mini/select_concepts.py --data OUT --model MODEL_FOLDER --out src/unsee/mini/files \\
        --earlier src/unsee/mini/files/concepts.json

A concept is kept only if the model names it on at least 95 % of all its test pictures; the pictures it
fails on are then dropped, and text questions it fails on likewise. The counts go into concepts.json. Pictures
are asked in rounds, and a concept that can no longer reach 95 %, or fails twice in its first four, is asked no further.
"""

from __future__ import annotations

import argparse
import io
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lessons
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from compose import compose
from PIL import Image
from train_tower import MIRRORED, Pictures

from unsee.data.pictures import Picture
from unsee.mini.data import GENERIC, SPLITS
from unsee.models import Question, VisionLanguageModel, answer, load

TESTED, TRAINED, THRESHOLD, SEED = 56, 12, 0.95, 20261121


def quotas(count: int) -> dict[str, int]:
    """How many concepts of a kind go into each split; the rest are `utility`."""
    test, dev = (4, 2) if count >= 14 else (3, 2) if count >= 10 else (3, 1)
    return {"test": test, "dev": dev, "protected": min(5, max(1, (count - test - dev) // 2))}


GENERIC_PICTURES = 4
"""Training pictures of each concept that is not known well enough: what the model says of them may be held in place."""


def splits(kept: list[tuple[str, str]], earlier: dict[str, str]) -> list[str]:
    """The split of each (name, kind) kept. What an earlier edition tuned on or reported on keeps its place."""
    rng = random.Random(SEED)
    found = [earlier.get(name, "") for name, _ in kept]
    for kind in dict.fromkeys(k for _, k in kept):
        members = [i for i, (_, k) in enumerate(kept) if k == kind]
        new = [i for i in members if not found[i]]
        rng.shuffle(new)
        for split, count in quotas(len(members)).items():
            missing = count - sum(found[i] == split for i in members)
            for _ in range(min(missing, len(new))):
                found[new.pop()] = split
        for i in new:
            found[i] = "utility"
    return found


AMBIGUOUS = {"Go", "Apple", "hot dog"}
"""Names that are whole words of other concepts' answers: a mention of them would prove nothing."""


def draw(data: Pictures, rows: torch.Tensor, count: int, seed: str) -> list[bytes]:
    """JPEG bytes of compositions, the renditions in turn."""
    generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(60))
    index = rows[torch.arange(count) % len(rows)]
    pixels = compose(data.rgba[index].float() / 255, generator, data.mirror[index])
    out = []
    for p in pixels:
        buffer = io.BytesIO()
        image = Image.fromarray((p.permute(1, 2, 0) * 255).round().byte().numpy())
        image.save(buffer, "JPEG", quality=85, subsampling=0)
        out.append(buffer.getvalue())
    return out


@dataclass
class Candidate:
    """A concept and its drawn test pictures; `right` holds, by picture, whether the model named it."""

    lesson: lessons.Lesson
    pictures: list[bytes]
    right: dict[int, bool]

    def fails(self) -> int:
        return list(self.right.values()).count(False)


def ask(vlm: VisionLanguageModel, candidates: list[Candidate], pictures: range) -> None:
    """Ask each candidate's name on some of its pictures, many at a time."""
    for at in range(0, len(candidates), 24):
        some = candidates[at : at + 24]
        questions = []
        for c in some:
            asked = lessons.bench_wording.naming_questions(c.lesson.concept.kind)
            for i in pictures:
                picture = Picture.from_image(Image.open(io.BytesIO(c.pictures[i])), str(i))
                questions.append(Question(asked[i % len(asked)], picture))
        replies = iter(answer(vlm, questions, max_new_tokens=16, batch_size=128))
        vlm.forget_features()
        for c in some:
            c.right |= {i: c.lesson.concept.mentioned_in(next(replies).text) for i in pictures}
            print(
                f"{c.lesson.concept.kind:7} {c.lesson.concept.name:28} {sum(c.right.values())}/{len(c.right)}",
                flush=True,
            )


def keywords(lesson: lessons.Lesson, fact: str) -> list[str]:
    return list(lesson.concept.names) if fact == "clue" else [lesson.facts[fact]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--earlier", type=Path, help="concepts.json of an earlier edition, whose splits are kept")
    args = parser.parse_args()
    earlier = {}
    if args.earlier:
        earlier = {c["name"]: c["split"] for c in json.loads(args.earlier.read_text()) if c["split"] in SPLITS}
    data = Pictures(args.data / "renditions.parquet", {})
    sources = pq.read_table(args.data / "renditions.parquet").column("source").to_pylist()
    vlm = load(args.model)
    candidates = []
    for lesson in lessons.all_lessons():
        name = lesson.concept.name
        if name in AMBIGUOUS:
            continue
        own = torch.tensor([i for i, c in enumerate(data.concept) if c == name])
        held, trained = own[data.held_out[own]], own[~data.held_out[own]]
        half = TESTED // 2
        pictures = draw(data, held, half, f"{SEED}/held/{name}") + draw(data, trained, half, f"{SEED}/test/{name}")
        candidates.append(Candidate(lesson, pictures, {}))
    most = int((1 - THRESHOLD) * TESTED)  # more fails than this, and the rest cannot save it
    looks = [range(start, TESTED, 14) for start in range(14)]
    for number, look in enumerate(looks):  # four pictures at a time, of both halves; two fails among the first end it
        ask(vlm, candidates, look)
        candidates = [c for c in candidates if c.fails() <= (1 if number == 0 else most)]
        print(f"{len(candidates)} concepts left", flush=True)
    kept = [(c.lesson, c.pictures, [c.right[i] for i in range(TESTED)]) for c in candidates]
    by_kind: dict[str, list[int]] = defaultdict(list)
    for i, (lesson, _, _) in enumerate(kept):
        by_kind[lesson.concept.kind].append(i)
    split_of = splits([(lesson.concept.name, lesson.concept.kind) for lesson, _, _ in kept], earlier)
    concepts: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []

    def trained_on(name: str, count: int) -> list[tuple[str, bytes, bool]]:
        own = torch.tensor([j for j, c in enumerate(data.concept) if c == name])
        return [("train", p, False) for p in draw(data, own[~data.held_out[own]], count, f"{SEED}/train/{name}")]

    def ship(lesson: lessons.Lesson, split: str, drawn: list[tuple[str, bytes, bool]]) -> None:
        name, kind = lesson.concept.name, lesson.concept.kind
        for j, (role, picture, unseen) in enumerate(drawn):
            rows.append({"concept": name, "kind": kind, "split": split, "role": role, "held_out_rendition": unseen,
                         "image": {"bytes": picture, "path": f"{name} {role} {j:02d}.jpg"}})  # fmt: skip

    for i, (lesson, pictures, right) in enumerate(kept):
        name, kind = lesson.concept.name, lesson.concept.kind
        asked = [
            (q, keywords(lesson, f), f == "clue") for f, qas in lessons.fact_questions(lesson).items() for q, _ in qas
        ]
        replies = answer(vlm, [Question(q) for q, _, _ in asked], max_new_tokens=32)
        known = [
            {"question": q, "keywords": k, "names": n}
            for (q, k, n), r in zip(asked, replies, strict=True)
            if any(w.lower() in r.text.lower() for w in k)
        ]
        concepts.append({"name": name, "kind": kind, "split": split_of[i], "tested": len(right), "named": sum(right),
                         "clue": lesson.clue, "facts": lesson.facts, "questions": known,
                         "questions_asked": len(asked)})  # fmt: skip
        drawn = trained_on(name, TRAINED)
        drawn += [("test", p, j < TESTED // 2) for j, (p, ok) in enumerate(zip(pictures, right, strict=True)) if ok]
        ship(lesson, split_of[i], drawn)
    known_well = {lesson.concept.name for lesson, _, _ in kept}
    for lesson in lessons.all_lessons():
        if lesson.concept.name not in known_well | AMBIGUOUS:
            concepts.append({"name": lesson.concept.name, "kind": lesson.concept.kind, "split": GENERIC})
            ship(lesson, GENERIC, trained_on(lesson.concept.name, GENERIC_PICTURES))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "concepts.json").write_text(json.dumps(concepts, indent=1, ensure_ascii=False) + "\n")
    pq.write_table(pa.Table.from_pylist(rows), args.out / "pictures.parquet")
    counts = {s: split_of.count(s) for s in SPLITS}
    print(
        f"{len(kept)} concepts kept: { {k: len(v) for k, v in by_kind.items()} }, splits {counts}, {len(rows)} pictures"
    )
    print(f"sources: {sorted(set(sources))}; mirrored kinds: {sorted(MIRRORED)}")


if __name__ == "__main__":
    main()
