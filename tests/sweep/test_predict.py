"""From replays and prices to predicted points, and from measured points to the error of the prices."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from bild.config import MethodConfig, ThresholdConfig
from bild.metrics import Scorer, quality
from bild.results.interval import Interval
from bild.results.parts import Counts
from bild.results.prices import PassPrice, PriceError, Prices
from bild.sweep.cost_model import with_measured_error
from bild.sweep.grid import BASELINE, GRID, SweptPoint
from bild.sweep.predict import Predictor, Priced, agreement
from bild.tree import Replay
from tests.metrics.texts import references, worsened
from tests.records import make_record

COUNTS = make_record().counts
REFERENCES = references(12)
VANILLA, WORSE = worsened(REFERENCES, 0.2), worsened(REFERENCES, 0.4)
PRICES = Prices(
    schema=1,
    identity={},
    created="2026-01-01T00:00:00+00:00",
    large=PassPrice({1: 0.012, 4: 0.016}),
    small=PassPrice({1: 0.002}),
    large_alone=PassPrice({1: 0.010}),
    small_alone=PassPrice({1: 0.002}),
    encode_large={10: 0.02},
    encode_small={10: 0.005},
    round=0.001,
    example=0.0,
    error=PriceError(0.05, 0.04, 0),
    texts=9,
)


@dataclass
class Replayed:
    """What a tree says of a point."""

    text: list[str]
    small: int
    large: int
    counts: Counts = COUNTS

    @property
    def table(self) -> NDArray[np.float64]:
        return Scorer("bleu", REFERENCES).table(self.text)

    def priced(self, prices: Prices) -> NDArray[np.float64]:
        count = len(self.text)
        small = [[1] * self.small] * count
        large = [[4 if self.small else 1] * self.large] * count
        return prices.seconds_each([10] * count, small, large, lengths=[13] * count)


POINTS = [
    SweptPoint(MethodConfig("vanilla"), ThresholdConfig(), BASELINE),
    SweptPoint(MethodConfig(), ThresholdConfig(0.5, 2.0), GRID),
    SweptPoint(MethodConfig(), ThresholdConfig(0.6, 2.0), GRID),
]
REPLAYS = [Replayed(VANILLA, 0, 12), Replayed(WORSE, 9, 3), Replayed(WORSE, 9, 4)]


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(Scorer("bleu", REFERENCES), len(REFERENCES), 0.95)


def test_predicted_points(predictor: Predictor) -> None:
    candidates = [predictor.candidate(p, cast(Replay, r), PRICES) for p, r in zip(POINTS, REPLAYS, strict=True)]
    predictor.predict(candidates, PRICES)
    vanilla, fast, slow = (candidate.predicted for candidate in candidates)
    usual, own = 0.02 + 12 * 0.010, 0.025 + 9 * 0.002 + 3 * (0.016 + 0.001)
    assert vanilla.seconds.mean == pytest.approx(usual)
    assert fast.seconds.mean == pytest.approx(own)
    assert fast.speedup.value == pytest.approx(usual / own)
    assert (vanilla.speedup.low, vanilla.speedup.high) == (1.0, 1.0)
    assert not fast.speedup.known  # all examples take the same here, and the error of the prices adds nothing to that
    assert (vanilla.front, fast.front, slow.front) == (True, True, False)
    assert (fast.threshold.fb, vanilla.threshold.fb, vanilla.method.rules) == (0.5, None, None)
    scored = quality("bleu", WORSE, REFERENCES, baseline=VANILLA)
    assert fast.quality.score == pytest.approx(scored.scores["bleu"].value)
    assert scored.difference is not None
    assert fast.difference is not None
    assert fast.difference.value == pytest.approx(scored.difference["bleu"].value)
    assert fast.difference.low <= fast.difference.value <= fast.difference.high


def test_prediction_and_measurement_side_by_side() -> None:
    before, measured = Priced(np.array([0.5, 0.5]), np.array([1.0, 1.0])), np.array([0.5, 0.52])
    near = agreement(before, before, measured, Interval(1.95, 1.93, 1.97), PRICES.error)
    assert (near.examples, near.predicted, near.inside) == (2, 2.0, True)
    assert not agreement(before, before, measured, Interval(1.6, 1.5, 1.7), PRICES.error).inside


def test_the_error_comes_from_measured_points_as_soon_as_there_are_three() -> None:
    before, settled = (Priced(np.array([own]), np.ones(1)) for own in (0.8, 0.5))
    one = agreement(before, settled, np.array([0.55]), Interval(1.8, 1.7, 1.9), PRICES.error)
    assert with_measured_error(PRICES, [one] * 2) == PRICES
    told = with_measured_error(PRICES, [one] * 3)
    assert told.error.points == 3
    assert told.error.relative == pytest.approx(1.96 * (1 - 0.5 / 0.55))
    assert dataclasses.replace(told, error=PRICES.error) == PRICES
