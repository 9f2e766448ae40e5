"""Scores and their paired differences with intervals, and the claims that follow from them.

The intervals come from the jackknife: what each example does to the score of all. These influences also tell the
skewness that the ends are corrected by (Edgeworth; Hall 1992), and the quantiles are those of Student's t, so that few
examples say little instead of too much. Only texts that differ say anything of a difference, and they differ by much or
little: the degrees of freedom are half their number, which simulation chose (`scripts/check_coverage.py`). Fewer than
twenty make the ends cautious: they cover more than they say.

"No loss" is no point estimate. A method is *shown* to be within a margin where the lower one-sided end of the paired
difference lies above minus the margin, *refuted* where the upper one lies below it, else *undecided*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from bild.config import margin_of
from bild.errors import BildError, shown
from bild.options import MANY, Option, number
from bild.results.interval import FARTHEST, Difference, Interval
from bild.results.record import Record

Key = TypeVar("Key")
Floats = NDArray[np.float64]
"""The arrays that statistics come in."""
LEAST = 1e-9
"""Points, or parts of a mean: a standard error this small is one of rounding, of examples that are all alike."""


class Scores(Protocol):
    """Turns summed statistics into scores: `bild.metrics.Scorer`, or a score of `bild.metrics.statistics`."""

    def scores(self, sums: Floats, examples: int) -> Floats:
        """Return the scores of many sums [many, statistics], each over so many examples: [many]."""


def score_interval(table: Floats, scorer: Scores, confidence: float = 0.95) -> Interval:
    """Estimate the score of statistics [examples, statistics]."""
    found = difference(table, None, scorer, confidence)
    return Interval(found.value, found.low, found.high)


def difference(
    own: Floats, other: Floats | None, scorer: Scores, confidence: float = 0.95, exact: bool = False
) -> Difference:
    """Estimate a score less another one over the same examples; both tables are [examples, statistics].

    Where few texts differ, the ones seen say little of those to come. So two more are assumed, of opposite signs and of
    the usual size (Bonett and Price's adjustment of McNemar's interval, which this is where an example is right or
    wrong); and an end is never farther than if as many texts differed as the number seen allows (Clopper and Pearson),
    each by all that a text is worth: where none does, the rule of three. A method that is `exact` by its rules needs no
    such doubt. Without `other`, the score itself is estimated. Of one example, and of several that are all alike, no
    interval is known (`FARTHEST`).
    """
    n = len(own)
    if not n or (other is not None and own.shape != other.shape):
        raise BildError(
            f"There are {n} and {0 if other is None else len(other)} examples: a paired difference needs both systems' "
            "statistics of the same examples, at least one."
        )
    changed = (own != other).any(axis=1) if other is not None else np.ones(n, bool)
    if exact and not changed.any():
        return Difference(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    value, influence = influences(own, scorer)
    worth = math.inf
    if other is not None:
        theirs, influence_of_other = influences(other, scorer)
        worth = math.sqrt(float(((theirs + influence_of_other) ** 2).mean()))
        value, influence = value - theirs, influence - influence_of_other
    few = int(changed.sum())
    squares, freedom = float((influence**2).sum()), n - 1.0
    if other is not None:
        squares += 2.0 * (float((influence[changed] ** 2).mean()) if few else worth**2)
        if not is_right_or_wrong(own):  # there every change is as large as another
            freedom = min(freedom, max(1.0, few / 2.0))
    error = math.sqrt(squares / (n * max(1, n - 1)))
    if n == 1 or error <= LEAST:
        return Difference(value, *2 * (value - FARTHEST, value + FARTHEST), FARTHEST)
    skewness = float((influence**3).sum() / squares**1.5)

    def end(p: float) -> float:
        """Return the end that the truth lies below with probability p."""
        z = NormalDist().inv_cdf(p)
        found = error * (float(stdtrit(freedom, p)) + skewness * (2.0 * z**2 + 1.0) / 6.0)
        if math.isfinite(worth):
            most = worth * float(betaincinv(few + 1.0, n - few + 0.5, max(p, 1.0 - p)))
            found = max(-most - value, found) if p < 0.5 else min(most - value, found)
        return value + found

    tail = 1.0 - confidence
    return Difference(value, end(tail / 2), end(1 - tail / 2), end(tail), end(1 - tail), error)


def is_right_or_wrong(table: Floats) -> bool:
    """Tell whether each example scores nothing or all, as with an exact match."""
    return table.shape[1] == 1 and bool(np.isin(table, (0.0, 1.0, 0.01)).all())


def influences(table: Floats, scorer: Scores) -> tuple[float, Floats]:
    """Return the score of all, and what each example adds to it, times their number."""
    n, sums = len(table), table.sum(axis=0)
    value = float(scorer.scores(sums[None, :], n)[0])
    if n == 1:
        return value, np.zeros(1)
    without = scorer.scores(sums - table, n - 1)
    return value, (n - 1) * (without.mean() - without)


Kind = Literal["shown", "refuted", "undecided"]
POWER = 0.8
"""The chance with which the examples asked for decide, if the difference is what it seems to be."""
_HOPELESS = 10_000_000


_MANY = 100_000
"""Examples beyond which an estimate of how many would be needed says nothing: it goes with the square of a distance."""


@dataclass(frozen=True)
class Verdict:
    """What a paired difference says of a margin; `more` examples would decide it (null: it is, or none would)."""

    kind: Kind
    margin: float
    difference: Difference
    examples: int
    more: int | None
    rule: str

    def __str__(self) -> str:
        margin = f"{self.margin:g}"
        if self.kind == "shown":
            return f"shown within {margin}"
        if self.kind == "refuted":
            return f"refuted at {margin}"
        if not self.difference.known:
            return f"undecided at {margin}, because the interval is not known from examples that are all alike, or one"
        if self.more is None:
            return f"undecided at {margin}, too close to the margin for any number of examples"
        about = "" if self.more > _MANY else "about "
        return f"undecided at {margin}, {about}{self.more_words} more examples"

    @property
    def more_words(self) -> str:
        """Write how many more examples would decide it: an estimate, of two digits, and of none where they are many."""
        if self.more is None:
            return "∞" if self.difference.known else "?"
        return "very many" if self.more > _MANY else f"{int(float(f'{self.more:.2g}')):,}"


def verdict(found: Difference, margin: float, examples: int, rule: str = "one-sided end") -> Verdict:
    """Judge a recorded difference, measured on so many examples, at a margin in the metric's points."""
    margin = margin_of(margin, "margin")
    examples = Option(int, number(1, 1, MANY).metadata).checked("examples", examples)
    if not isinstance(found, Difference):
        raise BildError(f"{shown(found)} is no difference: give that of a record, or of bild.metrics.quality.")
    if not found.known:
        return Verdict("undecided", margin, found, examples, None, rule)
    if found.lower > -margin or found.sd == 0.0:
        return Verdict("shown", margin, found, examples, None, rule)
    if found.upper < -margin:
        return Verdict("refuted", margin, found, examples, None, rule)
    needed = examples_needed(found.sd * math.sqrt(examples), margin, found.value)
    more = None if needed is None else max(1, needed - examples)
    return Verdict("undecided", margin, found, examples, more, rule)


