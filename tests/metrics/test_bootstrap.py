"""Resamples and percentile intervals."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bild.metrics.bootstrap import interval, multiplicities


def test_resamples_have_the_size_of_the_data_and_are_shared():
    drawn = multiplicities(50, 20, 0)
    assert (drawn.sum(axis=1) == 50).all()
    assert (drawn == multiplicities(50, 20, 0)).all()
    assert (drawn != multiplicities(50, 20, 1)).any()
    assert len({tuple(row) for row in drawn}) == 20


def test_a_thousand_draws_of_three_thousand_examples_are_quick():
    start = time.process_time()  # of this process alone, whatever else the machine does; it takes about 0.1 s
    multiplicities(3000, 1000, 0)
    assert time.process_time() - start < 5.0


def test_percentiles():
    found = interval(1.0, np.arange(101.0), 0.9)
    assert (found.value, found.low, found.high) == (1.0, pytest.approx(5.0), pytest.approx(95.0))
