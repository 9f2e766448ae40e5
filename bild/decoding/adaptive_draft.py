"""The draft limit of `stop=auto`: a draft ends where another token stops paying, by costs and this text so far.

Let `a` be the share of drafted tokens that stand, `u` the share of small steps that are sure, `s` the time of a small
step and `V(w)` that of a large pass of width w. A round that may draft up to L tokens writes, on the mean,
1 + sum_{j=1..L} (u a)^j tokens: the j-th is there and stands with (u a)^j, and one is the large model's. It takes
rest + s sum_{j<L} u^j for its steps and V(1) + sum_{j=1..L} u^j (V(j+1) - V(j)) for its pass. The limit is the L of the
highest ratio of the two, which by the renewal-reward theorem is the rate of a text in which a and u stay as they are.
With u = 1 this is (1 + sum a^j) / (L s + V(L+1) + rest), as in Leviathan et al. 2023, but for a pass that is not free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bild.errors import BildError

AUTO = "auto"
_STOOD, _FELL = 4.0, 1.0
"""A Beta prior of the share that stands: 0.8 before the first verdict, as if five had been seen."""
_STEPS = 4.0
"""Sure steps that count as seen before the first one."""


@dataclass(frozen=True)
class DraftCosts:
    """Seconds of the parts of a round on one pair, engine and machine. BildError for values that are no costs."""

    small: float
    """One small step."""
    large: tuple[tuple[int, float], ...]
    """(width, one large pass of so many new positions), by rising width from 1 to at least 2; linear in between."""
    rest: float = 0.0
    """Seconds of a round besides its passes."""

    def __post_init__(self) -> None:
        widths, passes = [width for width, _ in self.large], [seconds for _, seconds in self.large]
        rising = widths[:1] == [1] and len(widths) > 1 and widths == sorted(set(widths))
        if not rising or not all(math.isfinite(x) and x > 0.0 for x in (self.small, *passes)) or not self.rest >= 0.0:
            raise BildError(
                f"{self} are no costs of drafts: they are positive seconds, of a small step and of large passes by "
                "rising width from 1 on."
            )

    @property
    def longest(self) -> int:
        """The longest draft whose verification has a price, >= 1."""
        return self.large[-1][0] - 1

    def passes(self) -> list[float]:
        """Return the seconds of a large pass of width 1, 2, ... `longest` + 1."""
        found = [self.large[0][1]]
        for (before, low), (width, high) in zip(self.large, self.large[1:], strict=False):
            found += [low + (high - low) * (w - before) / (width - before) for w in range(before + 1, width + 1)]
        return found


@dataclass
class Tally:
    """Counts over the drafts of one text so far."""

    steps: int = 0
    """Small steps."""
    unsure: int = 0
    """Small steps that ended a draft because the small model was unsure."""
    stood: int = 0
    """Drafted tokens that stand."""
    fell: int = 0
    """Drafted tokens that were taken back; those behind such a token were not judged and do not count."""

    def add(self, steps: int, unsure: bool, stood: int, fell: bool) -> Tally:
        """Count one more round."""
        self.steps += steps
        self.unsure += unsure
        self.stood += stood
        self.fell += fell
        return self


class Pace:
    """The limit of the next draft, from costs and a tally. Equal costs and tallies give equal limits."""

    def __init__(self, costs: DraftCosts) -> None:
        self.costs = costs
        passes = costs.passes()
        self._wider: Sequence[float] = [passes[j] - passes[j - 1] for j in range(1, len(passes))]
        """Seconds that the j-th drafted token adds to the large pass."""

    def limit(self, tally: Tally) -> int:
        """Return the limit, 1 to `costs.longest`; of equally good limits the shortest."""
        sure = 1.0 - tally.unsure / (tally.steps + _STEPS)
        stand = sure * (tally.stood + _STOOD) / (tally.stood + tally.fell + _STOOD + _FELL)
        small = self.costs.small
        tokens, seconds = 1.0, self.costs.rest + self.costs.large[0][1]
        there = gain = 1.0
        best, limit = 0.0, 1
        for length, wider in enumerate(self._wider, 1):
            seconds += there * small
            there *= sure
            gain *= stand
            seconds += there * wider
            tokens += gain
            if tokens > best * seconds:
                best, limit = tokens / seconds, length
        return limit
