"""The quality of a run: its scores with bootstrap intervals, and its paired differences to a baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bild.errors import BildError
from bild.metrics import statistics
from bild.metrics.bootstrap import Floats, interval, resampled_sums
from bild.metrics.statistics import Statistics
from bild.results.parts import Interval, Quality, Score

HEADLINES = {"bleu": "bleu", "rouge": "rougeLsum"}


def quality(
    metric: str,
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    baseline: Sequence[str] | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Quality:
    """Score predictions against one reference each; see `quality_and_draws`, whose second part is left out."""
    return quality_and_draws(metric, predictions, references, baseline, draws, confidence, seed)[0]


def quality_and_draws(
    metric: str,
    predictions: Sequence[str],
    references: Sequence[str],
    baseline: Sequence[str] | None,
    draws: int,
    confidence: float,
    seed: int,
) -> tuple[Quality, Floats]:
    """Score predictions against one reference each; also return the headline score of every bootstrap draw, [draws].

    `metric` is "bleu" (BLEU, and chrF beside it) or "rouge" (rougeLsum, and rouge1, rouge2, rougeL beside it).
    `baseline` holds another system's predictions for the same examples. All intervals are percentile bootstrap
    intervals over examples, from one shared set of resamples, so the differences are paired, and the draws pair with
    any other figure that is resampled with this seed.

    Raises BildError for an unknown metric, no predictions, and lists of different lengths.
    """
    if metric not in HEADLINES:
        raise BildError(f"The metric {metric} is not known: choose one of {', '.join(HEADLINES)}.")
    if baseline is not None and len(baseline) != len(predictions):
        raise BildError(
            f"There are {len(predictions)} predictions and {len(baseline)} of the baseline: a paired difference needs "
            "both for the same examples."
        )
    scores: dict[str, Score] = {}
    difference: dict[str, Interval] = {}
    others = _statistics(metric, baseline, references) if baseline is not None else {}
    headline = np.empty(0)
    for name, own in _statistics(metric, predictions, references).items():
        resampled = _resampled(own, draws, seed)
        ends = interval(own.value, resampled, confidence)
        if name == HEADLINES[metric]:
            headline = resampled
        scores[name] = Score(ends.value, ends.low, ends.high, own.signature)
        if name in others:
            gain = resampled - _resampled(others[name], draws, seed)
            difference[name] = interval(own.value - others[name].value, gain, confidence)
    return Quality(HEADLINES[metric], scores, difference if baseline is not None else None), headline


def _statistics(metric: str, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Statistics]:
    if metric == "rouge":
        return statistics.rouge(predictions, references)
    return {
        "bleu": statistics.bleu(predictions, references),
        "chrf": statistics.chrf(predictions, references),
    }


def _resampled(own: Statistics, draws: int, seed: int) -> Floats:
    return np.array([own.score(sums) for sums in resampled_sums(own.table, draws, seed)])
