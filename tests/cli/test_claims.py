"""`bild claims`: every point of a folder is shown, refuted or undecided at a margin, with its speed and its doubts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bild.results.interval import Interval
from bild.results.parts import Library, SessionPace
from tests.cli.commands import Finished, call
from tests.records import make_sweep
from tests.report.test_sections import put


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def claims(root: Path, *options: str) -> Finished:
    return call("bild.claims", str(root), *options, cwd=root)


def row(done: Finished, name: str) -> str:
    (line,) = [line for line in done.out.splitlines() if line.startswith(name)]
    return line


def test_each_point_is_judged_at_the_margin(tmp_path: Path) -> None:
    put(tmp_path, make_sweep())
    done = claims(tmp_path)
    assert done.code == 0, done.err
    assert "claims within 0.5" in done.out
    assert "shown" in row(done, "BiLD 0.9/2")
    assert "refuted" in row(done, "BiLD 0.5/5")
    assert "undecided (+" in row(done, "BiLD 0.8/2")
    assert not [line for line in done.out.splitlines() if line.startswith(("vanilla", "small"))]
    assert "888 / 888 in 1" in row(done, "BiLD 0.5/5")
    assert "1.84x [1.82, 1.86]" in row(done, "BiLD 0.5/5")
    flat = " ".join(done.out.split())
    assert "Fastest shown within 0.5, all 11 judged together (Holm): BiLD 0.8/3, 1.64x" in flat
    assert "1 session: the interval of a speedup does not hold the machine's state" in flat
    assert "refuted" not in row(claims(tmp_path, "--margin", "3"), "BiLD 0.5/5")
    assert call("bild.cli.door", "claims", str(tmp_path), cwd=tmp_path).out == done.out


def test_what_is_slower_than_the_library_is_not_recommended_without_saying_so(tmp_path: Path) -> None:
    slow = Library(32, 30.0, 32.1, Interval(0.82, 0.8, 0.84))
    put(tmp_path, make_sweep(latency__library=slow))
    flat = " ".join(claims(tmp_path).out.split())
    assert "SLOWER than the library's own generate(): 0.82x" in flat.partition("Fastest shown")[2].partition(".\n")[0]


def test_sessions_that_are_left_out_are_told(tmp_path: Path) -> None:
    why = "the machine was busy: others kept 2.0 of its threads"
    sessions = [SessionPace(n, 444, 9.68, 1.6, 1.0, 2.0, why) for n in (1, 2)]
    put(tmp_path, make_sweep(latency__sessions=sessions, sessions=2))
    done = claims(tmp_path)
    flat = " ".join(done.out.split())
    assert "in 0 of 2" in row(done, "BiLD 0.5/5")
    assert f"Session 2 is left out of the speedup: {why}." in flat
    assert "No session was fit for a claim of speed" in flat
    assert "no session was fit for a claim of speed" in flat.partition("Fastest shown")[2]


def test_nothing_to_judge_is_one_sentence(tmp_path: Path) -> None:
    put(tmp_path, make_sweep()[:1])
    assert "has no finished point beside vanilla to judge" in claims(tmp_path).refusal()
    assert "--margin" in claims(tmp_path, "--margin", "-1").refusal()
