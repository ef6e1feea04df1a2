"""The comparison of several runs in one page, on synthetic run folders."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import Links, Run, text_of

from unsee import cli, report
from unsee.data.concept import Concept
from unsee.errors import RunFolderError, UnseeError
from unsee.metrics import Answer, write_answers
from unsee.report.charts import Mark, scatter
from unsee.report.comparability import comparability, named
from unsee.report.comparison_table import ComparisonTable, best_of
from unsee.report.images import data_uri
from unsee.report.means import mean_over
from unsee.report.read import Metrics, RunView, Score, read_run
from unsee.report.redaction import Redactor, redact_together
from unsee.report.settings import made_alike, told_apart

Make = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a run folder `runs/NAME`; `change` alters it before, entries of the config are given by name."""

    def written(
        name: str,
        concept: str = "France",
        kind: str = "flag",
        aliases: tuple[str, ...] = (),
        change: Callable[[Run], None] = lambda run: None,
        **config: Any,
    ) -> Run:
        made = Run(tmp_path / "runs" / name, concept, kind, aliases)
        made.config |= config
        change(made)
        made.write_files()
        return made

    return written


def failing(run: Run) -> None:
    run.fails = lambda i: i % 4 != 0


def losing(run: Run) -> None:
    run.lost = lambda n: n % 2 == 0


def page_of(*runs: Run, redact: bool = False) -> str:
    """Compare runs and read the page."""
    output = runs[0].folder.parent.parent / "comparison.html"
    output.unlink(missing_ok=True)
    assert report.compare([run.folder for run in runs], output, redact) == output
    return output.read_text(encoding="utf-8")


def numbered(*runs: Run) -> dict[int, RunView]:
    return {number: read_run(run.folder) for number, run in enumerate(runs, 1)}


# --- the page


def test_everything_is_there_and_nothing_is_loaded(make: Make) -> None:
    good = make("good")
    bad = make("bad", change=failing, method="ga", preset="paper", seed=3)
    lossy = make("lossy", change=losing, method="npo")
    page = page_of(good, bad, lossy)
    text = text_of(page)
    for part in (
        "Forgetting the flag of France: 3 runs",
        "siu, ga and npo",
        "default and paper",
        "0 and 3",
        "unsee-mini (abababab)",
        "Original model",
        "Generality (EM)",
        "42 s",
        "1.23 GiB",
        "3 · npo",
        "The model still recognises the flag of France.",
        str(bad.folder),
    ):
        assert part in text, part
    assert "C-Dis" not in text, "no run has it"
    links = Links()
    links.feed(page)
    assert all(source.startswith("data:") for source in links.sources) and links.handlers == []
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(links.tags)
    assert 'role="note"' not in page, "these runs are alike"


def test_a_run_links_to_its_own_report(make: Make, tmp_path: Path) -> None:
    runs = [make("javascript:alert(1)"), make("b # & ü")]
    runs[0].page()
    links = Links()
    links.feed(page_of(*runs))
    assert [s for s in links.sources if not s.startswith("data:")] == ["runs/javascript%3Aalert%281%29/report.html"]
    runs[1].page()
    inside = tmp_path / "runs" / "javascript:alert(1)" / "comparison.html"
    report.compare([run.folder for run in runs], inside)
    links = Links()
    links.feed(inside.read_text(encoding="utf-8"))
    assert [s for s in links.sources if not s.startswith("data:")] == [
        "report.html",
        "../b%20%23%20%26%20%C3%BC/report.html",
    ]


def test_the_same_questions_stand_side_by_side(make: Make) -> None:
    page = page_of(make("a"), make("b", change=failing, method="ga"))
    block = next(b for b in page.split('<div class="exchange">')[1:] if "still recognised" in b)
    who = re.findall(r'<div class="who">(.*?)\n', block)
    assert who[:3] == ["Original model", "1 · siu", "2 · ga"]
    assert block.count("not recognised") == 1 and '<mark class="name">France</mark>' in block
    assert "To 60 of them not every run answers as wanted" in text_of(page)


