"""What is written is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from unsee.files import whole


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole(path) as written:
        written.write_text("new")
        assert path.read_text() == "old" and written.name.startswith(".a.txt.") and written.parent == tmp_path
    assert path.read_text() == "new" and names(tmp_path) == ["a.txt"]
    with pytest.raises(KeyboardInterrupt), whole(path) as written:
        written.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "new" and names(tmp_path) == ["a.txt"]


def test_a_folder_too(tmp_path: Path) -> None:
    for interrupted in (True, False):
        try:
            with whole(tmp_path / "model") as written:
                written.mkdir()
                (written / "weights").write_text("1")
                assert not interrupted
        except AssertionError:
            assert names(tmp_path) == []
    assert names(tmp_path) == ["model"] and (tmp_path / "model" / "weights").read_text() == "1"


def test_what_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(NotADirectoryError), whole(tmp_path / "notes.txt" / "m") as written:
        written.mkdir()
    assert names(tmp_path) == ["notes.txt"]