def verdict_of(record: Record, margin: float) -> Verdict | None:
    """Judge the main score of a record at a margin; None where its difference to vanilla was not recorded."""
    found = record.headline_difference
    return None if found is None else verdict(found, margin, record.quality.examples)


def judge(method: Floats, vanilla: Floats, scorer: Scores, margin: float, confidence: float = 0.95) -> Verdict:
    """Judge a method by its statistics per example beside vanilla's."""
    return verdict(difference(method, vanilla, scorer, confidence), margin, len(method))


def examples_needed(
    sd_per_example: float, margin: float, expected_difference: float = 0.0, confidence: float = 0.95
) -> int | None:
    """Return how many examples decide a claim at this margin with a chance of 80 %, if the difference is as expected.

    Null where the difference is expected so near the margin that more than ten million would be needed.
    """
    gap = abs(expected_difference + margin)
    z = NormalDist().inv_cdf(confidence) + NormalDist().inv_cdf(POWER)
    if gap == 0.0 or (root := z * sd_per_example / gap) > math.sqrt(_HOPELESS):
        return None
    return max(1, math.ceil(root**2))


def holm(verdicts: Sequence[Verdict], confidence: float = 0.95) -> list[Verdict]:
    """Judge several candidates together, so that all that is shown holds with the confidence of one (Holm).

    The same is done among those that are refuted. What no longer stands becomes undecided.
    """
    rule = f"one-sided end, Holm over {len(verdicts)}"
    judged = [replace(each, rule=rule) for each in verdicts]
    for kind in ("shown", "refuted"):
        order = sorted((_tail(each, kind, confidence), i) for i, each in enumerate(verdicts))
        for rank, (tail, _) in enumerate(order):
            if tail >= (1.0 - confidence) / (len(order) - rank):
                for _, j in order[rank:]:
                    if judged[j].kind == kind:
                        judged[j] = _undecided(judged[j], confidence, len(order) - rank)
                break
    return judged


def together(verdicts: Mapping[Key, Verdict], confidence: float) -> dict[Key, Verdict]:
    """Judge several together as `holm` does, by whatever names them."""
    return dict(zip(verdicts, holm([*verdicts.values()], confidence), strict=True))


def _tail(each: Verdict, kind: str, confidence: float) -> float:
    """Return the one-sided p-value that belongs to an end, of the hypothesis that a claim of this kind would refute."""
    found = each.difference
    beyond = found.value + each.margin if kind == "shown" else -each.margin - found.value
    reach = found.value - found.lower if kind == "shown" else found.upper - found.value
    if reach <= 0.0:
        return 0.0 if beyond > 0 else 1.0
    return 1.0 - NormalDist().cdf(NormalDist().inv_cdf(confidence) * beyond / reach)


def _undecided(each: Verdict, confidence: float, among: int) -> Verdict:
    sd = each.difference.sd * math.sqrt(each.examples)
    level = 1.0 - (1.0 - confidence) / among
    needed = examples_needed(sd, each.margin, each.difference.value, level)
    return replace(each, kind="undecided", more=None if needed is None else max(1, needed - each.examples))
