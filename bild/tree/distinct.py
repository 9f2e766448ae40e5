"""The walks that many points took, each once, with what is asked of all of them in tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bild.metrics.bootstrap import Floats
from bild.metrics.scorer import Scorer
from bild.tree.collector import collector_off
from bild.tree.replay import Rounding, Walk

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Distinct:
    """W walks. Points name theirs by number, one per example."""

    def __init__(self, walks: Sequence[Walk]) -> None:
        self.walks = walks
        self._rows: Floats | None = None
        self._scored = np.zeros(len(walks), bool)

    @cached_property
    @collector_off()
    def sums(self) -> Ints:
        """[W, fields of `Sums`]."""
        return np.array([walk.sums for walk in self.walks], np.int64)

    @cached_property
    @collector_off()
    def widths(self) -> Ints:
        """[W, n], how many large passes fed as many positions."""
        passes = [walk.large_passes for walk in self.walks]
        flat = np.array([width for some in passes for width in some], np.int64)
        walk = np.repeat(np.arange(len(passes)), [len(some) for some in passes])
        columns = int(flat.max(initial=0)) + 1
        return np.bincount(walk * columns + flat, minlength=len(passes) * columns).reshape(-1, columns)

    @cached_property
    def lengths(self) -> Ints:
        """[W], tokens, start token included."""
        return np.array([walk.length for walk in self.walks], np.int64)

    @cached_property
    def tails(self) -> Ints:
        """[W], last tokens."""
        return np.array([walk.tail for walk in self.walks], np.int64)

    @cached_property
    @collector_off()
    def within(self) -> Floats:
        """[W, 5], see `Walk.within`."""
        return np.array([walk.within for walk in self.walks], np.float64).reshape(-1, 5)

    def near(self, numbers: Ints, thresholds: tuple[float, float] | None, rounding: Rounding) -> Bools:
        """Whether some decision of these walks lies within rounding of a tie, or of (fb, bar)."""
        fb_low, fb_high, bar_low, bar_high, gap = self.within[numbers].T
        found: Bools = gap <= rounding.gap
        if thresholds is not None:
            fb, bar = thresholds
            with np.errstate(invalid="ignore"):  # infinite less infinite: both lie beyond everything
                found |= (bar - bar_low <= rounding.nll) | (bar_high - bar <= rounding.nll)
            found |= _ratio(fb, fb_low) <= rounding.nll
            found |= _ratio(fb_high, fb) <= rounding.nll
        return found

    def scored(self, numbers: Ints, texts: Sequence[str], scorer: Scorer) -> Floats:
        """The additive statistics of these walks, one per example: [examples, statistics]."""
        new = np.flatnonzero(~self._scored[numbers]).tolist()
        if new:
            rows = scorer.rows([(place, texts[place]) for place in new])
            if self._rows is None:
                self._rows = np.zeros((len(self.walks), rows.shape[1]))
            self._rows[numbers[new]] = rows
            self._scored[numbers[new]] = True
        assert self._rows is not None
        found: Floats = self._rows[numbers]
        return found


def _ratio(above: float | Floats, below: float | Floats) -> Floats:
    """ln of a probability over a smaller one; infinite where one of them is no probability."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    found = np.full(above.shape, np.inf)
    both = (below > 0) & (above > 0) & (above < np.inf)
    found[both] = np.log(above[both] / below[both])
    return found
