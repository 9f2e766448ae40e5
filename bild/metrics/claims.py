"""Claims about quality: a paired difference with one-sided ends, and the verdict that follows at a margin.

"No loss" is no point estimate. A method is *shown* to be within a margin where the lower one-sided end of the paired
difference lies above minus the margin, *refuted* where the upper one lies below it, else *undecided*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from bild.metrics.jackknife import Floats, Scores, difference
from bild.results.parts import Difference

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
        if self.more is None:
            return f"undecided at {margin}, too close to the margin for any number of examples"
        about = "" if self.more > _MANY else "about "
        return f"undecided at {margin}, {about}{self.more_words} more examples"

    @property
    def more_words(self) -> str:
        """Write how many more examples would decide it: an estimate, of two digits, and of none where they are many."""
        if self.more is None:
            return "∞"
        return "very many" if self.more > _MANY else f"{int(float(f'{self.more:.2g}')):,}"


def verdict(found: Difference, margin: float, examples: int, rule: str = "one-sided end") -> Verdict:
    """Judge a recorded difference, measured on so many examples, at a margin in the metric's points."""
    if found.lower > -margin or found.sd == 0.0 <= found.value + margin:
        return Verdict("shown", margin, found, examples, None, rule)
    if found.upper < -margin:
        return Verdict("refuted", margin, found, examples, None, rule)
    needed = examples_needed(found.sd * math.sqrt(examples), margin, found.value)
    more = None if needed is None else max(1, needed - examples)
    return Verdict("undecided", margin, found, examples, more, rule)


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
    if gap == 0.0 or (needed := math.ceil((z * sd_per_example / gap) ** 2)) > _HOPELESS:
        return None
    return max(1, needed)


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
