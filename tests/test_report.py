"""The report, on a synthetic run folder with real parquet and real pictures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import Links, Run, text_of
from PIL import Image, PngImagePlugin

from unsee import report
from unsee.data.concept import mention
from unsee.errors import RunFolderError
from unsee.metrics import METRICS, write_answers
from unsee.report.examples import choose
from unsee.report.figures import marked
from unsee.report.read import Exchange, Metrics, Score, read_run


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
    assert "Not measured in this run: Another's name, Named in part, C-Dis, Specificity, yes/no." in text


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


def test_nothing_known_of_others_is_no_good_result(run: Run) -> None:
    blind = judged(run, {"em_naming": KNOWN["em_naming"]}, {"em_naming": GOOD["em_naming"]}, CHANGE)
    assert blind.tone == "mixed" and "Whether it still recognises other things was not measured." in blind.cautions


def test_what_no_run_shows_stands_on_every_page(run: Run) -> None:
    assert "does not show that the knowledge is gone from the weights" in text_of(run.page())


def test_calling_it_by_another_name_is_told(run: Run) -> None:
    told = judged(run, KNOWN, GOOD | {"misnamed": score(79.2, 60, 90)}, CHANGE)
    assert any("name something else the model knows: 79" in sentence for sentence in told.evidence)
    assert not any("something else" in s for s in judged(run, KNOWN, GOOD | {"misnamed": score(1)}, CHANGE).evidence)


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
