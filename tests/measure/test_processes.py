"""Sessions: fresh processes that share the examples out, end with their caller, and are told apart in the record."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from bild.measure.processes import _process
from bild.results import find_records, read_samples
from bild.results.folder import SESSIONS
from tests.cli.commands import QUICK, but, call, only_point, points
from tests.zygote import Zygote, words_of

RUN = ("task.samples=4", *QUICK, "measure.sessions=2", "threshold.fb=0.5")


def sessions_of(pid: int) -> list[psutil.Process]:
    """The sessions that a process has begun, and that have not ended."""
    return [child for child in psutil.Process(pid).children() if "bild.measure.processes" in words_of(child)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_ends_the_session_too_and_the_next_run_goes_on_in_new_ones(tmp_path: Path, mother: Zygote) -> None:
    """It ends in what one process would have written, each example timed once."""
    running = mother.start("bild.run:main", *RUN, cwd=tmp_path)
    deadline = time.monotonic() + 240
    while not (found := sessions_of(running.pid)) or not any(map(read_samples, points(tmp_path))):
        assert not running.ended(), running.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.kill()
    running.wait()
    while words_of(found[0]):  # one that has just begun hears of it when all is imported
        assert time.monotonic() < deadline
        time.sleep(0.05)
    folder = only_point(tmp_path / "results")
    before = read_samples(folder)
    again = mother.start("bild.run:main", *RUN, cwd=tmp_path)
    assert again.wait() == 0, again.log.read_text()
    after = read_samples(folder)
    assert after[: len(before)] == before
    assert len({s.id for s in after}) == len(after) == 4
    assert {s.session for s in before}.isdisjoint(s.session for s in after[len(before) :])
    assert (folder / SESSIONS).is_file()
    assert sum(s.library is not None for s in after) == 2
    (point,), _ = find_records(tmp_path / "results")
    record = point.record
    assert [s.number for s in record.latency.sessions] == sorted({s.session for s in after})
    assert record.sessions == len(record.latency.sessions) > 1
    used = [s for s in record.latency.sessions if s.note is None] or record.latency.sessions
    assert (record.latency.between is not None) == (len(used) > 1)
    assert record.pair.large.parameters > record.pair.small.parameters > 0  # the sessions told: this process never knew
    alone = mother.start("bild.run:main", *but(RUN, "measure.sessions=1", "results=alone"), cwd=tmp_path)
    assert alone.wait() == 0, alone.log.read_text()
    assert "1 session: the interval of a speedup does not hold the machine's state" in alone.log.read_text()
    (same,), _ = find_records(tmp_path / "alone")
    assert same.path.name != folder.name  # another measurement, another point
    assert {s.id: s.text for s in read_samples(same.path)} == {s.id: s.text for s in after}
    assert same.record.counts == record.counts


@pytest.mark.slow
def test_a_session_that_fails_says_why_in_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    refused = call("bild.run", *but(RUN, "threshold.fb=0.3", f"model.large={broken}"), cwd=tmp_path).refusal()
    assert "broken" in refused


def test_the_process_of_a_session_is_gone_when_its_caller_stops_waiting() -> None:
    with pytest.raises(KeyboardInterrupt), _process([]) as process:
        raise KeyboardInterrupt
    assert process.poll() is not None