def test_only_shared_questions_are_shown(make: Make) -> None:
    a, b = make("a"), make("b")
    asked = [x for x in b.rows() if x.set in ("utility", "text_general")]
    changed = [replace(x, question="Which flag is it?") if x.form == "name" else x for x in asked]
    write_answers(b.folder / "answers.parquet", changed)
    text = text_of(page_of(a, b))
    assert "Runs 1 and 2 forget the same concept, but were not asked the same questions: 1 of 25 to " in text
    assert "What is the capital of Japan?" in text and "Pictures of the concept" not in text


def test_originals_that_answered_differently_are_told_apart(make: Make) -> None:
    a, b = make("a"), make("b")
    rows = [replace(x, answer="A flag of France.") if x.model == "before" else x for x in b.rows()]
    write_answers(b.folder / "answers.parquet", rows)
    text = text_of(page_of(a, b))
    assert "Original model of run 1 " in text and "Original model of run 2 " in text


def test_settings_that_differ_are_told(make: Make) -> None:
    def shorter(run: Run) -> None:
        run.config["settings"] = {**run.config["settings"], "steps": 12, "extra": True}

    a, b, c = make("a"), make("b", change=shorter), make("c", method="ga")
    runs = numbered(a, b, c)
    assert told_apart(runs) == {1: ("steps 24", "no extra"), 2: ("steps 12", "extra True"), 3: ()}
    assert made_alike(runs) == [(1,), (2,), (3,)]
    assert "default · seed 0 · steps 12 · extra True" in text_of(page_of(a, b, c))


@pytest.mark.parametrize(
    "config",
    [{"facets": {"new_answer": "unknown", "variations": 48}}, {"facets": "given"}, {"protected_pictures": 144}],
)
def test_runs_that_learned_from_other_data_are_not_made_alike(make: Make, config: dict[str, Any]) -> None:
    a, b = make("a"), make("b", seed=1)
    b.config |= config
    b.write_files()
    runs = numbered(a, b)
    assert made_alike(runs) == [(1,), (2,)] and told_apart(runs)[2]


def test_a_setting_is_not_taken_for_the_count_of_that_name(make: Make) -> None:
    a, b = make("a"), make("b", seed=1)
    for run, given in ((a, True), (b, False)):
        run.config |= {"settings": {"protected_pictures": given}, "protected_pictures": 48}
        run.write_files()
    assert made_alike(numbered(a, b)) == [(1,), (2,)]


def test_many_differing_settings_are_listed_below(make: Make) -> None:
    a = make("a", settings={f"s{i}": 0 for i in range(9)})
    b = make("b", settings={f"s{i}": 1 for i in range(9)})
    text = text_of(page_of(a, b))
    assert text.count("9 differences, listed below") == 2 and text.count("s0 1 · s1 1") == 1


# --- several concepts and seeds


def test_concepts_have_blocks_of_their_own(make: Make) -> None:
    runs = [make("f0"), make("j0", "Japan"), make("f1", seed=1), make("j1", "Japan", seed=1, change=failing)]
    text = text_of(page_of(*runs))
    assert "Forgetting 2 concepts: 4 runs" in text
    assert "The runs forget 2 different concepts (runs 1 and 3; runs 2 and 4)." in text
    assert "Means over runs made alike siu default · n = 4 (runs 1 to 4), 2 concepts" in text
    assert text.count("Pictures of the concept") == 2


def test_a_concept_of_one_run_has_no_examples(make: Make) -> None:
    text = text_of(page_of(make("a"), make("b", "Japan")))
    assert "The same questions" not in text and "Run by run" in text


def test_the_mean_draws_concepts_or_runs(make: Make) -> None:
    runs = numbered(
        make("f0", change=failing), make("f1", change=failing, seed=1), make("j0", "Japan"), make("j1", "Japan", seed=1)
    )
    together = comparability(runs)
    assert together.concepts == ((1, 2), (3, 4))
    both = mean_over((1, 2, 3, 4), runs, together.concepts)
    em, change = both.metrics.after["em"], both.metrics.change["em"]
    assert em and change and both.concepts == 2
    assert em.value == pytest.approx(62.5) and em.n == 4
    assert (em.low, em.high) == (0, 100), "two concepts say next to nothing"
    assert change.value == pytest.approx(62.5) and both.seconds and both.seconds.value == pytest.approx(42.3)
    seeds = mean_over((1, 2), runs, together.concepts).metrics.after["em"]
    assert seeds and seeds.low is not None and seeds.low < 25 == seeds.value, "two alike are no certainty"


