"""Lines that are appended: read again, past whatever a kill left of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.results.codec import append_lines, read_lines


@dataclass(frozen=True)
class Note:
    name: str
    numbers: list[float] | None = None


def test_what_was_appended_is_read_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "new" / "notes.jsonl"
    assert read_lines(Note, path) == []
    append_lines(path, [Note("one", [0.5]), Note("zwei \u2028 \n")])
    whole = path.read_bytes()
    assert read_lines(Note, path) == [Note("one", [0.5]), Note("zwei \u2028 \n")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        kept = read_lines(Note, path)
        append_lines(path, [Note("next")])
        assert read_lines(Note, path) == [*kept, Note("next")]


def test_lines_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"name": 3}\n[]\n{"name": "x"}\n')
    assert read_lines(Note, path) == [Note("x")]


def test_a_disk_that_takes_nothing_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BildError):
        append_lines(tmp_path / "file" / "notes.jsonl", [Note("x")])


def test_no_link_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "notes.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(BildError, match="could not be written"):
        append_lines(tmp_path / "notes.jsonl", [Note("x")])
    assert (tmp_path / "victim").read_text() == "precious"
