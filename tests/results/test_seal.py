"""The seal: what was changed by hand after it was measured is named, and counts for nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.results import find_records, read_record, read_samples
from bild.results.record import from_json
from tests.records import make_record
from tests.results.points import DIGEST, fill, open_point, rounds, sample


@pytest.fixture
def point(tmp_path: Path) -> Path:
    fill(tmp_path, 3)
    with open_point(tmp_path) as folder:
        folder.finish(make_record(hash=DIGEST))
        return folder.path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    "old", ['"value": 39.61', '"created": "2025', '"load": 0.4', '"samples_bytes": ', '"total": 888']
)
def test_any_figure_of_a_record_that_is_changed_is_told(tmp_path: Path, point: Path, old: str) -> None:
    assert read_record(point / "record.json") == make_record(hash=DIGEST)
    edit(point / "record.json", old, old[:-1] + ("3" if old[-1] != "3" else "4") if old[-1] != " " else f"{old}1")
    (found, left) = find_records(tmp_path)
    assert found == []
    assert re.search("record.json was changed after it was written.*resume=false", left[0].why)
    with open_point(tmp_path) as folder, pytest.raises(BildError, match=r"do not fit its seal"):
        folder.record()
    with open_point(tmp_path) as folder:
        folder.clear()
        assert folder.record() is None


def test_samples_and_rounds_that_were_changed_are_told_by_line_and_by_seal(tmp_path: Path, point: Path) -> None:
    edit(point / "samples.jsonl", '"total":1000000001,', '"total":1,')
    assert re.search("samples.jsonl was changed after its point was measured", find_records(tmp_path)[1][0].why)
    with pytest.raises(BildError, match=r"samples.jsonl, line 2, .* changed after it was written"):
        read_samples(point)  # without a record, too
    edit(point / "samples.jsonl", '"total":1,', '"total":1000000001,')
    assert len(find_records(tmp_path)[0]) == 1
    trace = (point / "trace.jsonl.gz").read_bytes()
    (point / "trace.jsonl.gz").write_bytes(trace[:-1] + bytes([trace[-1] ^ 1]))
    assert re.search("trace.jsonl.gz was changed", find_records(tmp_path)[1][0].why)


def test_a_point_that_grew_or_lost_its_files_is_what_it_was(tmp_path: Path, point: Path) -> None:
    with open_point(tmp_path) as folder:
        folder.append(sample(3), rounds(3))
        assert folder.record() is not None
    for name in ("samples.jsonl", "trace.jsonl.gz"):
        (point / name).unlink()
    assert len(find_records(tmp_path)[0]) == 1


def test_a_record_in_another_points_folder_is_none_of_it(tmp_path: Path, point: Path) -> None:
    text = (point / "record.json").read_text()
    with open_point(tmp_path, digest="f" * 64) as folder:
        (folder.path / "record.json").write_text(text)
        for name in ("samples.jsonl", "trace.jsonl.gz"):
            (folder.path / name).write_bytes((point / name).read_bytes())
        with pytest.raises(BildError, match="the record of another point"):
            folder.record()


def test_a_record_without_a_seal_is_read(point: Path) -> None:
    plain = json.loads((point / "record.json").read_text())
    assert plain.pop("seal")["samples_bytes"] == (point / "samples.jsonl").stat().st_size
    assert from_json(json.dumps(plain)).seal is None
    assert from_json(json.dumps(plain | {"intervals": {"confidence": 0.95, "draws": 1000, "seed": 0}})).seal is None
