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
        new = [key for key in enumerate(texts) if key not in self._rows]
        if new:
            found = self._statistics([text for _, text in new], [self.references[i] for i, _ in new])
            self._last = found
            self._rows.update(zip(new, found.table, strict=True))
        return np.array([self._rows[key] for key in enumerate(texts)])

    def score(self, sums: Floats, examples: int) -> float:
        """The score, 0..100, of statistics summed over so many examples."""
        if self.metric == "rouge":
            return 100.0 * float(sums[0]) / examples
        assert self._last is not None
        return self._last.score(sums)

    def _statistics(self, predictions: list[str], references: list[str]) -> Statistics:
        if self.metric == "rouge":
            return statistics.rouge(predictions, references, types=(self.name,))[self.name]
        return statistics.bleu(predictions, references)
