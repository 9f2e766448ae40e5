"""Points sorted into families: those that differ in their two thresholds only walk together, as bits of an integer."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from bild.decoding import MethodConfig, Rules, Setting, ThresholdConfig
from bild.decoding.policies import rules_for
from bild.errors import BildError, shown


class Family:
    """Points under the same rules. Bit i stands for the i-th of them."""

    def __init__(self, members: Sequence[tuple[int, Rules]]) -> None:
        """Gather `members`: (index among all points, its rules)."""
        self.indices = [index for index, _ in members]
        self.rules = members[0][1]
        self.fb = [rules.fb for _, rules in members]
        self.thresholds = [rules.threshold for _, rules in members]
        self.everyone = (1 << len(members)) - 1
        self._fbs, self._from = _suffixes(self.fb)
        self._thresholds, suffixes = _suffixes(self.thresholds)
        self._before = [self.everyone & ~suffix for suffix in suffixes]

    def unsure(self, confidence: float) -> int:
        """Return the points whose fallback threshold is above a confidence."""
        return self._from[bisect_right(self._fbs, confidence)]

    def rejecting(self, score: float) -> int:
        """Return the points whose keep threshold is below a rejection score."""
        return self._before[bisect_left(self._thresholds, score)]

    def members(self, points: int) -> list[int]:
        """Return the positions of the bits that are set."""
        found = []
        while points:
            low = points & -points
            found.append(low.bit_length() - 1)
            points ^= low
        return found


def _suffixes(values: Sequence[float]) -> tuple[list[float], list[int]]:
    """Return the sorted distinct values, and for each of them the points at or above it (0 at the end)."""
    distinct = sorted(set(values))
    points = [0] * (len(distinct) + 1)
    for bit, value in enumerate(values):
        points[bisect_left(distinct, value)] |= 1 << bit
    for i in range(len(distinct) - 1, -1, -1):
        points[i] |= points[i + 1]
    return distinct, points


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Points sorted out: families of the loop, and those that one model decodes alone."""

    families: list[Family]
    alone: dict[str, list[int]]
    """By author, the indices of the points."""


def group(points: Sequence[Setting]) -> Grouped:
    """Put together the points that differ in thresholds only. BildError for a method that no tree can replay."""
    families: dict[Rules, list[tuple[int, Rules]]] = {}
    alone: dict[str, list[int]] = {}
    if not isinstance(points, Sequence):
        raise BildError(f"{shown(points)} is no list of points: give [bild.decoding.setting(fb=0.6, rb=2), ...].")
    for index, point in enumerate(points):
        if not (isinstance(point, tuple) and [*map(type, point)] == [MethodConfig, ThresholdConfig]):
            raise BildError(f"{shown(point)} is no point: make one by bild.decoding.setting(fb=0.6, rb=2).")
        method, threshold = point
        rules = rules_for(method, threshold)
        if rules is not None:
            families.setdefault(_without_thresholds(rules), []).append((index, rules))
        elif method.spec.author is not None:
            alone.setdefault(method.spec.author, []).append(index)
        else:
            raise BildError(
                f"method={method.name} cannot be replayed: a decision tree holds what whole models say after a prefix."
            )
    return Grouped([Family(members) for members in families.values()], alone)


def _without_thresholds(rules: Rules) -> Rules:
    return dataclasses.replace(rules, fb=0.0, threshold=0.0)
