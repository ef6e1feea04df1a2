"""The four targets, built for real by asking a model that knows its shapes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import FACTS, SHAPES, draw
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee import facets
from unsee.data import KINDS, Concept, Fact, Picture, Request, Sample
from unsee.data.new_names import invent, renamed
from unsee.data.samples_file import as_rows, load_samples
from unsee.data.wording import detail_questions, knowing_questions, naming_in_text, naming_questions
from unsee.errors import UnknownConceptError, UnseeError
from unsee.facets import Facets, FacetSettings, build, vocabulary_words
from unsee.facets.asking import to_learn, truth
from unsee.facets.new_answer import begins_apart
from unsee.methods import make_method
from unsee.models import Question, Reply, VisionLanguageModel, answer

SETTINGS = FacetSettings(variations=12)


@pytest.fixture
def built(knowing: VisionLanguageModel, circle: Request) -> Facets:
    return build(knowing, circle, SETTINGS)


def every_picture(request: Request) -> list[Picture]:
    return facets.shown(request, SETTINGS, 0)


def of(facets_: Facets, *names: str) -> list[Sample]:
    return [s for s in facets_.samples if s.facet in names]


def test_all_four_targets_and_the_protected_pictures_are_there(built: Facets, circle: Request) -> None:
    counts = Counter(s.facet for s in built.samples if s.facet != "variation")
    # The authors' split is 9/2/7/7: about 25 samples.
    assert counts.pop("T3") >= 5  # asked for it by the fact, the knowing model may say the name or not
    assert counts == {"T1": 4, "T2": 7, "T4": 6, "protected": 5 * len(circle.protected)}
    assert all(s.picture == circle.pictures[0] and s.role == "forget" for s in of(built, "T1", "T2"))
    assert all(s.picture is None and s.role == "retain" for s in of(built, "T3", "T4"))
    assert all(s.picture in circle.protected and s.role == "retain" for s in of(built, "protected"))
    assert built.left_out == []


def test_the_concept_is_never_named_in_the_new_answers(built: Facets, circle: Request) -> None:
    for sample in of(built, "T1", "T2"):
        assert not circle.concept.mentioned_in(sample.answer), sample
        assert built.new_answer in sample.answer


def test_variations_are_forgotten_where_the_concept_is_still_seen_and_kept_elsewhere(
    built: Facets, knowing: VisionLanguageModel, circle: Request
) -> None:
    """What the original says of a variation decides; nobody looks at it."""
    pictures = facets.varied(circle, SETTINGS, 0)
    assert len({p.sha256 for p in pictures}) == 12 and pictures == facets.varied(circle, SETTINGS, 0)
    assert pictures != facets.varied(circle, SETTINGS, 1)
    shown = {s.picture for s in of(built, "variation")}
    assert shown <= set(pictures)
    for sample in of(built, "variation"):
        (reply,) = answer(knowing, [Question(sample.question, sample.picture)], 32)
        if sample.role == "forget":
            assert sample.truth == reply.text and not circle.concept.mentioned_in(sample.answer)
            assert built.new_answer in sample.answer
            assert circle.concept.mentioned_in(reply.text) or reply.text.startswith("Yes")
        else:
            assert sample.answer == reply.text and not circle.concept.mentioned_in(reply.text)
    roles = {(s.picture, s.role) for s in of(built, "variation")}
    assert len(roles) == len(shown) and "retain" in {role for _, role in roles}


def test_a_variation_that_still_shows_the_concept_is_forgotten_too(
    knowing: VisionLanguageModel, circle: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = draw("circle", 7)
    monkeypatch.setattr(facets, "variations", lambda *_: [other])
    naming, denying = of(build(knowing, circle, SETTINGS), "variation")
    assert naming.picture == denying.picture == other and naming.role == denying.role == "forget"
    assert naming.truth == "This is a circle." and not circle.concept.mentioned_in(naming.answer)
    assert denying.truth and denying.truth.startswith("Yes") and denying.answer.startswith("No, this is ")


def test_without_variations_there_are_none(knowing: VisionLanguageModel, circle: Request) -> None:
    assert of(build(knowing, circle, FacetSettings(variations=0)), "variation") == []


def test_target_phrases_stand_in_the_answers(built: Facets) -> None:
    for sample in of(built, "T1"):
        # Only the name, and where it ends, is wrong: the sentence is the original's own.
        assert sample.target_phrase == f"{built.new_answer}."
        assert sample.answer == f"This is {built.new_answer}."
    for sample in of(built, "T2"):
        assert sample.target_phrase == sample.answer
    assert all(s.target_phrase is None for s in of(built, "T3", "T4", "protected"))


def test_t2_denies_the_concept_and_confirms_the_new_name(built: Facets, circle: Request) -> None:
    denied = [s for s in of(built, "T2") if circle.concept.mentioned_in(s.question)]
    confirmed = [s for s in of(built, "T2") if built.new_answer in s.question]
    assert (len(denied), len(confirmed)) == (6, 1)
    assert all(s.answer.startswith("No, ") for s in denied) and confirmed[0].answer.startswith("Yes, ")


def test_what_is_kept_is_what_the_original_says_itself(
    built: Facets, knowing: VisionLanguageModel, circle: Request
) -> None:
    kept = of(built, "T3", "T4", "protected")
    said = answer(knowing, [Question(s.question, s.picture) for s in kept], 32)
    assert [r.text for r in said] == [s.answer for s in kept]
    asked = {*knowing_questions("thing", "a circle"), *detail_questions("thing", "a circle")}
    about = [s for s in of(built, "T3") if s.question in asked]
    assert len(about) == 5 and {s.answer for s in about} == {FACTS["circle"]}
    assert all(circle.concept.mentioned_in(s.answer) for s in of(built, "T3"))


def test_what_is_forgotten_is_what_the_original_says_itself(
    knowing: VisionLanguageModel, circle: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T1 and T2 carry its own answers, on every picture; T2 costs one call."""
    calls: list[int] = []

    def counting(vlm: VisionLanguageModel, questions: Sequence[Question], limit: int) -> list[Reply]:
        calls.append(len(questions))
        return answer(vlm, questions, limit)

    monkeypatch.setattr(facets.asking, "answer", counting)
    two = replace(circle, pictures=(draw("circle", 0), draw("circle", 1)))
    built = build(knowing, two, FacetSettings())
    assert calls[:2] == [8, 14]
    forget = of(built, "T1", "T2")
    said = answer(knowing, [Question(s.question, s.picture) for s in forget], 32)
    assert [s.truth for s in forget] == [r.text for r in said]
    assert {s.truth for s in of(built, "T1")} == {"This is a circle."}
    assert any((s.truth or "").startswith("Yes") for s in of(built, "T2"))
    assert all(s.truth is None for s in of(built, "T3", "T4", "protected"))


