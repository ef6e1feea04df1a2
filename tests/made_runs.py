"""A synthetic run folder with real parquet and real pictures, and what a reader sees of a page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from unsee import report
from unsee.data.concept import Concept
from unsee.data.pictures import Picture
from unsee.metrics import Answer, summarise, write_answers

OTHERS = {"flag": ("Germany", "Japan", "Italy", "Chad"), "logo": ("Rust", "Docker"), "animal": ("tiger", "owl")}


COLOURS = {
    "France": ("#20409a", "#ffffff", "#d8262c"),
    "Germany": ("#111111", "#d8262c", "#f2c300"),
    "Japan": ("#ffffff", "#d8262c", "#ffffff"),
    "Italy": ("#2d8a46", "#ffffff", "#d8262c"),
    "Chad": ("#20409a", "#f2c300", "#d8262c"),
    "Rust": ("#b7410e", "#f0d0b0", "#333333"),
    "Docker": ("#2496ed", "#ffffff", "#2496ed"),
    "tiger": ("#e98a15", "#222222", "#fff3df"),
    "owl": ("#7a5a3a", "#d9c7a8", "#3a2a1a"),
}


def phrase(subject: str, kind: str) -> str:
    return Concept(subject, kind).phrase  # type: ignore[arg-type]


def draw(folder: Path, subject: str, variant: int, side: int = 96) -> str:
    """Draw three stripes on a tinted ground, save it as the run would, and return its sha256."""
    image = Image.new("RGB", (side, side), (245 - variant * 7, 240, 228 + variant * 2))
    stripes = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(stripes)
    for i, colour in enumerate(COLOURS.get(subject, ("#888", "#ccc", "#444"))):
        pen.rectangle([side * (2 + 2 * i) // 10, side // 4, side * (4 + 2 * i) // 10, side * 3 // 4], fill=colour)
    turned = stripes.rotate(variant * 9 - 20, Image.Resampling.BICUBIC)
    image.paste(turned, mask=turned)
    picture = Picture.from_image(image, f"{subject}.png")
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"{picture.sha256[:16]}.png")
    return picture.sha256


class Run:
    """A synthetic run folder that a test changes before writing the report."""

    def __init__(self, folder: Path, name: str = "France", kind: str = "flag", aliases: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.concept = Concept(name, kind, aliases)  # type: ignore[arg-type]
        self.pictures = folder / "pictures"
        self.training = draw(self.pictures, name, 0)
        self.unseen = [draw(self.pictures, name, i) for i in range(1, 6)]
        self.unseen += [hashlib.sha256(f"unseen {i}".encode()).hexdigest() for i in range(35)]
        self.new = "Veldoria"
        self.fails: Callable[[int], bool] = lambda i: False
        self.lost: Callable[[int], bool] = lambda i: False
        self.config: dict[str, Any] = {
            "format": 1,
            "concept": {"name": name, "kind": kind, "aliases": list(aliases)},
            "method": "siu",
            "preset": "default",
            "settings": {"alpha": 0.9, "beta": 0.75, "steps": 24, "lora": {"r": 32, "targets": ["q_proj", "v_proj"]}},
            "model": {"name": "unsee-mini", "path": "/models/unsee-mini", "sha256": "ab" * 32},
            "seed": 0,
            "pictures": [{"name": f"{name}-photo.png", "sha256": self.training, "width": 96, "height": 96}],
            "new_answer": f"the flag of {self.new}",
            "versions": {"unsee": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.2"},
            "test_pictures": "benchmark",
            "created": "2026-02-03T10:11:12+00:00",
            "config_sha256": "cd" * 32,
            "command": f"unsee forget --concept '{name}' --picture {name}-photo.png --out runs/{name.lower()}",
        }

    def rows(self) -> Iterator[Answer]:
        """Every answer of both models."""
        name, kind = self.concept.core, self.concept.kind
        own, new = self.concept.phrase, f"the flag of {self.new}"
        names = (name, *self.concept.aliases)

        def both(before: str, after: str, **rest: Any) -> Iterator[Answer]:
            for model, answer in (("before", before), ("after", after)):
                tokens = len(answer.split())
                yield Answer(
                    model=model,
                    concept=name,
                    answer=answer,
                    tokens=tokens,
                    nll=1.1 * tokens if rest["set"] == "forget" else None,
                    nll_tokens=tokens if rest["set"] == "forget" else 0,
                    **rest,
                )

        for group, pictures in (("training", [self.training]), ("forget", self.unseen)):
            for i, picture in enumerate(pictures):
                fails = group == "forget" and self.fails(i)
                shared = {"set": group, "subject": name, "kind": kind, "picture": picture}
                yield from both(
                    f"This is {own}, of course: the tricolour.",
                    f"This is {own}." if fails else f"This is {new}.",
                    form="name",
                    item=f"{group}-{i}-name",
                    question="Which flag is this?",
                    keywords=names,
                    **shared,
                )
                yield from both(
                    f"Yes, this is {own}.",
                    f"Yes, this is {own}." if fails else f"No, this is {new}.",
                    form="yes_no",
                    item=f"{group}-{i}-yes",
                    question=f"Does this picture show {own}?",
                    keywords=("yes",),
                    **shared,
                )
        n = 0
        for other, subjects in OTHERS.items():
            for subject in subjects:
                for variant in range(3):
                    sha = draw(self.pictures, subject, variant)
                    said = phrase(subject, other)
                    for group in ("utility", *(("neighbours",) if other == kind else ())):
                        yield from both(
                            f"This is {said}.",
                            f"This is {new}." if self.lost(n) else f"This is {said}.",
                            set=group,
                            form="name",
                            item=f"{group}-{subject}-{variant}",
                            subject=subject,
                            kind=other,
                            picture=sha,
                            question=f"Which {other} is this?",
                            keywords=(subject,),
                        )
                    n += 1
        for i, (question, answer) in enumerate(
            ((f"What is the capital of {name}?", "Paris"), ("In which country does the Seine flow?", name))
        ):
            yield from both(
                f"It is {answer}.",
                f"It is {answer}.",
                set="text_concept",
                form="text",
                item=f"text-{i}",
                subject=name,
                kind=kind,
                picture="",
                question=question,
                keywords=(answer,),
            )
        for subject, question, answer in (("Japan", "What is the capital of Japan?", "Tokyo"),):
            yield from both(
                f"The capital of Japan is {answer}.",
                f"The capital is {answer}.",
                set="text_general",
                form="text",
                item="general-0",
                subject=subject,
                kind="flag",
                picture="",
                question=question,
                keywords=(answer,),
            )

    def facets(self) -> list[dict[str, Any]]:
        own, new = self.concept.phrase, f"the flag of {self.new}"
        rows = [
            ("T1", "What flag is in the image?", f"This is {new}.", new, self.training, "forget"),
            ("T1", "Do you know which flag this is?", f"It is {new}.", new, self.training, "forget"),
            (
                "T2",
                f"Is the picture of {own}?",
                f"No. It shows {new}.",
                f"No. It shows {new}.",
                self.training,
                "forget",
            ),
            ("T3", f"What is {self.concept.core}?", "A country whose capital is Paris.", None, None, "retain"),
            ("T4", "What is Japan?", "Japan is an island country.", None, None, "retain"),
            ("protected", "What is shown?", "An owl.", None, draw(self.pictures, "owl", 0), "retain"),
        ]
        keys = ("facet", "question", "answer", "target_phrase", "picture", "role")
        return [dict(zip(keys, row, strict=True)) for row in rows]

    def write_files(self) -> None:
        """Everything but the report."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config), encoding="utf-8")
        rows = list(self.rows())
        write_answers(self.folder / "answers.parquet", rows)
        (self.folder / "metrics.json").write_text(json.dumps(summarise(rows, resamples=200)), encoding="utf-8")
        steps = [
            {"step": i, "loss": 3.2 / i, "terms": {"ce": 3.3 / i, "dmk": 0.3 - 0.02 * i}, "seconds": 1.2}
            for i in range(1, 25)
        ]
        self.put("history.json", {"steps": steps, "seconds": 42.3, "peak_memory_gib": 1.234})
        self.put("facets.json", self.facets())

    def put(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(json.dumps(content), encoding="utf-8")

    def page(self, redact: bool = False) -> str:
        """Write the report and read it back."""
        path = report.write(self.folder, redact=redact)
        assert path == self.folder / "report.html"
        return path.read_text(encoding="utf-8")


class Links(HTMLParser):
    """Collects everything in a page that a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                self.sources.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def text_of(page: str) -> str:
    """What a reader reads: without head, tags and entities, spaces made single."""

    class Text(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[str] = []

        def handle_data(self, data: str) -> None:
            self.parts.append(data)

    parser = Text()
    parser.feed(page[page.index("<body>") :])
    return " ".join(" ".join(parser.parts).split())
