"""A run that was killed, interrupted or finished, and then started again with the same command."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from bild.results import PointFolder, Sample, read_samples, read_traces
from bild.run import main as run
from tests.cli.commands import QUICK, Finished, call, only_point, points, record
from tests.zygote import Child, Zygote

EXAMPLES = 10
COMMAND = (
    f"task.samples={EXAMPLES}",
    "task.target_limit=48",
    "measure.warmup=1",
    "measure.library=2",
    "measure.calm_minutes=0",
)
TIMES = {"ns", "baseline", "library", "session"}


FLOATS = ("probs", "token_nll")


class Interrupted(NamedTuple):
    """A run that was stopped twice and then went on to its end, and one that was left in peace."""

    killed: int
    """Examples that were done when it was killed."""
    stopped: int
    """Examples that were done after it was stopped by Ctrl-C."""
    code: int
    said: list[str]
    """All that was printed until then, on either stream."""
    after_stop: Finished
    point: Path
    peaceful: Path


def endless() -> int:
    """`bild run` that waits after four examples, so that it is stopped before its end, however busy the machine is."""
    append, done = PointFolder.append, list[str]()

    def waiting(folder: PointFolder, sample: Sample, trace: list[dict[str, Any]]) -> None:
        append(folder, sample, trace)
        done.append(sample.id)
        if len(done) == 4:
            time.sleep(300)

    with mock.patch.object(PointFolder, "append", waiting):
        return run()


@pytest.fixture(scope="module")
def interrupted(mother: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """`kill -9` in the middle, the same command until Ctrl-C, and once more to the end."""
    cwd, peace = tmp_path_factory.mktemp("interrupted"), tmp_path_factory.mktemp("peaceful")
    first = mother.start("tests.cli.test_resume:endless", *COMMAND, cwd=cwd)
    wait_for(first, cwd, 3)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    killed = len(read_samples(only_point(cwd)))
    second = mother.start("tests.cli.test_resume:endless", *COMMAND, cwd=cwd)
    wait_for(second, cwd, killed + 3)
    os.kill(second.pid, signal.SIGINT)
    code, said = second.wait(), second.log.read_text().splitlines()
    stopped = len(read_samples(only_point(cwd)))
    after_stop = call("bild.run", *COMMAND, cwd=cwd)
    assert call("bild.run", *COMMAND, cwd=peace).code == 0
    return Interrupted(killed, stopped, code, said, after_stop, only_point(cwd), only_point(peace))


def wait_for(running: Child, cwd: Path, examples: int) -> None:
    """Wait until so many examples are done."""
    limit = time.monotonic() + 120
    while sum(path.read_bytes().count(b"\n") for path in cwd.rglob("samples.jsonl")) < examples:
        assert not running.ended(), running.log.read_text()
        assert time.monotonic() < limit
        time.sleep(0.02)


def timeless(sample: Sample) -> dict[str, Any]:
    """An example without its times, which differ from run to run."""
    plain = dataclasses.asdict(sample)
    kept = {key: value for key, value in plain.items() if key not in TIMES}
    return kept | {name: plain[name] and {**plain[name], "ns": 0} for name in ("baseline", "library")}


@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_examples_there(interrupted: Interrupted) -> None:
    assert 3 <= interrupted.killed < EXAMPLES
    going_on = f"has {interrupted.killed} of {EXAMPLES} examples; going on from there"
    assert any(line.endswith(going_on) for line in interrupted.said)


@pytest.mark.slow
def test_ctrl_c_leaves_a_code_a_word_and_a_folder_to_go_on_with(interrupted: Interrupted) -> None:
    assert interrupted.code == 130
    progress = ("warning: The machine is busy", "running on ", "results/", "embedded, 1 point: ")
    words = [line for line in interrupted.said if not line.startswith(progress)]
    assert words == ["stopped; the same command goes on from here"]  # no traceback, and no table
    assert interrupted.killed + 3 <= interrupted.stopped < EXAMPLES


@pytest.mark.slow
def test_the_last_run_does_the_rest_and_no_more(interrupted: Interrupted) -> None:
    assert interrupted.after_stop.code == 0
    assert f"has {interrupted.stopped} of {EXAMPLES} examples; going on from there" in interrupted.after_stop.err
    sessions = [sample.session for sample in read_samples(interrupted.point)]
    assert [sessions.count(session) for session in (1, 2, 3)] == [
        interrupted.killed,
        interrupted.stopped - interrupted.killed,
        EXAMPLES - interrupted.stopped,
    ]
    assert record(interrupted.point)["sessions"] == 3
    assert record(interrupted.peaceful)["sessions"] == 1


@pytest.mark.slow
def test_the_point_equals_that_of_a_run_left_in_peace(interrupted: Interrupted) -> None:
    assert interrupted.point.name == interrupted.peaceful.name
    one, other = record(interrupted.point), record(interrupted.peaceful)
    for part in ("hash", "label", "task", "pair", "method", "threshold", "engine", "quality", "counts"):
        assert one[part] == other[part], part
    assert one["latency"]["tokens"] == other["latency"]["tokens"]
    samples = [{s.id: timeless(s) for s in read_samples(p)} for p in (interrupted.point, interrupted.peaceful)]
    assert len(samples[0]) == EXAMPLES
    assert samples[0] == samples[1]
    traces = [read_traces(point) for point in (interrupted.point, interrupted.peaceful)]
    assert list(traces[0]) == list(traces[1])
    for name, rounds in traces[0].items():
        for mine, theirs in zip(rounds, traces[1][name], strict=True):
            # Two commands may choose other kernels, which round otherwise.
            assert mine == {**theirs, **{part: pytest.approx(theirs[part], rel=1e-3, abs=1e-4) for part in FLOATS}}


# --- a finished point


SHORT = ("task.samples=3", *QUICK)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A working folder with one finished point, and how it was made. Shared: tests must not change that point."""
    cwd = tmp_path_factory.mktemp("finished")
    return cwd, call("bild.run", *SHORT, "threshold.fb=0.5", cwd=cwd)


