"""Sessions beside each other: which of them a claim counts, on a quiet machine and beside busy processes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bild.config import MeasureConfig
from bild.measure.aggregate import latency_of, sessions_of, stationarity
from bild.measure.environment import calm_load
from bild.results.parts import SessionNote
from bild.results.sample import Sample
from tests.measure.lines import sample

QUIET, BUSY = SessionNote(0.1, True, 0.0), SessionNote(2.0, False, 600.0)


def texts(seed: int, busy: dict[int, float], sessions: int = 5, each: int = 12, ratio: float = 1.5) -> list[Sample]:
    """Examples in the order of their measurement; a busy session slows vanilla by a factor, and the method by less.

    So does a real one: contention hurts a large model more than a small one, which makes a speedup larger.
    """
    random = np.random.default_rng(seed)
    made = []
    for number in range(1, sessions + 1):
        slow, shift = busy.get(number, 1.0), float(np.exp(random.normal(0, 0.02)))
        for i in range(each):
            written = int(random.integers(6, 30))
            base = (4.0 + written) * slow * random.lognormal(0, 0.02)
            own = (4.0 + written) / (ratio * shift) * slow**0.4 * random.lognormal(0, 0.1)
            tokens = [0, *range(5, 4 + written), 1]
            one = sample(tokens, own, baseline=(tokens, base), session=number, source_tokens=written)
            made.append(dataclasses.replace(one, id=f"{number}-{i}"))
    return made


def test_calm_sessions_are_all_counted_whatever_their_texts_are() -> None:
    for seed in range(5):
        found = sessions_of(texts(seed, {}), dict.fromkeys(range(1, 6), QUIET))
        assert [s.note for s in found] == [None] * 5
        assert all(0.95 < s.pace < 1.05 for s in found)
        assert max(s.ms_per_token for s in found) / min(s.ms_per_token for s in found) > 1.01  # but texts differ


def test_a_session_off_the_calm_pace_is_left_out_and_says_so() -> None:
    samples = texts(0, {4: 1.4})
    latency = latency_of(samples, MeasureConfig(), dict.fromkeys(range(1, 6), QUIET))
    assert [s.note is None for s in latency.sessions] == [True, True, True, False, True]
    assert latency.sessions[3].note is not None
    assert latency.sessions[3].note.endswith("% slower than in the calm sessions")
    rest = [s for s in samples if s.session != 4]
    assert latency.speedup.total == latency_of(rest, MeasureConfig()).speedup.total
    assert latency.examples == 60  # all were timed, and their times stand in the record


def test_a_session_of_one_example_says_little_of_the_calm_pace() -> None:
    """A kill leaves such: half the sessions, but a small part of what was timed."""
    samples = [s for s in texts(0, {2: 1.4, 3: 1.5}, sessions=3) if s.session == 1 or s.id.endswith("-0")]
    found = sessions_of(samples, {})
    assert [(s.examples, s.note is None) for s in found] == [(12, True), (1, False), (1, False)]


def test_a_machine_that_never_became_calm_is_told_of_every_session() -> None:
    latency = latency_of(texts(0, dict.fromkeys(range(1, 6), 1.6)), MeasureConfig(), dict.fromkeys(range(1, 6), BUSY))
    assert {s.note for s in latency.sessions} == {"the machine was busy: others kept 2.0 of its threads"}


@pytest.mark.parametrize("seed", range(6))
def test_a_run_beside_busy_processes_never_contradicts_a_quiet_one(seed: int) -> None:
    """The same points twice: once quiet, once with two busy processes during some of the sessions."""
    notes = dict.fromkeys(range(1, 6), QUIET)
    quiet = latency_of(texts(seed, {}), MeasureConfig(), notes)
    late = {2: 1.5, 5: 1.8}  # others came after the session had begun calm
    beside = latency_of(texts(seed + 100, late), MeasureConfig(), notes)
    assert [s.number for s in beside.sessions if s.note is not None] == [2, 5]
    one, other = quiet.speedup.total, beside.speedup.total
    assert one.low <= other.high
    assert other.low <= one.high
    naive = latency_of([dataclasses.replace(s, session=1) for s in texts(seed + 100, late)], MeasureConfig())
    assert naive.speedup.total.value > other.value  # what would have been claimed without sessions


def test_drift_goes_by_the_order_of_the_measurement_and_not_by_that_of_the_data() -> None:
    slower = texts(0, {4: 1.5, 5: 1.5})
    assert stationarity(slower).warning is not None
    as_in_the_data = [slower[12 * session + i] for i in range(12) for session in range(5)]
    assert abs(stationarity(as_in_the_data).drift) < stationarity(slower).drift / 2


def test_half_of_the_machine_may_be_others() -> None:
    assert calm_load(threads=10_000) == 0.25
    assert calm_load(threads=0) >= 0.5
