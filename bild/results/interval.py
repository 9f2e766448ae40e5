"""An estimate and the ends of its interval; where one is not known it is as wide as can be, and says so."""

from __future__ import annotations

import math
from dataclasses import dataclass

FARTHEST = 100.0
"""How far off, in points or as a factor of a ratio or time, the ends lie of an interval that nothing is known of."""


@dataclass(frozen=True)
class Interval:
    """An estimate with both ends of its two-sided interval, in the unit of what is estimated."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Tell whether the ends say anything: one example does not, nor do several that are all alike."""
        farthest = ((self.value - FARTHEST, self.value + FARTHEST), (self.value / FARTHEST, self.value * FARTHEST))
        return self.low == self.high or not any(all(map(math.isclose, (self.low, self.high), far)) for far in farthest)

    @property
    def times(self) -> str:
        """Write a speedup, `1.23x [1.10, 1.36]`."""
        return f"{self.value:.2f}x " + (f"[{self.low:.2f}, {self.high:.2f}]" if self.known else "[?, ?]")


@dataclass(frozen=True)
class Score(Interval):
    """A score with its interval, and the signature that says how it was computed."""

    signature: str


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference of two scores: beside the two-sided interval its one-sided ends, by which claims are judged.

    `lower` and `upper` each leave out one tail of one minus `Intervals.confidence`; `sd` is the standard deviation of
    the estimate.
    """

    lower: float
    upper: float
    sd: float

    @property
    def known(self) -> bool:
        """See `Interval`; only where no text can differ has one of no width been proven."""
        return super().known and (self.sd > 0.0 or self.value == 0.0)

    @property
    def one_sided(self) -> str:
        """Write the difference and its one-sided ends, `-0.11 [-0.27, +0.04]`."""
        return f"{self.value:+.2f} " + (f"[{self.lower:+.2f}, {self.upper:+.2f}]" if self.known else "[?, ?]")
