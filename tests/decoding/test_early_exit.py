"""CALM's rule: the thresholds of a text, and what is made of the answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Write, Written, policy_for
from bild.decoding import settings as settings_of
from bild.decoding.loop import ExitRule, adaptive
from tests import lanes
from tests.decoding.scripted import END, START, A, B, play

many = lanes.many(100)


def test_the_threshold_falls_along_the_text_as_equation_5_has_it() -> None:
    # By hand: 0.9 * 0.8 + 0.1 * exp(-4 t / 4) at t = 0..3.
    assert ExitRule(0.8, decay=4.0).thresholds(4) == pytest.approx([0.82, 0.7567879, 0.7335335, 0.7249787], abs=1e-7)


def test_without_a_decay_it_stays() -> None:
    assert ExitRule(0.8, decay=None).thresholds(3) == [0.8] * 3


@many
@given(
    threshold=st.floats(0, 1),
    decay=st.one_of(st.none(), st.floats(0, 50)),
    limit=st.integers(1, 200),
)
def test_bars_are_confidences_that_never_rise(threshold: float, decay: float | None, limit: int) -> None:
    found = ExitRule(threshold, decay=decay).thresholds(limit)
    assert len(found) == limit
    assert all(0.0 <= each <= 1.0 for each in found)
    assert found == sorted(found, reverse=True)
    if decay is not None:
        assert found[0] == pytest.approx(min(0.9 * threshold + 0.1, 1.0))
        assert found[-1] >= 0.9 * threshold


@pytest.mark.parametrize(
    ("confidence", "min_layers", "first"), [("state", 1, 2), ("state", 3, 3), ("softmax", 1, 1), ("softmax", 3, 3)]
)
def test_two_states_are_compared_from_the_second_layer_on(confidence: str, min_layers: int, first: int) -> None:
    method = MethodConfig("calm", confidence=confidence, min_layers=min_layers)
    ask = next(policy_for(method, ThresholdConfig(exit=0.5))(start=START, eos=END, max_length=9))
    assert isinstance(ask, Write)
    assert ask.first_exit == first
    assert settings_of(method, ThresholdConfig())["min_layers"] == first


def test_it_asks_once_and_tells_what_was_written_and_how_deep() -> None:
    policy = adaptive(ExitRule(0.7, "softmax", None, 2), start=START, eos=END, max_length=5)
    done, asks = play(policy, Written([A, B, END], [0.9, 0.4, 0.8], "eos", [2, 6, 3], 6))
    assert asks == [Write([START], [0.7] * 4, "softmax", 2)]
    assert done.tokens == [START, A, B, END]
    assert done.origins == ["start", "large", "large", "large"]
    assert done.rounds == []
    assert (done.layers, done.depth) == ([2, 6, 3], 6)


def test_the_decay_is_over_the_most_tokens_that_can_be_written() -> None:
    ask = next(policy_for(MethodConfig("calm"), ThresholdConfig(exit=0.5))(start=START, eos=END, max_length=11))
    assert isinstance(ask, Write)
    assert len(ask.thresholds) == 10
    assert ask.thresholds[5] == pytest.approx(0.45 + 0.1 * math.exp(-4.0 * 5 / 10))
