"""The folder of a point: a kill at any moment, and a full disk."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.results import read_samples, read_traces
from tests import lanes
from tests.records import make_record
from tests.results.points import (
    DIGEST,
    REPOSITORY,
    expected,
    fill,
    open_point,
    point_path,
    rounds,
    sample,
    start_writer,
)


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 41])
def test_samples_cut_at_any_byte_of_the_last_line(tmp_path: Path, stride: int) -> None:
    path = fill(tmp_path / "whole", 3)
    whole = (path / "samples.jsonl").read_bytes()
    last = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    cuts = range(last, len(whole), stride)
    for cut in lanes.some(cuts, len(cuts) // 3 if stride == 1 else len(cuts)):
        copy = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "whole", copy)
        os.truncate(copy / path.relative_to(tmp_path / "whole") / "samples.jsonl", cut)
        assert (read_samples(copy / path.relative_to(tmp_path / "whole"))) == expected(2)[0]
        with open_point(copy) as folder:
            assert (folder.samples(), read_traces(folder.path)) == expected(2)
            folder.append(sample(2), rounds(2))
        assert (folder.path / "samples.jsonl").read_bytes() == whole
        assert (folder.path / "trace.jsonl.gz").read_bytes() == (path / "trace.jsonl.gz").read_bytes()
        shutil.rmtree(copy)


def test_a_trace_left_at_any_byte_of_an_example_that_has_no_line(tmp_path: Path) -> None:
    path = fill(tmp_path, 3)
    trace = (path / "trace.jsonl.gz").read_bytes()
    whole = (path / "samples.jsonl").read_bytes()
    two = whole[: whole.rindex(b"\n", 0, len(whole) - 1) + 1]
    end = json.loads(two.splitlines()[-1])["trace_end"]
    for cut in range(end, len(trace) + 1):
        (path / "samples.jsonl").write_bytes(two)
        (path / "trace.jsonl.gz").write_bytes(trace[:cut])
        assert read_traces(path) == expected(2)[1]
        with open_point(tmp_path) as folder:
            assert (folder.samples(), read_traces(folder.path)) == expected(2)
            assert (path / "trace.jsonl.gz").stat().st_size == end


def test_a_trace_that_the_disk_lost_takes_its_examples_with_it(tmp_path: Path) -> None:
    path = fill(tmp_path, 3)
    ends = [json.loads(line)["trace_end"] for line in (path / "samples.jsonl").read_bytes().splitlines()]
    for size, left in ((ends[2] - 1, 2), (ends[1], 2), (ends[1] - 1, 1), (3, 0)):
        os.truncate(path / "trace.jsonl.gz", size)
        with open_point(tmp_path) as folder:
            assert (folder.samples(), read_traces(folder.path)) == expected(left)


def test_a_broken_last_line_with_its_newline_is_cut_off(tmp_path: Path) -> None:
    path = fill(tmp_path, 2)
    with (path / "samples.jsonl").open("ab") as file:
        file.write(b"\0\0\0\0\n")
    with open_point(tmp_path) as folder:
        assert (folder.samples(), read_traces(folder.path)) == expected(2)


def test_kill_9_in_the_middle_of_appending(tmp_path: Path) -> None:
    before = 0
    for delay in (0.0, 0.003, 0.011, 0.02):
        writer = start_writer(tmp_path)
        while delay and len(read_samples(point_path(tmp_path))) == before:  # wait for its first example
            time.sleep(0.001)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        with open_point(tmp_path) as folder:  # the lock went with the process
            count = len(folder.samples())
            assert count >= before
            assert (folder.samples(), read_traces(folder.path)) == expected(count)
            before = count
    assert before >= 3


def test_an_interrupt_between_the_two_files_leaves_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.pwrite, []

    def interrupted(file: int, data: bytes, at: int) -> int:
        calls.append(at)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(file, data, at)

    with open_point(tmp_path) as folder:
        folder.append(sample(0), rounds(0))
        monkeypatch.setattr(os, "pwrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            folder.append(sample(1), rounds(1))
        assert (folder.samples(), read_traces(folder.path)) == expected(1)
        folder.append(sample(1), rounds(1))
        assert (folder.samples(), read_traces(folder.path)) == expected(2)


def test_a_long_example_that_failed_leaves_nothing_behind_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def full_after_writing(file: int, data: bytes, at: int) -> int:
        real(file, data, at)
        if data.startswith(b"{"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)

    with open_point(tmp_path) as folder:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full_after_writing)
            with pytest.raises(BildError, match="disk is full"):
                folder.append(dataclasses.replace(sample(7), text="x" * 5000), [{"drafted": list(range(3000))}])
        folder.append(sample(0), rounds(0))
        assert (folder.samples(), read_traces(folder.path)) == expected(1)
    assert (folder.path / "samples.jsonl").read_bytes().count(b"\n") == 1
    assert gzip.decompress((folder.path / "trace.jsonl.gz").read_bytes()).count(b"\n") == 1


def test_a_record_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_record(hash=DIGEST, seconds=1.0), make_record(hash=DIGEST, seconds=2.0)
    with open_point(tmp_path) as folder:
        folder.finish(first)

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fail)
            with pytest.raises(BildError, match="disk is full"):
                folder.finish(second)
        assert folder.record() == first
        assert sorted(path.name for path in folder.path.iterdir()) == [
            ".lock",
            "config.yaml",
            "record.json",
            "samples.jsonl",
            "trace.jsonl.gz",
        ]
        folder.finish(second)
        assert folder.record() == second


@pytest.mark.parametrize("full_at", [1, 2])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_costs_the_example_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int, code: int
) -> None:
    real, calls = os.pwrite, []

    def full(file: int, data: bytes, at: int) -> int:
        calls.append(at)
        if len(calls) >= full_at + 1:
            raise OSError(code, os.strerror(code))
        return real(file, data[: len(data) // 2] if len(calls) == full_at else data, at)

    with open_point(tmp_path) as folder:
        folder.append(sample(0), rounds(0))
        folder.append(sample(1), rounds(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            wanted = "could not be written" if code == errno.EIO else "disk is full"
            with pytest.raises(BildError, match=f"{wanted}.*the 2 examples finished before are kept") as caught:
                folder.append(sample(2), rounds(2))
        assert "\n" not in str(caught.value)
        assert (folder.samples(), read_traces(folder.path)) == expected(2)
        folder.append(sample(2), rounds(2))
    with open_point(tmp_path) as folder:
        assert (folder.samples(), read_traces(folder.path)) == expected(3)


def test_a_real_limit_on_the_size_of_files(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from bild.errors import BildError\n"
        "from tests.results.points import open_point, rounds, sample\n"
        "folder = open_point(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    for number in range(100): folder.append(sample(number), rounds(number))\n"
        "except BildError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    with open_point(tmp_path) as folder:
        count = len(folder.samples())
        assert count > 0
        assert f"disk is full; the {count} examples finished before are kept" in done.stderr
        assert (folder.samples(), read_traces(folder.path)) == expected(count)


def test_no_example_waits_for_the_disk_but_the_end_of_a_point_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    with open_point(tmp_path) as folder:
        monkeypatch.setattr(os, "fsync", synced.append)
        folder.append(sample(0), rounds(0))
        assert synced == []
        folder.finish(make_record(hash=folder.digest))
        assert len(set(synced)) >= 3  # both files, and the record