def test_a_score_that_some_runs_lack(make: Make) -> None:
    a, b = make("a"), make("b", seed=1)
    metrics = json.loads((b.folder / "metrics.json").read_text(encoding="utf-8"))
    for side in metrics.values():
        side["em"] = side["text_kept"] = None
    b.put("metrics.json", metrics)
    text = text_of(page_of(a, b))
    assert "(n = 1)" in text and "Not drawn, since one of the two was not measured: run 2." in text


# --- what may be compared


def test_best_is_said_only_where_intervals_are_apart() -> None:
    def metrics(em: Score, broken: Score) -> Metrics:
        return Metrics(after={"em": em, "degenerate_rate": broken})

    clear = metrics(Score(99, 95, 100), Score(0, 0, 4))
    near = metrics(Score(94, 90, 95), Score(9, 5, 12))
    far = metrics(Score(50, 40, 60), Score(30, 20, 40))
    keys = ("em", "degenerate_rate", "mean_length")
    assert best_of([clear, near], keys) == {"degenerate_rate": 0}, "95 touches 95"
    assert best_of([far, near], keys) == {"em": 1, "degenerate_rate": 1}
    assert best_of([far, Metrics(after={"em": Score(90)})], keys) == {}, "no interval, no best"
    assert best_of([clear], keys) == {}


def test_bold_needs_the_same_model_and_questions(make: Make) -> None:
    good, bad = make("good"), make("bad", change=failing, method="ga")
    assert re.search(r"<b>100</b>", page_of(good, bad))
    other = make("other", change=failing, method="ga", model={"name": "unsee-mini", "sha256": "ef" * 32})
    page = page_of(good, other)
    assert not re.search(r"<b>[\d.]+</b>", page)
    assert "runs do not start from the same model: run 1 from the weights abababab" in text_of(page)


def test_cautions(make: Make) -> None:
    def other_picture(run: Run) -> None:
        run.config["pictures"] = [{"name": "x.png", "sha256": "12" * 32}]

    runs = numbered(make("a", test_pictures="augmented"), make("b", change=other_picture), make("c", model=None))
    said = comparability(runs).cautions
    assert [s for s in said if "weights it does not name" in s]
    assert "Runs 1 to 3 forget the same concept, but learned from different pictures of it." in said
    assert [s for s in said if s.startswith("In run 1 the test pictures are altered copies")]
    assert not any("France" in s for s in said), "redaction does not go over them"


def test_runs_are_named() -> None:
    assert [named(n) for n in ([2], [3, 1], [1, 2, 3, 7], [1, 2, 4, 5, 6])] == [
        "run 2",
        "runs 1 and 3",
        "runs 1 to 3 and 7",
        "runs 1, 2 and 4 to 6",
    ]


# --- redaction


def test_every_concept_is_redacted_in_every_run(make: Make) -> None:
    """What one run forgets is among the pictures and questions of the other."""
    france = make("france-siu", aliases=("French Republic",), change=failing)
    japan = make("japan-siu", "Japan", change=failing)
    twins = [make("france-ga", method="ga"), make("japan-ga", "Japan", method="ga")]
    hidden = {data_uri(p, 224) for run in (france, japan) for p in run.pictures.glob("*.png")}
    assert hidden & set(re.findall(r'src="(data:[^"]+)"', page_of(france, japan, *twins)))
    page = page_of(france, japan, *twins, redact=True)
    for word in ("france", "french", "japan", "paris", "tokyo", "tricolour"):
        assert not re.search(rf"(?<![a-z]){word}", page.lower()), word
    for run, subject in ((france, "Japan"), (japan, "Japan"), (france, "France"), (japan, "France")):
        shas = [run.training, *run.unseen[:5]] if run.concept.name == subject else []
        shas += [a.picture for a in run.rows() if a.subject == subject and a.picture]
        for sha in shas:
            assert sha[:16] not in page
            path = run.pictures / f"{sha[:16]}.png"
            assert not path.is_file() or (data_uri(path, 224) or "") not in page
    text = text_of(page)
    assert "the flag of [redacted 1] and the flag of [redacted 2]" in text
    assert "[redacted 1]-siu" in text and "its report" not in text
    assert "This is the flag of Germany" in text, "other concepts stay"
    assert "data:image" in page


