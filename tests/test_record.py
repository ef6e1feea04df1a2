"""The record of answers: written whole, read back as it was, refused where it is broken."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_answers import row, rows

from unsee.errors import RunFolderError
from unsee.metrics import Answer, pair_up, read_answers, write_answers
from unsee.metrics.record import SCHEMA


def test_the_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    answers = [
        row(
            "A “tiger”…",
            odd_words=("blorf", "zib"),
            other_names=("lion",),
            name_logprob=-math.inf,
            nll=1.25,
            nll_tokens=3,
            tokens=4,
        ),
        row("", model="before", form="yes_no", picture="", item="q2"),
    ]
    path = tmp_path / "answers.parquet"
    write_answers(path, rows(["older"]))
    write_answers(path, answers)
    assert read_answers(path) == answers
    assert [entry.name for entry in tmp_path.iterdir()] == ["answers.parquet"]
    write_answers(path, [])
    assert read_answers(path) == []


def test_the_file_has_the_columns_of_an_answer() -> None:
    assert SCHEMA.names == [field.name for field in fields(Answer)]


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    write_answers(path, [row("a lion", other_names=("lion",))])
    pq.write_table(pq.read_table(path).drop_columns(["other_names"]), path)
    assert read_answers(path) == [row("a lion")] and row("a lion").other_names is None


def test_datasets_reads_the_record(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write_answers(tmp_path / "answers.parquet", rows(["a tiger", ""]))
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "answers.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded["answer"][:] == ["a tiger", ""]
    assert loaded[0]["keywords"] == ["tiger"]


def test_a_write_that_fails_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.parquet"
    write_answers(path, rows(["older"]))

    def fail(table: object, where: Path) -> None:
        where.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_answers(path, rows(["newer"]))
    assert [entry.name for entry in tmp_path.iterdir()] == ["answers.parquet"]
    assert read_answers(path) == rows(["older"])


def test_a_broken_record_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    with pytest.raises(RunFolderError, match="missing"):
        read_answers(path)
    path.write_bytes(b"not a parquet file")
    with pytest.raises(RunFolderError, match="not a record"):
        read_answers(path)
    write_answers(path, rows(["a"]))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["subject", "nll"]), path)
    with pytest.raises(RunFolderError, match="subject, nll"):
        read_answers(path)
    pq.write_table(table.set_column(0, "model", pa.array(["later"])), path)
    with pytest.raises(RunFolderError, match="later"):
        read_answers(path)
    pq.write_table(table.set_column(0, "model", pa.array([None], pa.string())), path)
    with pytest.raises(RunFolderError, match="empty cells in the columns: model"):
        read_answers(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    with pytest.raises(RunFolderError, match="two answers"):
        read_answers(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"set": "test"},
        {"model": "gold"},
        {"form": "speech"},
        {"keywords": ()},
        {"keywords": ("tiger", " ")},
        {"form": "yes_no", "keywords": ("Yes trump",)},
        {"tokens": -1},
        {"name_logprob": math.nan},
        {"nll": math.inf},
    ],
)
def test_an_answer_that_no_metric_could_read_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        row("a", **wrong)


def test_a_question_is_answered_once_by_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two answers after to question 'q1'"):
        pair_up([row("a"), row("b")])
    with pytest.raises(ValueError, match="two answers"):
        write_answers(tmp_path / "answers.parquet", [row("a"), row("b")])
    assert pair_up([row("a"), row("b", model="before"), row("c", set="training")]) == [
        (row("b", model="before"), row("a"))
    ]
