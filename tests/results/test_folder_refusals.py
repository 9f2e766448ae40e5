"""The folder of a point: bad places, damaged files and bad input."""

from __future__ import annotations

import dataclasses
import errno
import math
import re
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.results import read_traces
from bild.results.codec import dumps, encode
from bild.results.sample import VanillaRun
from tests.records import make_record, make_sample
from tests.results.points import (
    DIGEST,
    expected,
    fill,
    open_point,
    rounds,
    sample,
)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BildError, match=r"results folder .*file/demo.* cannot be written .*results=") as caught:
        open_point(tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_a_place_without_permission_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BildError, match="cannot be written \\(Permission denied\\)"):
        open_point(tmp_path)


TIMELESS = dumps(encode(make_sample(baseline=VanillaRun([0, 1], 0, ""))) | {"trace_end": 3})


@pytest.mark.parametrize("line", ["{broken", "[]", '{"tokens": [1], "trace_end": 3}', '{"id": "x"}', "", TIMELESS])
def test_a_malformed_line_in_the_middle_is_named(tmp_path: Path, line: str) -> None:
    path = fill(tmp_path, 3)
    lines = (path / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    lines[1] = line
    (path / "samples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    before = (path / "samples.jsonl").read_bytes()
    with pytest.raises(BildError, match=r"samples\.jsonl, line 2, is not a finished example"):
        open_point(tmp_path)
    assert (path / "samples.jsonl").read_bytes() == before


def test_a_missing_trace_is_told_and_costs_no_example(tmp_path: Path) -> None:
    path = fill(tmp_path, 3)
    (path / "trace.jsonl.gz").unlink()
    before = (path / "samples.jsonl").read_bytes()
    with pytest.raises(BildError, match=r"trace\.jsonl\.gz is missing beside 3 finished examples"):
        open_point(tmp_path)
    assert (path / "samples.jsonl").read_bytes() == before


def test_a_damaged_trace_is_told(tmp_path: Path) -> None:
    path = fill(tmp_path, 2)
    packed = bytearray((path / "trace.jsonl.gz").read_bytes())
    packed[len(packed) // 4] ^= 0xFF
    (path / "trace.jsonl.gz").write_bytes(packed)
    with pytest.raises(BildError, match=r"trace\.jsonl\.gz is damaged"):
        read_traces(path)


def test_a_trace_of_other_examples_is_told(tmp_path: Path) -> None:
    path = fill(tmp_path, 2)
    text = (path / "samples.jsonl").read_text(encoding="utf-8")
    text = re.sub(r',"check":\d+', "", text)  # as older versions wrote it
    (path / "samples.jsonl").write_text(text.replace('"id":"e1"', '"id":"f1"'), encoding="utf-8")
    with pytest.raises(BildError, match="does not hold the examples"):
        read_traces(path)


@pytest.mark.parametrize("where", ["sample", "rounds"])
def test_nan_is_refused_before_anything_is_written(tmp_path: Path, where: str) -> None:
    with open_point(tmp_path) as folder:
        folder.append(sample(0), rounds(0))
        broken = dataclasses.replace(sample(1), index=math.nan) if where == "sample" else sample(1)
        trace = rounds(1) if where == "sample" else [{"token_nll": [0.0, math.nan]}]
        field = "index" if where == "sample" else r"rounds\.0\.token_nll\.1"
        with pytest.raises(BildError, match=rf"e1 was not written: the field {field} is NaN"):
            folder.append(broken, trace)
        assert (folder.samples(), read_traces(folder.path)) == expected(1)


def test_an_example_is_written_once(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with open_point(tmp_path) as folder:
        with pytest.raises(ValueError, match="'e1' is there already"):
            folder.append(sample(1), rounds(1))
        assert (folder.samples(), read_traces(folder.path)) == expected(2)


def test_text_that_utf8_cannot_hold_comes_back(tmp_path: Path) -> None:
    odd = dataclasses.replace(sample(0), text="half a pair: \ud83d")
    with open_point(tmp_path) as folder:
        folder.append(odd, [])
        assert folder.samples() == [odd]


def test_a_record_of_another_point_is_refused(tmp_path: Path) -> None:
    with open_point(tmp_path) as folder:
        with pytest.raises(ValueError, match="is not that of the folder"):
            folder.finish(make_record(hash="f" * 64))
        assert folder.record() is None


def test_a_record_with_nan_leaves_no_file(tmp_path: Path) -> None:
    with open_point(tmp_path) as folder:
        with pytest.raises(BildError, match=r"latency\.seconds is NaN"):
            folder.finish(make_record(hash=DIGEST, latency__seconds=math.nan))
        assert not (folder.path / "record.json").exists()
