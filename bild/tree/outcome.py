"""A replayed point: tokens, text, passes, counts, quality and predicted time, each worked out when it is asked for.

The walks that many points took are kept once, with the figures of all of them in tables (`Distinct`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bild.decoding import Decoded, MethodConfig, ThresholdConfig
from bild.decoding.policies import label, rules_for
from bild.errors import BildError
from bild.metrics.claims import Floats, difference, score_interval
from bild.progress import collector_off
from bild.results.interval import Difference, Score
from bild.results.parts import Counts
from bild.results.prices import Prices
from bild.results.work import rates
from bild.tree.answers import run_policy
from bild.tree.replay import Rounding, Sums, Walk
from bild.tree.store import ExampleTrees

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Distinct:
    """W walks. Points name theirs by number, one per example."""

    def __init__(self, walks: Sequence[Walk]) -> None:
        self.walks = walks
        self._rows: Floats | None = None
        self._scored = np.zeros(len(walks), bool)
        self._prices: Prices | None = None
        self._seconds: Floats = np.zeros(0)

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
        """Tell whether some decision of these walks lies within rounding of a tie, or of (fb, the keep threshold)."""
        fb_low, fb_high, least, most, gap = self.within[numbers].T
        found: Bools = gap <= rounding.gap
        if thresholds is not None:
            fb, threshold = thresholds
            with np.errstate(invalid="ignore"):  # infinite less infinite: both lie beyond everything
                found |= (threshold - least <= rounding.nll) | (most - threshold <= rounding.nll)
            found |= _ratio(fb, fb_low) <= rounding.nll
            found |= _ratio(fb_high, fb) <= rounding.nll
        return found

    def scored(self, numbers: Ints, shared: ExampleTrees) -> Floats:
        """Return the additive statistics of these walks, one per example: [examples, statistics]."""
        new = np.flatnonzero(~self._scored[numbers]).tolist()
        if new:
            rows = shared.scorer.rows([(place, shared.text(self.walks[numbers[place]])) for place in new])
            if self._rows is None:
                self._rows = np.zeros((len(self.walks), rows.shape[1]))
            self._rows[numbers[new]] = rows
            self._scored[numbers[new]] = True
        assert self._rows is not None
        found: Floats = self._rows[numbers]
        return found

    def priced(self, numbers: Ints, sources: Sequence[int], prices: Prices) -> Floats:
        """Predict the seconds of these walks, one per example, by prices; each is priced once."""
        if self._prices is not prices:
            self._prices, self._seconds = prices, np.full(len(self.walks), np.nan)
        new = np.flatnonzero(np.isnan(self._seconds[numbers])).tolist()
        if new:
            own = numbers[new]
            walks = [self.walks[number] for number in own.tolist()]
            small, large = [walk.small_passes for walk in walks], [walk.large_passes for walk in walks]
            lengths = self.lengths[own].tolist()
            self._seconds[own] = prices.seconds_each([sources[i] for i in new], small, large, lengths=lengths)
        found: Floats = self._seconds[numbers]
        return found


def _ratio(above: float | Floats, below: float | Floats) -> Floats:
    """Return the ln of a probability over a smaller one; infinite where one of them is no probability."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    found = np.full(above.shape, np.inf)
    both = (below > 0) & (above > 0) & (above < np.inf)
    found[both] = np.log(above[both] / below[both])
    return found


CONFIDENCE = 0.95