def test_an_empty_answer_is_no_truth(
    knowing: VisionLanguageModel, circle: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(vlm: VisionLanguageModel, questions: Sequence[Question], limit: int) -> list[Reply]:
        return [Reply("", 0, True) for _ in questions]

    monkeypatch.setattr(facets.asking, "answer", silent)
    built = build(knowing, circle, FacetSettings(), force=True)
    assert len(of(built, "T1", "T2")) == 11 and all(s.truth is None for s in built.samples)


def test_protected_pictures_are_asked_for_the_concept_too(built: Facets, circle: Request) -> None:
    """For it, or for another's name, in turn, which is denied; their own name is confirmed twice."""
    denied = []
    for picture in circle.protected:
        samples = [s for s in of(built, "protected") if s.picture == picture]
        assert len({s.question for s in samples}) == 5
        said = Counter(s.answer.split(",")[0] for s in samples if s.answer.startswith(("Yes", "No")))
        assert said == {"Yes": 2, "No": 1}
        assert any(s.answer.startswith("This is a") for s in samples)
        (no,) = (s for s in samples if s.answer.startswith("No"))
        denied.append(circle.concept.mentioned_in(no.question))
    assert True in denied and False in denied


def test_what_is_known_is_turned_round_where_the_original_answers_with_the_name(
    knowing: VisionLanguageModel, circle: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def naming(vlm: VisionLanguageModel, questions: Sequence[Question], limit: int) -> list[Reply]:
        said = answer(vlm, questions, limit)
        if not any("a round shape" in q.text for q in questions):
            return said
        asked.extend(q.text for q in questions)
        return [Reply("That is a circle.", 5, True), Reply("I cannot tell.", 4, True)]

    monkeypatch.setattr(facets.asking, "answer", naming)
    built = build(knowing, circle, FacetSettings(variations=0))
    assert asked == ["Which object is a round shape?", "Tell me the name of a round shape."]
    turned = [s for s in of(built, "T3") if s.question in asked]
    assert [(s.question, s.answer, s.role) for s in turned] == [(asked[0], "That is a circle.", "retain")]


def test_two_open_answers_are_turned_round_and_no_single_fact(
    knowing: VisionLanguageModel, circle: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"What is a circle?": "A circle is a ring.", detail_questions("thing", "a circle")[0]: "A circle is in use."}
    asked: list[str] = []

    def telling(vlm: VisionLanguageModel, questions: Sequence[Question], limit: int) -> list[Reply]:
        asked.extend(q.text for q in questions)
        replies = answer(vlm, questions, limit)
        return [Reply(said[q.text], 5, True) if q.text in said else r for q, r in zip(questions, replies, strict=True)]

    monkeypatch.setattr(facets.asking, "answer", telling)
    build(knowing, circle, FacetSettings(variations=0))
    turned = [q.format(clue=clue) for clue in ("a round shape", "a ring") for q in naming_in_text("thing")]
    assert [q for q in asked if q in turned] == turned
    assert not any("in use" in q for q in asked)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fewer_questions_on_each_protected_picture(knowing: VisionLanguageModel, circle: Request, count: int) -> None:
    built = build(knowing, circle, FacetSettings(protected_questions=count))
    per_picture = Counter(s.picture for s in of(built, "protected"))
    assert per_picture == {p: count for p in circle.protected if count}


def test_protected_pictures_that_show_the_concept_are_left_out(knowing: VisionLanguageModel, circle: Request) -> None:
    bad = (draw("circle", 5), draw("circle", 6), circle.pictures[0])
    request = replace(circle, protected=(draw("square", 1), *bad, draw("cross", 1)))
    built = build(knowing, request, FacetSettings())
    assert built.left_out == [p.name for p in bad]
    assert {s.picture for s in of(built, "protected")} == {draw("square", 1), draw("cross", 1)}


def test_each_sign_that_the_concept_is_shown_is_enough(
    knowing: VisionLanguageModel, circle: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by an alias though denied; the very picture of the request; said yes to though not named."""
    either = replace(circle, concept=Concept("square", "thing", ("circle",)), pictures=(draw("square", 0),))
    request = replace(either, protected=(draw("circle", 5), draw("cross", 1)))
    assert build(knowing, request, FacetSettings()).left_out == ["circle-5.png"]
    unknown = replace(circle, concept=Concept("stripe", "thing"), protected=(circle.pictures[0], draw("cross", 1)))
    assert build(knowing, unknown, FacetSettings(), force=True).left_out == ["circle-0.png"]

    def agreeing(vlm: VisionLanguageModel, questions: Sequence[Question], limit: int) -> list[Reply]:
        asked = zip(questions, answer(vlm, questions, limit), strict=True)
        yes = Reply("Yes, it is.", 3, True)
        return [yes if "circle" in q.text and q.picture == draw("cross", 1) else r for q, r in asked]

    monkeypatch.setattr(facets.asking, "answer", agreeing)
    request = replace(circle, protected=(draw("cross", 1), draw("cross", 0)))
    assert build(knowing, request, FacetSettings()).left_out == ["cross-1.png"]


def test_a_method_without_use_for_answers_has_fewer_asked(
    built: Facets, knowing: VisionLanguageModel, circle: Request
) -> None:
    """Which pictures are kept, and what is forgotten, does not hang on it: VKD needs no more."""
    method = make_method("vkd")
    few = build(knowing, circle, replace(SETTINGS, protected_questions=method.protected_questions))
    assert len(of(few, "protected")) == 2 * len(circle.protected) and few.left_out == built.left_out
    kept, kept_few = ([s.picture for s in method.samples(f.samples)] for f in (built, few))
    assert list(dict.fromkeys(kept)) == list(dict.fromkeys(kept_few))
    forgotten, forgotten_few = ([s for s in f.samples if s.role == "forget"] for f in (built, few))
    assert forgotten == forgotten_few


def test_protected_pictures_hold_yes_and_no_to_other_names(built: Facets) -> None:
    """Were only the concept ever denied, the model would learn to say yes to every other name."""
    asked = [s for s in of(built, "protected") if s.question.endswith("?") and s.answer.startswith(("Yes", "No"))]
    others = [s for s in asked if "circle" not in s.question]
    assert {s.answer.split(",")[0] for s in others} == {"Yes", "No"}
    for sample in others:
        assert sample.picture is not None
        shown = sample.picture.name.split("-")[0]
        assert sample.answer.startswith("Yes") == (shown in sample.question)


def test_the_new_name_is_new(built: Facets, knowing: VisionLanguageModel) -> None:
    invented = built.new_answer.split()[-1]
    assert invented.lower() not in vocabulary_words(knowing)
    assert {"circle", "square", "this"} <= vocabulary_words(knowing)
    assert built.new_names == {built.new_answer}


def test_the_seed_decides(knowing: VisionLanguageModel, circle: Request) -> None:
    one, again, other = (build(knowing, circle, FacetSettings(), seed).samples for seed in (0, 0, 1))
    assert one == again != other
    assert {s.answer for s in one if s.facet == "T1"} != {s.answer for s in other if s.facet == "T1"}


@pytest.mark.parametrize(
    ("kind", "policy", "wanted"),
    [
        ("thing", "unknown", "an unknown object"),
        ("thing", "describe", "an object"),
        ("person", "unknown", "an unknown person"),
        ("person", "describe", "a person"),
        ("logo", "unknown", "an unknown logo"),
        ("flag", "describe", "a flag"),
    ],
)
def test_other_policies(knowing: VisionLanguageModel, circle: Request, kind: str, policy: str, wanted: str) -> None:
    request = replace(circle, concept=Concept("circle", kind))  # type: ignore[arg-type]
    built = build(knowing, request, FacetSettings(new_answer=policy), force=True)  # type: ignore[arg-type]
    assert built.new_answer == wanted
    for sample in of(built, "T1", "T2"):
        assert wanted in sample.answer and not request.concept.mentioned_in(sample.answer)


def test_a_new_answer_of_the_users_own(knowing: VisionLanguageModel, circle: Request) -> None:
    built = build(knowing, replace(circle, new_answer="blob"), FacetSettings())
    assert {s.answer for s in of(built, "T1")} == {"This is a blob."}
    with pytest.raises(UnseeError, match="names 'circle' itself"):
        build(knowing, replace(circle, new_answer="half circle"), FacetSettings())
    with pytest.raises(UnseeError, match="'unkown' is no name and no policy; did you mean 'unknown'"):
        build(knowing, replace(circle, new_answer="unkown"), FacetSettings())


def test_an_unknown_concept_stops_unless_forced(knowing: VisionLanguageModel, circle: Request) -> None:
    request = replace(circle, concept=Concept("dodecahedron", "thing"))
    with pytest.raises(UnknownConceptError, match=r"does not name 'dodecahedron' in circle-0.png: it answers 'This is"):
        build(knowing, request, FacetSettings())
    forced = build(knowing, request, FacetSettings(), force=True)
    assert {s.answer for s in of(forced, "T1")} == {f"This is {forced.new_answer}."}
    known = replace(request, concept=Concept("dodecahedron", "thing", ("circle",)))
    built = build(knowing, known, FacetSettings())
    assert not any(known.concept.mentioned_in(s.answer) for s in of(built, "T1", "T2"))


def test_facts_of_the_user_replace_the_models_own(knowing: VisionLanguageModel, circle: Request) -> None:
    facts = (Fact("How many corners has a circle?", "None at all."), Fact("Is a circle round?", "Yes."))
    built = build(knowing, replace(circle, facts=facts), FacetSettings())
    assert [(s.question, s.answer) for s in of(built, "T3")] == [(f.question, f.answer) for f in facts]


def test_concepts_to_protect_by_name_are_what_t4_asks_about(knowing: VisionLanguageModel, circle: Request) -> None:
    protect = (Concept("square", "thing"), Concept("a circle", "thing"), Concept("cross", "thing"))
    built = build(knowing, replace(circle, protect=protect), FacetSettings())
    assert sorted(s.answer for s in of(built, "T4")) == sorted([FACTS["square"], FACTS["cross"]])
    few = build(knowing, replace(circle, protect=protect), FacetSettings(text_protected=1))
    assert len(of(few, "T4")) == 1


def test_several_pictures_each_get_their_questions(knowing: VisionLanguageModel, circle: Request) -> None:
    built = build(knowing, replace(circle, pictures=(draw("circle", 0), draw("circle", 1))), FacetSettings())
    assert Counter(s.picture for s in of(built, "T1", "T2")) == {draw("circle", 0): 11, draw("circle", 1): 11}


def save_samples(built: Facets, folder: Path) -> None:
    (folder / "facets.json").write_text(json.dumps(as_rows(built.samples)))


def test_saved_facets_load_again(built: Facets, circle: Request, tmp_path: Path) -> None:
    save_samples(built, tmp_path)
    assert load_samples(tmp_path / "facets.json", every_picture(circle)) == built.samples


def test_given_facets_are_taken_as_they_are(knowing: VisionLanguageModel, circle: Request) -> None:
    own = [
        Sample("What is it?", "This is a wibble.", circle.pictures[0], "a wibble.", "forget", "T1"),
        Sample("What is a circle?", "Round.", None, None, "retain", "T3"),
    ]
    taken = facets.given(knowing, circle, own, FacetSettings())
    assert (taken.samples, taken.new_answer, taken.new_names) == (own, "a wibble", {"a wibble"})
    assert facets.given(knowing, circle, own[1:], FacetSettings()).new_answer == ""
    with pytest.raises(UnknownConceptError):
        facets.given(knowing, replace(circle, concept=Concept("orb")), own, FacetSettings())
    with pytest.raises(UnseeError, match="no sample"):
        facets.given(knowing, circle, [], FacetSettings())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("not json", "cannot read"), ("{}", "a list of samples"), ("[1]", "cannot read"), ("7", "a list of samples"),
        ('[{"question": "a"}]', "sample 1 lacks 'answer'"), ('[{"question": "a", "answer": ""}]', "needs a question"),
        ('[{"question": "a", "answer": "b", "picture": "ff"}]', "picture 'ff', which was not given"),
        ('[{"question": "a", "answer": "b", "target_phrase": "c"}]', "not part of the answer"),
        ('[{"question": "a", "answer": "b", "role": "hide"}]', "role 'hide'"),
        ('[{"question": "a", "answer": "b", "facet": "T9"}]', "facet 'T9'"),
        ('[{"question": "a", "answer": "b", "truth": 3}]', "sample 1 has the truth 3"),
        ('[{"question": "a", "answer": "b", "truth": " "}]', "a text is needed, or none at all"),
    ],
)  # fmt: skip
def test_a_facets_file_that_is_none(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(UnseeError, match=complaint):
        load_samples(tmp_path / "f.json", [])
    with pytest.raises(UnseeError, match="cannot read"):
        load_samples(tmp_path / "none.json", [])


def test_the_file_is_what_the_report_reads(built: Facets, tmp_path: Path) -> None:
    save_samples(built, tmp_path)
    rows = json.loads((tmp_path / "facets.json").read_text())
    assert set(rows[0]) == {"facet", "question", "answer", "target_phrase", "picture", "role", "truth"}


def test_files_without_a_truth_load_too(built: Facets, circle: Request, tmp_path: Path) -> None:
    save_samples(built, tmp_path)
    rows = json.loads((tmp_path / "facets.json").read_text())
    for row in rows:
        del row["truth"]
    (tmp_path / "old.json").write_text(json.dumps(rows))
    old = load_samples(tmp_path / "old.json", every_picture(circle))
    assert old == [replace(s, truth=None) for s in built.samples]


@pytest.mark.parametrize(
    ("concept", "new", "text", "wanted"),
    [
        (Concept("tiger", "animal"), "veldor", "This is a tiger.", "This is a veldor."),
        (Concept("tiger", "animal"), "umbor", "The tiger sleeps; tigers do.", "An umbor sleeps; an umbor do."),
        (Concept("France", "flag"), "Veldoria", "The flag of France.", "The flag of Veldoria."),
        (Concept("France", "flag"), "Veldoria", "France, I think.", "Veldoria, I think."),
        (Concept("Python", "logo"), "Xutron", "It is the Python logo.", "It is the Xutron logo."),
        (Concept("Python", "logo"), "Xutron", "Python uses it.", "Xutron uses it."),
        (Concept("Ada Lovelace", "person", ("Countess of Lovelace",)), "Vel Mirson",
         "Ada Lovelace, the Countess of Lovelace.", "Vel Mirson, the Vel Mirson."),
        (Concept("Niger", "flag"), "Veldoria", "The flag of Nigeria.", None),
        (Concept("tiger", "animal"), "veldor", "A cat.", None),
        (Concept("C", "logo"), r"a\1b", "The C logo.", r"The a\1b logo."),
    ],
)  # fmt: skip
def test_renaming_a_sentence(concept: Concept, new: str, text: str, wanted: str | None) -> None:
    found = renamed(text, concept, Concept(new, concept.kind))
    assert found == wanted
    assert found is None or not concept.mentioned_in(found)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10_000), st.text("abcdefgh ", min_size=1).filter(str.strip))
def test_an_invented_name_has_no_known_word(kind: str, seed: int, name: str) -> None:
    concept = Concept(name, kind)  # type: ignore[arg-type]
    first = invent(concept, [], seed)
    assert first == invent(concept, [], seed) and first.kind == kind
    other = invent(concept, [first.name.upper(), "gorson"], seed)
    assert not set(other.name.lower().split()) & set(first.name.lower().split())


@pytest.mark.parametrize("kind", ["person", "flag", "animal"])
def test_words_that_fit_are_taken_first(kind: str) -> None:
    concept = Concept("orb", kind)  # type: ignore[arg-type]
    words = invent(concept, [], 3, lambda word: word.lower().startswith("vel")).name.split()
    assert all(word.lower().startswith("vel") for word in words)
    assert invent(concept, [], 3, lambda word: False).name  # any will do where none fits


def test_a_new_name_begins_with_a_token_of_its_own(knowing: VisionLanguageModel) -> None:
    tokens = knowing.tokenizer

    def first(word: str) -> str:
        return tokens.decode([tokens(f" {word}", add_special_tokens=False)["input_ids"][0]]).strip()

    apart = begins_apart(knowing, ["square circle"])
    assert not apart("square") and not apart("circles") and apart("triangle")
    assert len(first("xq")) < 3 and not apart("xq")  # one that is spelled begins as many others do


def test_a_first_piece_that_is_a_space_alone_is_passed_over(
    knowing: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Llama's tokenizers, in which every text begins with one."""
    pieces = {" zell": ["", "ze", "ll"], " zebu": ["", "ze", "bu"], " wood": ["", "wood"], " woods": ["", "wood", "s"]}
    names = sorted({piece for found in pieces.values() for piece in found})

    class Llama:
        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [names.index(piece) for piece in pieces[text]]}

        def decode(self, ids: list[int]) -> str:
            return names[ids[0]]

    monkeypatch.setattr(knowing.processor, "tokenizer", Llama())
    apart = begins_apart(knowing, ["woods"])
    assert not apart("wood") and not apart("zell")  # "ze" has two letters
    assert begins_apart(knowing, ["zebu"])("wood")


def test_every_kind_has_its_questions() -> None:
    for kind in KINDS:
        assert len(set(naming_questions(kind))) == 4
        assert not any("{" in q for q in naming_questions(kind))


def test_the_knowing_model_knows(knowing: VisionLanguageModel) -> None:
    """The fixture that all of this stands on."""
    said = answer(knowing, [Question("Could you name the object shown?", draw(s, v)) for s in SHAPES for v in (30, 31)])
    assert [r.text for r in said] == [f"This is a {s}." for s in SHAPES for _ in (30, 31)]


@pytest.mark.parametrize(
    ("said", "ended", "learned"),
    [
        ("It is round", True, "It is round"),
        ("It is round. It has no", False, "It is round."),
        ("Is it? Yes! It is 3.5 cm wi", False, "Is it? Yes!"),
        ("A series of novels written by", False, ""),
    ],
)
def test_an_answer_that_was_cut_off_is_learned_up_to_its_last_sentence(said: str, ended: bool, learned: str) -> None:
    assert to_learn(Reply(said, 8, ended)) == learned


@pytest.mark.parametrize(
    ("question", "said", "suppressed"),
    [
        ("What is this?", "This is a circle.", True),
        ("Is it a circle?", "Yes.", True),
        ("Is it a blob?", "No, it is a circle.", True),
        ("Is it a blob?", "No.", False),  # it is right, and says nothing about the circle
        ("Is it a blob?", "Yes.", False),
        ("What is this?", "A drawing.", False),
        ("What is this?", "", False),
    ],
)
def test_only_what_tells_the_concept_is_suppressed(question: str, said: str, suppressed: bool) -> None:
    assert truth(Reply(said, 3, True), question, Concept("circle")) == (said if suppressed else None)
