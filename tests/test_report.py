"""The report, on a synthetic run folder with real parquet and real pictures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image, ImageDraw, PngImagePlugin

from unsee import report
from unsee.data.concept import Concept, mention
from unsee.data.pictures import Picture
from unsee.errors import RunFolderError
from unsee.metrics import METRICS, Answer, summarise, write_answers
from unsee.report.charts import line, nice_ticks
from unsee.report.examples import choose
from unsee.report.figures import marked, number, signed
from unsee.report.images import data_uri
from unsee.report.read import Exchange, Metrics, Score, read_run
from unsee.report.redaction import REDACTED, Redactor, harmless

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


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "run")
    made.write_files()
    return made


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


def score(value: float, low: float | None = None, high: float | None = None, n: int | None = None) -> Score:
    return Score(value, low, high, n)


def judged(run: Run, before: dict[str, Score], after: dict[str, Score], change: dict[str, Score]) -> report.Verdict:
    return report.judge(replace(read_run(run.folder), metrics=Metrics(before, after, change)))


# --- the page as a whole


def test_page_loads_nothing_and_runs_nothing(run: Run) -> None:
    page = run.page()
    links = Links()
    links.feed(page)
    assert links.sources, "there must be pictures"
    assert all(source.startswith("data:") for source in links.sources)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(links.tags)
    assert links.handlers == []
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r'src="data:[^"]*"', "", page))
    assert "default-src 'none'" in page


def test_every_part_is_there(run: Run) -> None:
    text = text_of(run.page())
    for part in (
        "The model no longer recognises the flag of France.",
        "In 100 % of 40 answers on unseen pictures the name is gone (95 % interval 91.2 to 100; originally 0 %).",
        "Other concepts: 100 % → 100 %.",
        "Unseen pictures",
        "What was kept",
        "What is the capital of Japan?",
        "Generality (EM)",
        "↑ higher is better",
        "↓ lower is better",
        "total loss",
        "T1 · A new name",
        "42 s",
        "2.13.0",
        "ab" * 32,
        "unsee forget --concept 'France'",
        "lora.targets",
        "q_proj, v_proj",
    ):
        assert part in text, part


def test_definitions_come_from_the_registry(run: Run) -> None:
    text = text_of(run.page())
    assert all(METRICS[key].definition in text for key in ("em", "neighbours", "text_kept", "degenerate_rate"))
    assert "Not measured in this run: C-Dis, Specificity, yes/no." in text


def test_pictures_are_embedded_without_their_metadata(run: Run) -> None:
    path = run.pictures / f"{run.training[:16]}.png"
    image = Image.open(path)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "taken at home")
    image.save(path, pnginfo=notes)
    assert b"taken at home" in path.read_bytes()
    page = run.page()
    embedded = [base64.b64decode(found) for found in re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)]
    assert len(embedded) > 10
    assert not any(b"taken at home" in data for data in embedded)


def test_writing_leaves_nothing_but_the_report(run: Run) -> None:
    before = {path.name for path in run.folder.iterdir()}
    run.page()
    run.page()
    assert {path.name for path in run.folder.iterdir()} == before | {"report.html"}


def test_a_failed_report_keeps_the_old_one(run: Run) -> None:
    old = run.page()
    (run.folder / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunFolderError, match="metrics.json"):
        report.write(run.folder)
    assert (run.folder / "report.html").read_text(encoding="utf-8") == old


def test_the_same_run_gives_the_same_page(run: Run) -> None:
    assert run.page() == run.page()


# --- escaping


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", name="<img src=x onerror=alert(1)>", kind="thing")
    run.config["command"] = "unsee forget --concept '</pre><script>alert(2)</script>'"
    run.config["settings"] = {"<b>key</b>": "<i>value</i>"}
    run.config["pictures"][0]["name"] = '"><script>alert(3)</script>.png'
    run.new = "</blockquote><script>alert(4)</script>"
    run.write_files()
    run.put("history.json", {"steps": [{"step": 1, "loss": 1.0, "terms": {"<svg onload=alert(5)>": 1.0}}]})
    for redact in (False, True):
        page = run.page(redact=redact)
        links = Links()
        links.feed(page)
        assert "script" not in links.tags and links.handlers == []
        assert all(source.startswith("data:") for source in links.sources)
        assert "<i>value" not in page and "&lt;i&gt;value&lt;/i&gt;" in page


def test_control_characters_and_broken_unicode_do_not_break_the_page(run: Run) -> None:
    facets = run.facets()
    facets[0]["question"] = "a\x00b\x1bc"
    (run.folder / "facets.json").write_text(json.dumps(facets).replace("An owl.", "An \\ud800 owl."), encoding="utf-8")
    page = run.page()
    assert "\x00" not in page and "\x1b" not in page
    assert "a\N{REPLACEMENT CHARACTER}b" in page


def test_a_very_long_answer_is_cut(run: Run) -> None:
    facets = run.facets()
    facets[4]["answer"] = "word " * 5000
    run.put("facets.json", facets)
    page = run.page()
    assert page.count("word ") < 200 and "(25000 characters)" in page


# --- marks


def test_the_name_is_marked_where_it_still_occurs(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", aliases=("French Republic",))
    run.fails = lambda i: i == 0
    run.write_files()
    page = run.page()
    assert '<mark class="name">France</mark>' in page
    after = re.findall(r'class="side after concept">(.*?)</blockquote>', page, re.DOTALL)
    assert sum('<mark class="name">' in side for side in after) == 2, "one failing picture, asked twice"
    assert all(("still recognised" in side) == ('<mark class="name">' in side) for side in after)
    assert not re.search(r'<mark class="name">[^<]*Veldoria', page)


def test_marks_are_whole_words_plurals_and_aliases() -> None:
    found = marked("Niger's flag, not Nigeria's; <Niger>", [mention("Niger")], "name")
    assert found == (
        '<mark class="name">Niger&#39;s</mark> flag, not Nigeria&#39;s; &lt;<mark class="name">Niger</mark>&gt;'
    )
    assert marked("_Harry Potter_", [mention("Harry Potter")], "name").count("<mark") == 1
    assert marked("Harry Potter", [mention("Harry"), mention("Harry Potter")], "name").count("Harry") == 1


def test_the_target_phrase_is_marked(run: Run) -> None:
    assert 'This is <mark class="target">the flag of Veldoria</mark>.' in run.page()


# --- examples


def exchange(subject: str, picture: str, item: int, good: bool = True, form: str = "name") -> Exchange:
    return Exchange("forget", form, str(item), subject, "flag", picture, "?", ("x",), "x", "y", False, good)


def test_failures_are_never_left_out() -> None:
    everything = [exchange("A", f"{i:064x}", i, good=i != 77) for i in range(100)]
    shown = {f"{i:064x}"[:16] for i in range(100)}
    choice = choose(everything, shown | {""}, cards=6, questions=2)
    assert len(choice.cards) == 6 and choice.failures == 1 and choice.pictures == 100
    assert any(e.item == "77" for card in choice.cards for e in card.exchanges)


def test_examples_spread_over_subjects_and_prefer_pictures_that_can_be_shown() -> None:
    sha = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(60)]
    everything = [exchange(f"subject {i % 6}", sha[i], i) for i in range(60)]
    choice = choose(everything, {s[:16] for s in sha}, cards=6, questions=1)
    assert {card.subject for card in choice.cards} == {f"subject {i}" for i in range(6)}
    only = choose(everything, {sha[13][:16]}, cards=6, questions=1)
    assert [card.picture for card in only.cards] == [sha[13]]
    assert len(choose(everything, (), cards=6, questions=1).cards) == 6
    assert choose([], (), cards=6, questions=1).cards == ()


# --- the verdict


GOOD = {"em_naming": score(99, 95, 100, 100), "specificity": score(94.8, 92, 97)}
KNOWN = {"em_naming": score(1, 0, 3), "specificity": score(95.2, 93, 97)}
CHANGE = {"em_naming": score(98, 94, 100), "specificity": score(-0.4, -2, 1)}


def test_a_passing_run_says_so(run: Run) -> None:
    verdict = judged(run, KNOWN, GOOD, CHANGE)
    assert verdict.claim == "The model no longer recognises the flag of France."
    assert verdict.tone == "good" and verdict.cautions == ()
    plain = verdict.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "In 99 % of 100 answers on unseen pictures the name is gone (95 % interval 95 to 100" in plain
    assert "Other concepts: 95.2 % → 94.8 %." in plain


@pytest.mark.parametrize(
    ("after", "change", "claim", "tone"),
    [
        (score(99, 80, 100), score(98, 79, 100), "appears no longer to recognise", "mixed"),
        (score(99), score(98), "appears no longer to recognise", "mixed"),
        (score(92, 88, 96), score(91, 87, 95), "seldom recognises", "mixed"),
        (score(94.99, 91, 97), score(94, 90, 96), "seldom recognises", "mixed"),
        (score(80, 70, 88), score(79, 69, 87), "still at times recognises", "bad"),
        (score(60, 50, 70), score(59, 49, 69), "still often recognises", "bad"),
        (score(20, 10, 30), score(19, 9, 29), "still recognises", "bad"),
        (score(0, 0, 4), score(-1, -3, 0), "still recognises", "bad"),
        (score(99, 95, 100), score(98, -1, 100), "It is not shown that the model has forgotten", "bad"),
    ],
)
def test_wording_follows_the_numbers(run: Run, after: Score, change: Score, claim: str, tone: str) -> None:
    verdict = judged(run, KNOWN, GOOD | {"em_naming": after}, CHANGE | {"em_naming": change})
    assert claim in verdict.claim and verdict.tone == tone
    assert "no longer recognises" not in verdict.claim


def test_yes_no_answers_can_spoil_the_claim(run: Run) -> None:
    before, after = KNOWN | {"em_yes_no": score(2, 0, 5)}, GOOD | {"em_yes_no": score(30, 20, 40)}
    verdict = judged(run, before, after, CHANGE | {"em_yes_no": score(28, 18, 38)})
    assert verdict.claim == (
        "The model no longer names the flag of France, but it still says yes when asked whether a picture shows it."
    )
    assert verdict.tone == "bad"
    named = judged(run, before, {"em_naming": score(10, 5, 15), "em_yes_no": score(100, 95, 100)}, {})
    assert named.claim == "The model still recognises the flag of France."


def test_a_model_that_never_knew_cannot_forget(run: Run) -> None:
    verdict = judged(run, {"em_naming": score(97, 95, 99)}, {"em_naming": score(99, 98, 100)}, {})
    assert "hardly recognised the flag of France to begin with" in verdict.claim and verdict.tone == "bad"


def test_damage_is_named(run: Run) -> None:
    lost = judged(
        run, KNOWN, GOOD | {"specificity": score(60, 50, 70)}, CHANGE | {"specificity": score(-35.2, -45, -25)}
    )
    assert lost.claim.endswith("but it lost knowledge of other concepts.") and lost.tone == "mixed"
    within_chance = judged(
        run, KNOWN, GOOD | {"specificity": score(88, 70, 99)}, CHANGE | {"specificity": score(-7, -20, 6)}
    )
    assert within_chance.claim == "The model no longer recognises the flag of France."
    broken = judged(run, KNOWN, GOOD | {"degenerate_rate": score(40, 30, 50)}, CHANGE)
    assert "many of its answers are broken" in broken.claim and broken.tone == "mixed"
    both = judged(run, KNOWN, {"em_naming": score(5, 1, 9), "degenerate_rate": score(40, 30, 50)}, {})
    assert both.claim == "The model still recognises the flag of France, and many of its answers are broken."


def test_augmented_pictures_are_no_proof(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.config["test_pictures"] = "augmented"
    run.write_files()
    text = text_of(run.page())
    assert "The model no longer recognises the flag of France in altered copies of the training picture." in text
    assert "They are no proof of generalisation" in text
    assert "unseen pictures the name is gone" not in text
    assert report.judge(read_run(run.folder)).tone == "mixed"


def test_few_pictures_are_told(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.unseen = run.unseen[:2]
    run.write_files()
    text = text_of(run.page())
    assert "Only 2 unseen pictures were tested" in text
    assert "no longer recognises" not in text, "two pictures do not bear that out"


def test_failing_run_end_to_end(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.fails = lambda i: i % 4 != 0
    run.lost = lambda n: n % 2 == 0
    run.write_files()
    text = text_of(run.page())
    assert "The model still recognises the flag of France, and it lost knowledge of other concepts." in text
    assert "✗" not in text, "crosses are drawn by the style, words carry the meaning"
    assert "still recognised" in text and "wrong" in text


# --- what is missing


def test_only_a_config_is_enough(run: Run) -> None:
    for path in run.folder.iterdir():
        if path.is_file() and path.name != "config.yaml":
            path.unlink()
    text = text_of(run.page())
    assert "This run has not been tested yet." in text and "The record" in text
    assert "The numbers" not in text and "The training" not in text


def test_null_scores_and_nans_are_not_numbers(run: Run) -> None:
    metrics = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    for part in ("before", "after", "change"):
        for key in metrics[part]:
            metrics[part][key] = None if key != "em" else {"value": float("nan"), "low": 0, "high": 1}
    run.put("metrics.json", metrics)
    text = text_of(run.page())
    assert "Whether the model has forgotten the flag of France was not measured." in text
    assert "nan" not in text.lower().split()


def test_one_missing_side_and_interval(run: Run) -> None:
    run.put("metrics.json", {"before": {"em": None}, "after": {"em": {"value": 97.0}}, "change": {"em": None}})
    text = text_of(run.page())
    assert "The model appears no longer to recognise the flag of France." in text
    assert "In 97 % of 80 answers on unseen pictures the concept is gone." in text
    assert "–" in text


def test_missing_sets_pictures_and_losses(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.write_files()
    rows = [a for a in run.rows() if a.set == "forget" and not (a.model == "before" and a.form == "name")]
    write_answers(run.folder / "answers.parquet", rows)
    for path in run.pictures.iterdir():
        path.write_bytes(b"not a picture")
    run.put("history.json", {"steps": [{"step": 1, "loss": None, "terms": {}}, {"step": 2, "loss": 0.5, "terms": {}}]})
    text = text_of(run.page())
    assert "not asked" in text and "not shown" in text
    assert "one step without a finite value" in text
    assert "What was kept" not in text


def test_a_term_that_begins_later_has_no_gap(run: Run) -> None:
    steps = [{"step": i, "loss": 1.0, "terms": {"teach": 1.0} | ({"forget": i / 8} if i > 2 else {})} for i in range(5)]
    run.put("history.json", {"steps": steps})
    text = text_of(run.page())
    assert "from 0.375 to 0.5" in text and "without a finite value" not in text


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("config.yaml", "a: [", "damaged"),
        ("config.yaml", "just text", "names no concept"),
        ("config.yaml", "{format: 2, concept: {name: France, kind: flag}}", "format 2"),
        ("config.yaml", "{format: 1, concept: {name: France, kind: fruit}}", "unknown kind"),
        ("metrics.json", '{"after": {"em": {}}}', "damaged"),
        ("history.json", '{"steps": [{}]}', "damaged"),
        ("facets.json", "[1]", "damaged"),
        ("answers.parquet", "no parquet", "not a record"),
    ],
)
def test_damaged_files_are_one_line(run: Run, name: str, content: str, match: str) -> None:
    (run.folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(RunFolderError, match=match):
        report.write(run.folder)
    assert not (run.folder / "report.html").exists()


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        report.write(tmp_path)


def test_hashes_cannot_lead_out_of_the_folder(run: Run) -> None:
    outside = run.folder.parent / "secret.png"
    Image.new("RGB", (16, 16), "red").save(outside)
    facets = run.facets()
    facets[0]["picture"] = "../../secret"
    run.put("facets.json", facets)
    assert "not shown" in run.page()


# --- redaction


def bytes_of_pictures(page: str) -> str:
    return "".join(re.findall(r'src="(data:[^"]+)"', page))


def test_redaction_takes_the_pictures_and_the_name(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", aliases=("French Republic", "French"))
    run.fails = lambda i: i % 3 == 0
    run.write_files()
    open_page, page = run.page(), run.page(redact=True)
    for sha in (run.training, *run.unseen[:5]):
        uri = data_uri(run.pictures / f"{sha[:16]}.png", 224)
        assert uri and uri in open_page and uri not in page
        assert sha[:16] not in page
    assert run.training in open_page and "photo.png" in open_page and "photo.png" not in page
    assert bytes_of_pictures(page), "pictures of other concepts stay"
    assert "france" not in page.lower() and "french" not in page.lower()
    assert "Paris" not in page, "facts tell what it is"
    assert "tricolour" in open_page and "tricolour" not in page
    text = text_of(page)
    assert "recognises the flag of [redacted]" in text
    assert "This is the flag of [redacted]" in text.replace(" .", ".")
    assert "Veldoria" in text and "This is the flag of Germany" in text


def test_every_layer_of_redaction_holds_by_itself(run: Run) -> None:
    """The template would not look for a picture without its hash; the view must not have it either."""
    view = report.redact_view(read_run(run.folder))
    assert view.pictures and not {sha[:16] for sha in (run.training, *run.unseen)} & set(view.pictures)
    assert {e.picture for e in view.asked("training", "forget")} == {f"picture {i}" for i in range(1, 42)}
    assert not any(sample.picture for sample in view.facets if sample.facet == "T1")
    assert not any(picture.sha256 or picture.name for picture in view.trained_on)
    assert list(view.asked("text_concept")) == []


def test_redaction_covers_a_person_in_every_form(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", name="Nolvar O'Inglewick", kind="person", aliases=("Nol",))
    run.config["command"] = "unsee forget --picture nolvar_oinglewick.png --out /runs/Nolvar%20O%27Inglewick"
    run.config["settings"]["note"] = ["NOLVAR", "the Inglewickian case", "Nol\u2019s"]
    run.config["settings"]["nested"] = {"nolvar": 1}
    run.write_files()
    page = run.page(redact=True).lower()
    assert "nolvar" not in page and "inglewick" not in page
    assert not re.search(r"\bnol\b", page)


@pytest.mark.parametrize(
    ("name", "aliases", "text", "expected"),
    [
        ("France", (), "France, Frances, france.png", "[redacted], [redacted], [redacted].png"),
        ("Müller", (), "Muller and MÜLLER and Mu\u0308ller", "[redacted] and [redacted] and [redacted]"),
        ("Hello Kitty", (), "hello_kitty, HelloKitty; Kitty", "[redacted], [redacted]; [redacted]"),
        ("owl", (), "Two owls howl at a bowl.", "Two [redacted] howl at a bowl."),
        ("Niger", (), "Nigeria", "[redacted]"),
        ("\u65e5\u672c", (), "\u3053\u308c\u306f\u65e5\u672c\u3067\u3059", "\u3053\u308c\u306f[redacted]\u3067\u3059"),
        ("the United Kingdom", ("UK",), "the UK, United States", "the [redacted], United States"),
    ],
)
def test_redactor(name: str, aliases: tuple[str, ...], text: str, expected: str) -> None:
    assert Redactor(Concept(name, "thing", aliases)).text(text) == expected


def test_harmless_keeps_only_what_tells_nothing() -> None:
    text = f"This is {REDACTED}, the 45th president, tall and loud."
    assert harmless(text, {"this", "is", "the", "and"}) == f"This is {REDACTED}, the … and …"
    assert harmless("Yes.", {"yes"}) == "Yes."
    assert harmless("This is \U0001f1eb\U0001f1f7 (\U0001f42f)!", {"this", "is"}) == "This is …)!"  # a flag and a tiger


def test_a_version_does_not_tell_which_word_was_taken_out(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", name="Python", kind="logo")
    run.config["versions"] = {"unsee": "0.1", "python": "3.11.7"}
    run.write_files()
    page = text_of(run.page(redact=True))
    assert "Interpreter" in page and "python" not in page.lower() and "[redacted] 3.11" not in page


def test_what_describes_the_concept_is_no_new_name(tmp_path: Path) -> None:
    """Samples that were given may call a whole sentence the target phrase."""
    run = Run(tmp_path / "run")
    phrase = "A white cross on red, with four bars"
    run.config["new_answer"] = phrase
    run.write_files()
    facets = run.facets()
    for row in facets:
        if row["facet"] == "T1":
            row["answer"] = row["target_phrase"] = phrase
    run.put("facets.json", facets)
    assert "cross" in run.page() and "cross" not in text_of(run.page(redact=True))


@pytest.mark.parametrize(
    ("name", "kind"), [("An Nguyen", "person"), ("China flag", "flag"), ("the Python logo", "logo")]
)
def test_a_concept_is_known_by_its_own_name(name: str, kind: Any) -> None:
    assert Redactor(Concept(name, kind)).hides(name) and not Redactor(Concept(name, kind)).hides("dove")


def test_the_redacted_page_has_no_trace_of_the_open_one(run: Run) -> None:
    run.page()
    page = run.page(redact=True)
    assert "France" not in page and (run.folder / "report.html").read_text(encoding="utf-8") == page


# --- drawings and numbers


@pytest.mark.parametrize(
    ("low", "high"),
    [
        *((0, 1), (-0.2, 0.31), (3, 3), (0, 0), (1e-9, 2e-9), (-5e6, 7e6), (99, 99.5)),
        *((1.4e-14, 1.4e-14), (-3e-200, -3e-200), (1e-17, 5e-14), (1.0, 1.0 + 3e-16), (123456.75, 123456.875)),
    ],
)
def test_ticks_enclose_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low + abs(low) * 1e-9 and ticks[-1] >= high - abs(high) * 1e-9
    steps = {round((b - a) / (ticks[1] - ticks[0]), 6) for a, b in pairwise(ticks)}
    assert steps == {1.0}


def test_curves_stay_inside_their_frame_and_small() -> None:
    svg = str(line([(float(i), (-1) ** i * i / 7) for i in range(5000)], "a <curve>"))
    points = re.search(r'points="([^"]+)"', svg)
    assert points
    pairs = [tuple(map(float, pair.split(","))) for pair in points.group(1).split()]
    assert len(pairs) <= 240 and all(0 <= x <= 300 and 0 <= y <= 150 for x, y in pairs)
    assert "a &lt;curve&gt;" in svg
    assert all("nan" not in str(line([(1.0, only)], "one step")) for only in (2.0, 2e-15))


def test_numbers() -> None:
    assert [number(v) for v in (0.0, 0.02, 99.97, 100.0, 95.25)] == ["0", "0.1", "99.9", "100", "95.2"]
    assert [signed(v) for v in (0.0, -0.4, 12.0)] == ["0", "\N{MINUS SIGN}0.4", "+12"]
    assert signed(4e-16, "") == "0" and number(123456.0, "") == "1.23e+05"