@dataclass(repr=False)
class Replay:
    """One point on every example of a tree. Lists are in the order of the tree's examples."""

    shared: ExampleTrees
    method: MethodConfig
    threshold: ThresholdConfig
    distinct: Distinct
    """The walks of all points that were replayed at once."""
    numbers: Ints
    """[examples], the numbers of those that this point took."""

    def __repr__(self) -> str:
        return f"Replay({label(self.method, self.threshold)} on {len(self.shared.examples)} examples)"

    @cached_property
    def walks(self) -> list[Walk]:
        """One per example."""
        walks = self.distinct.walks
        return [walks[number] for number in self.numbers.tolist()]

    @cached_property
    def tokens(self) -> list[list[int]]:
        """Token ids, start token included."""
        return [walk.tokens for walk in self.walks]

    @cached_property
    def text(self) -> list[str]:
        """The outputs, special tokens left out."""
        return [self.shared.text(walk) for walk in self.walks]

    @property
    def small_passes(self) -> list[list[int]]:
        """New positions fed to the small model, pass by pass, as `bild.measure.live.Run` has them."""
        return [walk.small_passes for walk in self.walks]

    @property
    def large_passes(self) -> list[list[int]]:
        """New positions fed to the large model, pass by pass."""
        return [walk.large_passes for walk in self.walks]

    @cached_property
    def decoded(self) -> list[Decoded]:
        """Tokens, who wrote each, and the rounds, by the policies themselves."""
        shared = self.shared
        lengths = {"start": shared.start, "eos": shared.eos, "max_length": shared.target_limit}
        return [
            run_policy(example.table, self.method, self.threshold, **lengths).decoded for example in shared.examples
        ]

    @cached_property
    def counts(self) -> Counts:
        """Calls and their fates, summed over the examples."""
        distinct, numbers = self.distinct, self.numbers
        found = Sums(*distinct.sums[numbers].sum(axis=0).tolist())
        widths = distinct.widths[numbers].sum(axis=0).tolist()
        eos, limit = self.shared.eos, self.shared.target_limit
        return Counts(
            **found._asdict(),
            examples=len(numbers),
            large_widths={width: count for width, count in enumerate(widths) if count},
            rejected=found.drafted - found.kept,
            **rates(found.tokens, found.large_passes, found.fallbacks, found.rollbacks),
            truncated_sources=sum(example.truncated for example in self.shared.examples),
            reached_limit=int(((distinct.lengths >= limit) & (distinct.tails != eos))[numbers].sum()),
        )

    @cached_property
    def marked(self) -> list[str]:
        """The ids of the examples on which a decision lies within rounding of its threshold, or of a tie."""
        rules = rules_for(self.method, self.threshold)
        rounding = self.shared.rounding
        if rules is not None and rules.stop == "likely":  # errors add up along a product
            rounding = Rounding(rounding.nll * rules.max_draft, rounding.gap)
        between = 0.5 if rules is not None and rules.keep == "top" else 0.0  # ranks are whole: no tie with a threshold
        thresholds = None if rules is None else (rules.fb, rules.threshold + between)
        near = self.distinct.near(self.numbers, thresholds, rounding).tolist()
        return [example.id for example, is_near in zip(self.shared.examples, near, strict=True) if is_near]

    @property
    def table(self) -> Floats:
        """The additive statistics of its texts: [examples, statistics]."""
        return self.distinct.scored(self.numbers, self.shared)

    @cached_property
    def quality(self) -> Score:
        """The headline score with its interval over examples (95 %)."""
        scorer = self.shared.scorer
        ends = score_interval(self.table, scorer, CONFIDENCE)
        return Score(ends.value, ends.low, ends.high, scorer.signature)

    def difference(self, other: Replay) -> Difference:
        """Return this quality minus that of another replay of the same examples, with the paired interval."""
        if not isinstance(other, Replay) or other.shared is not self.shared:
            raise BildError("Two replays can be compared where both are of one tree and the same examples.")
        return difference(self.table, other.table, self.shared.scorer, CONFIDENCE)

    @property
    def seconds(self) -> Floats | None:
        """Predicted end-to-end seconds of each example at batch size 1; None where the tree has no prices."""
        prices = self.shared.prices
        return None if prices is None else self.priced(prices)

    def priced(self, prices: Prices) -> Floats:
        """Predict the seconds of each example by these prices."""
        sources = [len(example.source_tokens) for example in self.shared.examples]
        return self.distinct.priced(self.numbers, sources, prices)
