"""Scores with bootstrap intervals and paired differences to a baseline; and the headline score of many systems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bild.errors import BildError
from bild.metrics import statistics
from bild.metrics.bootstrap import Floats, interval, resampled_sums
from bild.metrics.statistics import Statistics
from bild.results.parts import Interval, Quality, Score


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

    `metric` is "bleu" (BLEU, and chrF beside it), "rouge" (rougeLsum, and rouge1, rouge2, rougeL beside it), one of
    these with another tokenizer ("bleu:zh", "rouge:unicode"), or "evaluate:NAME", a metric of the `evaluate` library,
    averaged over the examples. `baseline` holds another system's predictions for the same examples. All intervals are
    percentile bootstrap intervals over examples, from one shared set of resamples, so the differences are paired, and
    the draws pair with any other figure that is resampled with this seed.

    Raises BildError for an unknown metric, no predictions, and lists of different lengths.
    """
    names, headline = statistics.scores_of(metric), statistics.headline_of(metric)
    if baseline is not None and len(baseline) != len(predictions):
        raise BildError(
            f"There are {len(predictions)} predictions and {len(baseline)} of the baseline: a paired difference needs "
            "both for the same examples."
        )
    scores: dict[str, Score] = {}
    difference: dict[str, Interval] = {}
    others = statistics.compute(names, baseline, references) if baseline is not None else {}
    draws_of_headline = np.empty(0)
    for name, own in statistics.compute(names, predictions, references).items():
        resampled = _resampled(own, draws, seed)
        ends = interval(own.value, resampled, confidence)
        if name == headline:
            draws_of_headline = resampled
        scores[name] = Score(ends.value, ends.low, ends.high, own.signature)
        if name in others:
            gain = resampled - _resampled(others[name], draws, seed)
            difference[name] = interval(own.value - others[name].value, gain, confidence)
    return Quality(headline, scores, difference if baseline is not None else None), draws_of_headline


def _resampled(own: Statistics, draws: int, seed: int) -> Floats:
    return np.array([own.score(sums) for sums in resampled_sums(own.table, draws, seed)])


class Scorer:
    """Scores outputs for fixed references. BildError for a metric that is not known."""

    def __init__(self, metric: str, references: Sequence[str]) -> None:
        self.name = statistics.headline_of(metric)
        self.references = list(references)
        self._rows: dict[tuple[int, str], Floats] = {}
        self._last: Statistics | None = None

    @property
    def signature(self) -> str:
        """Say how the score is computed."""
        if self._last is None:
            self._last = self._statistics(["x"], ["x"])
        return self._last.signature

    def table(self, texts: Sequence[str]) -> Floats:
        """Turn one text for each reference into additive statistics: [examples, statistics]."""
        return self.rows(list(enumerate(texts)))

    def rows(self, items: Sequence[tuple[int, str]]) -> Floats:
        """Turn texts for some of the references, (index, text), into additive statistics: [items, statistics]."""
        new = [key for key in dict.fromkeys(items) if key not in self._rows]
        if new:
            found = self._statistics([text for _, text in new], [self.references[i] for i, _ in new])
            self._last = found
            self._rows.update(zip(new, found.table, strict=True))
        return np.array([self._rows[key] for key in items])

    def score(self, sums: Floats, examples: int) -> float:
        """Return the score, 0..100, of statistics summed over so many examples."""
        if not self.name.startswith("bleu"):
            return 100.0 * float(sums[0]) / examples
        assert self._last is not None
        return self._last.score(sums)

    def scores(self, sums: Floats, examples: int) -> Floats:
        """Return the scores of many sums [draws, statistics], each over so many examples: [draws]."""
        if not self.name.startswith("bleu"):
            return np.asarray(100.0 * sums[:, 0] / examples)
        found = corpus_bleu(sums)
        for i in np.flatnonzero(np.isnan(found)):
            found[i] = self.score(sums[i], examples)
        return found

    def _statistics(self, predictions: list[str], references: list[str]) -> Statistics:
        return statistics.compute((self.name,), predictions, references)[self.name]


def corpus_bleu(sums: Floats) -> Floats:
    """Compute BLEU from sacreBLEU's corpus statistics [draws, 2 + 2 * 4]: both lengths, matches, n-grams.

    NaN where an n-gram order has no match, so that smoothing comes into play.
    """
    system, reference, matches, grams = sums[:, 0], sums[:, 1], sums[:, 2:6], sums[:, 6:10]
    plain = (matches > 0).all(axis=1)
    found = np.full(len(sums), np.nan)
    logarithms = np.log(100.0 * matches[plain] / grams[plain]).mean(axis=1)
    brevity = np.minimum(0.0, 1.0 - reference[plain] / system[plain])
    found[plain] = np.exp(brevity + logarithms)
    return found