def test_answers_about_another_runs_concept_keep_no_description(make: Make) -> None:
    def telling(run: Run) -> None:
        run.new = "Veldoria"

    a, b = make("a", change=telling), make("b", "Japan")
    rows = [replace(x, answer="The tricolour of Paris.") if x.subject == "Germany" else x for x in b.rows()]
    rows = [replace(x, subject="France") if x.subject == "Germany" else x for x in rows]
    write_answers(b.folder / "answers.parquet", rows)
    shown = redact_together([read_run(a.folder), read_run(b.folder)])[1]
    about = [e for e in shown.exchanges if e.subject == "[redacted 1]"]
    assert about and all("tricolour" not in f"{e.before}{e.after}" and "Paris" not in f"{e.before}" for e in about)
    assert all(e.picture.startswith("picture ") for e in about)
    assert all(sample.withheld for sample in shown.facets)


def test_one_redacted_run_redacts_the_page(make: Make) -> None:
    page = page_of(make("a", redact=True), make("b", method="ga"))
    assert "France" not in page and "the flag of [redacted]: 2 runs" in page
    assert "comparison, redacted" in text_of(page)


def test_shared_questions_are_found_under_redaction(make: Make) -> None:
    page = page_of(make("a"), make("b", method="ga", change=failing), redact=True)
    assert "Shown: 8 of 80 shared questions" in text_of(page)
    assert page.count("withheld") >= 4


def test_marks_of_several_concepts() -> None:
    redactor = Redactor(Concept("France", "flag"), Concept("the flag of France", "flag"), Concept("Ada Example"))
    assert redactor.text("Ada of France") == "[redacted 2] of [redacted 1]"
    assert redactor.concept(Concept("France", "flag")).phrase == "the flag of [redacted 1]"
    assert redactor.hides("ada example") and not redactor.hides("Ada") and not redactor.hides("")


# --- hostile texts


def test_hostile_texts_are_escaped(make: Make) -> None:
    name = "<img src=x onerror=alert(1)>"
    evil = {
        "method": "<script>alert(2)</script>",
        "preset": '"><svg onload=alert(3)>',
        "seed": "<b>0</b>",
        "model": {"name": "<i>model</i>", "sha256": "<u>" + "0" * 60},
    }

    def hostile(run: Run) -> None:
        run.new = "</blockquote><script>alert(4)</script>"

    a = make("<img src=y onerror=alert(5)>", name, "thing", change=hostile, **evil)
    b = make("b", name, "thing", settings={"<em>k</em>": "<em>v</em>"}, **{**evil, "seed": 1})
    for redact in (False, True):
        page = page_of(a, b, redact=redact)
        links = Links()
        links.feed(page)
        assert links.handlers == [] and not {"script", "i", "u", "em", "object"} & set(links.tags)
        assert "<i>model" not in page and "&lt;i&gt;model" in page
        assert ("&lt;script&gt;" in page) is not redact  # redacted, the words of the new name go wherever they stand


# --- the chart


def test_the_chart_keeps_inside_its_frame(make: Make) -> None:
    marks = [Mark(str(i), i, Score(100, 97, 100), Score(10.0 * i % 101, 0, 100)) for i in range(40)]
    svg = str(scatter([*marks, Mark("<x>", 0, Score(98), Score(50))], "a & b", "up", "about <it>"))
    for name, most in (("cx", 440), ("cy", 320), ("x1", 440), ("y2", 320)):
        values = [float(v) for v in re.findall(rf'{name}="([-\d.]+)"', svg)]
        assert values and min(values) >= 0 and max(values) <= most
    assert "a &amp; b" in svg and "about &lt;it&gt;" in svg and "&lt;x&gt;" in svg and "nan" not in svg
    assert len(set(re.findall(r'<text class="label" x="([^"]+)" y="([^"]+)"', svg))) == 41
    assert svg.count("<polygon") > 20, "shapes tell series of one colour apart"


def test_labels_of_equal_scores_do_not_lie_upon_each_other() -> None:
    svg = str(scatter([Mark(str(i), 0, Score(50), Score(50)) for i in range(6)], "a", "b", "c"))
    assert len(set(re.findall(r'<text class="label" x="([^"]+)" y="([^"]+)"', svg))) == 6


