"""The folder of a point: a run from beginning to end, and two at once."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path

import pytest
import yaml

from bild.errors import BildError
from bild.results import locking
from bild.results.files import write_atomically
from bild.results.sample import read_traces
from tests.records import make_record
from tests.results.points import (
    DIGEST,
    expected,
    fill,
    open_point,
    point_path,
    rounds,
    sample,
    start_writer,
)


def test_a_point_is_written_finished_and_read_again(tmp_path: Path) -> None:
    record = make_record(hash=DIGEST)
    with open_point(tmp_path) as folder:
        assert folder.record() is None
        assert folder.samples() == []
        assert read_traces(folder.path) == {}
        for number in range(3):
            folder.append(sample(number), rounds(number))
        assert folder.finish(record) == folder.path / "record.json"
    assert folder.path == point_path(tmp_path)
    with open_point(tmp_path) as again:
        assert again.record() == record
        assert (again.samples(), read_traces(again.path)) == expected(3)
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == {"threshold": {"fb": 0.6, "rb": 2.0}}


def test_a_point_is_resumed_where_it_stopped(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with open_point(tmp_path) as folder:
        assert len(folder.samples()) == 2
        folder.append(sample(2), rounds(2))
        assert (folder.samples(), read_traces(folder.path)) == expected(3)


def test_the_files_are_what_they_say(tmp_path: Path) -> None:
    path = fill(tmp_path, 2)
    lines = [json.loads(line) for line in (path / "samples.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    packed = (path / "trace.jsonl.gz").read_bytes()
    assert [line["id"] for line in lines] == ["e0", "e1"]
    assert lines[-1]["trace_end"] == len(packed)
    first = json.loads(gzip.decompress(packed[: lines[0]["trace_end"]]))
    assert first == {"id": "e0", "rounds": [{**rounds(0)[0], "token_nll": [0.25, "inf"]}]}


def test_the_same_run_leaves_the_same_bytes(tmp_path: Path) -> None:
    one, two = fill(tmp_path / "one", 3), fill(tmp_path / "two", 3)
    for name in ("samples.jsonl", "trace.jsonl.gz", "config.yaml"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_clear_starts_anew(tmp_path: Path) -> None:
    with open_point(tmp_path) as folder:
        folder.append(sample(0), rounds(0))
        folder.finish(make_record(hash=DIGEST))
        folder.clear()
        assert folder.record() is None
        assert (folder.samples(), read_traces(folder.path)) == ([], {})
        folder.append(sample(0), rounds(0))
        assert (folder.samples(), read_traces(folder.path)) == expected(1)


def test_a_finished_point_keeps_the_configuration_that_made_it(tmp_path: Path) -> None:
    with open_point(tmp_path, config={"results": "here"}) as folder:
        folder.finish(make_record(hash=DIGEST))
    open_point(tmp_path, config={"results": "there"}).close()
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == {"results": "here"}


def test_an_unfinished_point_has_the_latest_configuration(tmp_path: Path) -> None:
    open_point(tmp_path, config={"results": "here"}).close()
    with open_point(tmp_path, config={"results": "there", "rb": math.inf}) as folder:
        assert yaml.safe_load((folder.path / "config.yaml").read_text()) == {"results": "there", "rb": math.inf}


@pytest.mark.parametrize("name", ["../up", "a/b", "/etc", "..", ".hidden", "", "a b\n"])
def test_no_name_leaves_the_results_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "results"
    with open_point(root, task=name, pair=name, label=name) as folder:
        inside = folder.path.relative_to(root)
        assert len(inside.parts) == 3
        assert not any(part.startswith(".") for part in inside.parts)
        assert list(tmp_path.iterdir()) == [root]


def test_a_second_process_waits_until_the_first_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = start_writer(tmp_path)
    open_point(tmp_path, digest="f" * 64).close()  # another point is free
    told = list[str]()

    def say(line: str) -> None:
        told.append(line)
        writer.kill()

    monkeypatch.setattr(locking, "say", say)
    open_point(tmp_path).close()
    writer.communicate()
    (line,) = told
    assert re.match(rf"waiting: process {writer.pid} is writing the point .*demo/tiny", line)


def test_a_second_folder_in_one_process_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    first = open_point(tmp_path)
    with pytest.raises(BildError, match=r"This process is writing the point .* already"):
        open_point(tmp_path)
    first.close()
    first.close()
    open_point(tmp_path).close()


def test_a_folder_that_failed_to_open_is_not_held(tmp_path: Path) -> None:
    path = fill(tmp_path, 2)
    (path / "samples.jsonl").write_bytes(b"nonsense\n" + (path / "samples.jsonl").read_bytes())
    with pytest.raises(BildError):
        open_point(tmp_path)
    (path / "samples.jsonl").unlink()
    with open_point(tmp_path) as folder:
        assert folder.samples() == []


def test_a_link_in_the_place_of_a_temporary_file_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".record.json.tmp").symlink_to(victim)
    write_atomically(tmp_path / "record.json", "{}")
    assert (victim.read_text(), (tmp_path / "record.json").read_text()) == ("precious", "{}")
    assert not (tmp_path / "record.json").is_symlink()


def test_whatever_ends_a_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no space left, says a library in its own words")

    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "state.pt", fail)
    assert list(tmp_path.iterdir()) == []
