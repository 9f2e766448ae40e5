"""The headline score of many systems over the same references: a text is looked at once, however many wrote it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bild.errors import BildError
from bild.metrics import statistics
from bild.metrics.bootstrap import Floats
from bild.metrics.quality import HEADLINES
from bild.metrics.statistics import Statistics


class Scorer:
    """Scores outputs for fixed references. BildError for a metric that is not known."""

    def __init__(self, metric: str, references: Sequence[str]) -> None:
        if metric not in HEADLINES:
            raise BildError(f"The metric {metric} is not known: choose one of {', '.join(HEADLINES)}.")
        self.metric = metric
        self.name = HEADLINES[metric]
        self.references = list(references)
        self._rows: dict[tuple[int, str], Floats] = {}
        self._last: Statistics | None = None

    @property
    def signature(self) -> str:
        """How the score is computed."""
        if self._last is None:
            self._last = self._statistics(["x"], ["x"])
        return self._last.signature

    def table(self, texts: Sequence[str]) -> Floats:
        """One text for each reference, as additive statistics: [examples, statistics]."""
        return self.rows(list(enumerate(texts)))

    def rows(self, items: Sequence[tuple[int, str]]) -> Floats:
        """Texts for some of the references, (index, text), as additive statistics: [items, statistics]."""
        new = [key for key in dict.fromkeys(items) if key not in self._rows]
        if new:
            found = self._statistics([text for _, text in new], [self.references[i] for i, _ in new])
            self._last = found
            self._rows.update(zip(new, found.table, strict=True))
        return np.array([self._rows[key] for key in items])

    def score(self, sums: Floats, examples: int) -> float:
        """The score, 0..100, of statistics summed over so many examples."""
        if self.metric == "rouge":
            return 100.0 * float(sums[0]) / examples
        assert self._last is not None
        return self._last.score(sums)

    def scores(self, sums: Floats, examples: int) -> Floats:
        """The scores of many sums [draws, statistics], each over so many examples: [draws]."""
        if self.metric == "rouge":
            return np.asarray(100.0 * sums[:, 0] / examples)
        found = corpus_bleu(sums)
        for i in np.flatnonzero(np.isnan(found)):
            found[i] = self.score(sums[i], examples)
        return found

    def _statistics(self, predictions: list[str], references: list[str]) -> Statistics:
        if self.metric == "rouge":
            return statistics.rouge(predictions, references, types=(self.name,))[self.name]
        return statistics.bleu(predictions, references)


def corpus_bleu(sums: Floats) -> Floats:
    """BLEU of sacreBLEU's corpus statistics [draws, 2 + 2 * 4]: hypothesis and reference lengths, matches, n-grams.

    NaN where an n-gram order has no match, so that smoothing comes into play.
    """
    system, reference, matches, grams = sums[:, 0], sums[:, 1], sums[:, 2:6], sums[:, 6:10]
    plain = (matches > 0).all(axis=1)
    found = np.full(len(sums), np.nan)
    logarithms = np.log(100.0 * matches[plain] / grams[plain]).mean(axis=1)
    brevity = np.minimum(0.0, 1.0 - reference[plain] / system[plain])
    found[plain] = np.exp(brevity + logarithms)
    return found
