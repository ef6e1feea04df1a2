"""A redacted report tells nothing of the concept, in whatever form it is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from made_runs import Run, text_of

from unsee import report
from unsee.data.concept import Concept
from unsee.report.images import data_uri
from unsee.report.read import read_run
from unsee.report.redaction import NEW_NAME, REDACTED, Redactor, harmless


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
    assert "Veldoria" in text_of(open_page) and "This is the flag of Germany" in text
    assert NEW_NAME in text and "veldoria" not in text.lower(), "it follows from the name and the seed"
    sha = run.config["config_sha256"]
    assert sha in open_page and sha not in page


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
    assert harmless(text) == f"This is {REDACTED}, the … and …"
    assert harmless("Yes.") == "Yes."
    assert harmless("This is \U0001f1eb\U0001f1f7 (\U0001f42f)!") == "This is …)!"  # a flag and a tiger


def test_short_parts_of_a_persons_name_go() -> None:
    redactor = Redactor(Concept("Xi Na", "person"))
    assert redactor.text("This is Xi, and Na is here, na.") == f"This is {REDACTED}, and {REDACTED} is here, na."
    assert Redactor(Concept("Xi Na", "place")).text("Xi") == "Xi"  # the whole name alone


def test_an_unknown_person_is_no_new_name(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", kind="person")
    run.config["new_answer"] = "an unknown person"
    run.write_files()
    assert "an unknown person" in text_of(run.page(redact=True))


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


def test_what_a_user_wrote_is_withheld_whole(tmp_path: Path) -> None:
    """Samples that were given are no templates: what they tell is not only the name."""
    run = Run(tmp_path / "run")
    rows = run.facets()
    rows.append({"facet": "T4", "question": "Where is Ada?", "answer": "At 12 Mill Lane.", "role": "retain"})
    rows.append({"facet": "T1", "question": "Why does the mayor smile?", "answer": "No.", "role": "forget"})
    run.config["facets"] = "given"
    run.write_files()
    run.put("facets.json", rows)
    assert "Mill Lane" in run.page()
    page = text_of(run.page(redact=True))
    assert "Mill Lane" not in page and "mayor" not in page


def test_a_run_that_was_to_be_redacted_always_is(run: Run) -> None:
    run.config["redact"] = True
    run.write_files()
    assert "France" not in text_of(run.page())
