"""The embedded model and its data, the real ones: what the benchmark promises of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from plain import plain_answer

from unsee.data import KINDS
from unsee.data.wording import detail_questions, knowing_questions, naming_in_text
from unsee.errors import UnseeError
from unsee.mini import assembly
from unsee.mini.data import FILES, SPLITS, mini_data

MINI_KINDS = {"person", "logo", "flag", "animal", "thing"}


def test_every_kind_is_there() -> None:
    kinds = Counter(c.concept.kind for c in mini_data().concepts.values())
    assert set(kinds) == MINI_KINDS <= set(KINDS)


def test_at_least_eighty_concepts_are_left() -> None:
    assert len(mini_data().concepts) >= 80


def test_at_least_ten_concepts_of_every_kind_are_left() -> None:
    kinds = Counter(c.concept.kind for c in mini_data().concepts.values())
    assert min(kinds.values()) >= 10, kinds


def test_splits_hold_what_later_work_needs() -> None:
    data = mini_data()
    assert {c.split for c in data.concepts.values()} == set(SPLITS)
    for split, each in (("test", 3), ("dev", 1), ("protected", 1), ("utility", 1)):
        kinds = Counter(c.concept.kind for c in data.of(split))  # type: ignore[arg-type]
        assert set(kinds) == MINI_KINDS and min(kinds.values()) >= each, (split, kinds)
    assert len(data.of("test")) >= 12


def test_the_original_names_nearly_all_pictures_drawn() -> None:
    for entry in mini_data().concepts.values():
        assert entry.named >= 0.95 * entry.tested, entry.concept.name


def test_every_concept_has_unseen_pictures_and_they_were_not_trained_on() -> None:
    data = mini_data()
    for name in list(data.concepts)[::5]:
        trained = {p.sha256 for p in data.training_pictures(name, 99)}
        tested = {p.sha256 for p in data.test_pictures(name)}
        assert len(tested) >= 50, name
        assert trained and not trained & tested


def test_every_test_concept_is_known_in_text() -> None:
    assert all(c.questions for c in mini_data().of("test"))


def test_text_knowledge_is_asked_for_in_other_words_than_training_asks() -> None:
    for entry in mini_data().concepts.values():
        kind, subject = entry.concept.kind, entry.concept.subject
        trained = {*knowing_questions(kind, subject), *detail_questions(kind, subject)}
        wordings = [q.split("{clue}") for q in naming_in_text(kind)]
        for asked in (q.question for q in entry.questions):
            assert asked not in trained
            assert not any(asked.startswith(begin) and asked.endswith(end) for begin, end in wordings), asked


def test_text_questions_include_some_whose_answer_is_the_name() -> None:
    known = mini_data().of("test")
    assert sum(any(q.names for q in c.questions) for c in known) >= 0.9 * len(known)


def test_what_may_be_held_in_place_is_varied_and_never_measured() -> None:
    data = mini_data()
    measured = {c.concept.name for split in ("test", "dev", "utility") for c in data.of(split)}
    for forgotten in (c.concept for c in data.of("test")):
        held = data.protecting(forgotten, 48)
        assert len({p.sha256 for _, p in held}) == 48
        kinds = Counter(c.kind for c, _ in held)
        assert set(kinds) == MINI_KINDS and kinds[forgotten.kind] >= 20
        assert not {c.name for c, _ in held} & measured
    assert not {c.name for c in data.generic} & set(data.concepts)


def test_datasets_reads_the_pictures() -> None:
    from datasets import load_dataset

    table = load_dataset("parquet", data_files=str(FILES / "pictures.parquet"), split="train")
    assert {"concept", "kind", "split", "role", "image"} <= set(table.column_names)
    assert len(table) > 4000


def test_a_near_miss_is_suggested() -> None:
    name = next(iter(mini_data().concepts))
    with pytest.raises(UnseeError, match=name):
        mini_data().find(name[:-1] + "zz")


def test_a_name_is_found_in_any_case_and_without_its_article() -> None:
    found = {mini_data().find(n).concept.name for n in ("the United Kingdom", "united kingdom", "The united KINGDOM")}
    assert found == {"the United Kingdom"}


def test_the_shipped_files_stay_small() -> None:
    sizes = [p.stat().st_size for folder in (FILES, assembly.WEIGHTS) for p in folder.rglob("*") if p.is_file()]
    assert max(sizes) < 40 * 2**20
    assert sum(p.stat().st_size for p in assembly.WEIGHTS.rglob("*") if p.is_file()) < 40 * 2**20


def test_a_wrong_language_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(b"not the model")
    monkeypatch.setenv("UNSEE_LANGUAGE_MODEL", str(wrong))
    with pytest.raises(UnseeError, match="SHA-256"):
        assembly.language_model_file(tmp_path)


def test_an_interrupted_assembly_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSEE_HOME", str(tmp_path))
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(b"not the model")
    monkeypatch.setenv("UNSEE_LANGUAGE_MODEL", str(wrong))
    with pytest.raises(UnseeError):
        assembly.mini_path()
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.slow
def test_plain_transformers_loads_the_mini_and_it_names_a_picture(tmp_path: Path) -> None:
    entry = mini_data().of("test", "person")[0]
    picture = mini_data().test_pictures(entry.concept.name, 1)[0].save(tmp_path / "p.png")
    assert entry.concept.mentioned_in(plain_answer(assembly.mini_path(), picture, "Who is this?"))