def test_a_finished_point_is_shown_and_not_run_again(finished: tuple[Path, Finished]) -> None:
    cwd, first = finished
    assert first.code == 0, first.err
    point = only_point(cwd)
    before = {path.name: path.read_bytes() for path in point.iterdir()}
    again = call("bild.run", *SHORT, "threshold.fb=0.5", cwd=cwd)
    relative = point.relative_to(cwd)
    assert again.err == f"{relative} is finished; this is its record (resume=false measures it again)\n"
    assert again.out == first.out
    assert {path.name: path.read_bytes() for path in point.iterdir()} == before  # times and all


def test_a_threshold_written_in_another_way_is_the_same_point(finished: tuple[Path, Finished]) -> None:
    cwd, _ = finished
    assert "is finished" in call("bild.run", *SHORT, "threshold.fb=5e-1", "threshold.rb=5", cwd=cwd).err


def test_resume_false_measures_anew(tmp_path: Path) -> None:
    call("bild.run", *SHORT, cwd=tmp_path)
    point = only_point(tmp_path)
    first = (point / "samples.jsonl").read_bytes()
    again = call("bild.run", *SHORT, "resume=false", cwd=tmp_path)
    assert again.code == 0
    assert "is finished" not in again.err
    assert only_point(tmp_path) == point
    assert (point / "samples.jsonl").read_bytes() != first  # at least its times
    assert (len(read_samples(point)), record(point)["sessions"]) == (3, 1)


@pytest.mark.slow
def test_every_changed_option_goes_to_a_folder_of_its_own(tmp_path: Path) -> None:
    one = ("task.samples=1", "measure.warmup=0", "measure.library=0", "task.target_limit=4")
    changes = (
        "threshold.fb=0.4",
        "threshold.rb=2",
        "method.rules=authors",
        "task.seed=1",
        "engine=hf",
        "measure.seed=1",
    )
    assert call("bild.run", *one, cwd=tmp_path).code == 0
    for number, change in enumerate(changes, start=2):
        done = call("bild.run", *one, change, cwd=tmp_path)
        assert done.code == 0, done.err
        assert "is finished" not in done.err
        assert len(points(tmp_path)) == number, change


@pytest.mark.slow
def test_half_a_point_of_several_goes_on_beside_the_whole_ones(tmp_path: Path) -> None:
    options = ("points=[{fb: 0.3}, {fb: 0.6}]", "task.samples=3", "timed=null", *QUICK)
    assert call("bild.demo", *options, cwd=tmp_path).code == 0
    whole, half = points(tmp_path)
    (half / "record.json").unlink()
    lines = (half / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (half / "samples.jsonl").write_bytes(lines[0])
    kept = (whole / "samples.jsonl").read_bytes()
    again = call("bild.demo", *options, cwd=tmp_path)
    assert f"{whole.relative_to(tmp_path)} is finished" in again.err
    assert f"{half.relative_to(tmp_path)} has 1 of 3 examples; going on from there" in again.err
    assert (whole / "samples.jsonl").read_bytes() == kept
    assert [sample.session for sample in read_samples(half)] == [1, 2, 2]