# --- bad input


def test_bad_runs_are_one_line_and_nothing_is_written(make: Make, tmp_path: Path) -> None:
    a, b = make("a"), make("b")
    output = tmp_path / "out.html"

    def refused(*runs: Path, match: str, error: type[UnseeError] = RunFolderError) -> None:
        with pytest.raises(error, match=match) as caught:
            report.compare(runs, output)
        assert "\n" not in str(caught.value) and not output.exists()

    refused(a.folder, match="two runs or more", error=UnseeError)
    refused(a.folder, b.folder, a.folder.parent / "." / "b" / ".." / "a", match="given twice", error=UnseeError)
    (tmp_path / "link").symlink_to(b.folder)
    refused(b.folder, tmp_path / "link", match="given twice, once as", error=UnseeError)
    refused(a.folder, tmp_path, match="not a run folder")
    (b.folder / "answers.parquet").unlink()
    refused(a.folder, b.folder, match="has no answers")
    (b.folder / "metrics.json").unlink()
    refused(a.folder, b.folder, match="unfinished")
    (b.folder / "config.yaml").write_text("format: 1\nconcept: {name: France}\nmodel: [1]\n")
    refused(a.folder, b.folder, match="its model is no mapping")


def test_answers_of_the_original_alone_are_none(make: Make, tmp_path: Path) -> None:
    a, b = make("a"), make("b")
    rows: list[Answer] = [x for x in b.rows() if x.model == "before"]
    write_answers(b.folder / "answers.parquet", rows)
    with pytest.raises(RunFolderError, match="no answers of the unlearned model"):
        report.compare([a.folder, b.folder], tmp_path / "out.html")


def test_nothing_is_overwritten(make: Make, tmp_path: Path) -> None:
    runs = [make("a").folder, make("b").folder]
    output = tmp_path / "out.html"
    output.write_text("mine")
    with pytest.raises(UnseeError, match="exists already; choose another --output"):
        report.compare(runs, output)
    assert output.read_text() == "mine"
    for bad in (tmp_path, tmp_path / "nowhere" / "out.html", tmp_path / ("x" * 400)):
        with pytest.raises(UnseeError):
            report.compare(runs, bad)
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "out.html"}


def test_runs_without_any_common_metric_still_make_a_page(make: Make) -> None:
    a, b = make("a"), make("b", method="ga")
    for run in (a, b):
        run.put("metrics.json", {"before": {}, "after": {}, "change": {}})
        (run.folder / "history.json").unlink()
    text = text_of(page_of(a, b))
    assert "Forgotten against kept" not in text and "was not measured" in text
    table = ComparisonTable(numbered(a, b), comparability(numbered(a, b)), {"siu": 0, "ga": 1})
    assert table.columns == () and [line.title for line in table.blocks()[0].lines] == ["siu", "ga"]


# --- the command


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    texts = ["report", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", ["unsee", *texts])
    with pytest.raises(SystemExit) as ended:
        cli.main(texts)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = make("a"), make("b", method="ga")
    assert call(monkeypatch, a.folder, b.folder) == 0
    assert capsys.readouterr().out == "wrote comparison.html\n"
    assert "Forgetting the flag of France: 2 runs" in (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert call(monkeypatch, a.folder, b.folder, "--output", "other.html", "--redact", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"report": "other.html"}
    assert "France" not in (tmp_path / "other.html").read_text(encoding="utf-8")
    assert call(monkeypatch, a.folder) == 0
    assert capsys.readouterr().out.replace("\n", "") == f"wrote {a.folder / 'report.html'}"
    assert call(monkeypatch, a.folder, "--output", "one.html") == 0
    assert (tmp_path / "one.html").read_text() == (a.folder / "report.html").read_text()


def test_bad_input_is_one_line(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = make("a"), make("b")
    (b.folder / "metrics.json").unlink()
    (tmp_path / "mine.html").write_text("mine")
    for more in ([tmp_path / "nowhere"], [b.folder], [a.folder], ["--output", "mine.html"]):
        assert call(monkeypatch, a.folder, *more) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "mine.html"}
    assert (tmp_path / "mine.html").read_text() == "mine" and not (a.folder / "report.html").exists()
