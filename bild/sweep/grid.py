"""The points of a sweep: a method at a setting each, and why it is there. Without Hydra and without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import Setting, settings, thresholds_of
from bild.decoding.methods import heeds
from bild.decoding.policies import label, live_refusal
from bild.results import Method, Threshold, config_hash
from bild.results.parts import recorded
from bild.sweep.config import THRESHOLDS, GridConfig

BASELINE, PUBLISHED, GRID = "baseline", "published", "grid"
"""The reasons for which a point is in a sweep."""
COARSE: dict[str, tuple[float, ...]] = {
    "fb": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "rb": (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0),
    "alpha": (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "top": (1, 2, 3, 4, 6, 8, 11, 16, 24, 40),
}
"""The grid that a search begins with."""
STEPS: dict[str, tuple[float, ...]] = {
    "fb": (0.05, 0.02, 0.01, 0.01, 0.01),
    "rb": (0.5, 0.2, 0.1, 0.05, 0.01),
    "alpha": (0.05, 0.02, 0.01, 0.01, 0.01),
    "top": (4, 2, 1, 1, 1),
}
"""The steps of the refinements."""
_RANGES = {"fb": (0.0, 1.0), "rb": (0.0, math.inf), "alpha": (0.0, 1.0), "top": (1, math.inf)}


@dataclass(frozen=True)
class SweptPoint:
    """A method at a setting, and why it is in the sweep: "baseline", "published" or "grid"."""

    method: MethodConfig
    threshold: ThresholdConfig
    origin: str

    @property
    def label(self) -> str:
        """Its name for people."""
        return label(self.method, self.threshold)

    @cached_property
    def key(self) -> str:
        """The hash of all that the method heeds: equal for two ways of writing one setting."""
        return config_hash({"method": settings(*self.setting), "threshold": thresholds_of(*self.setting)})

    @property
    def live(self) -> bool:
        """True where it can run live; the stop rule oracle can only be replayed."""
        return live_refusal(self.method, "fused") is None

    @property
    def setting(self) -> Setting:
        """The pair that trees and measurements take."""
        return self.method, self.threshold

    def recorded(self) -> tuple[Method, Threshold]:
        """Return method and thresholds as the records of measured points have them; null for what is not heeded."""
        return recorded(settings(*self.setting), thresholds_of(*self.setting))


def vanilla_point() -> SweptPoint:
    """Return the baseline of every speedup."""
    return SweptPoint(MethodConfig("vanilla"), ThresholdConfig(), BASELINE)


def points_of(method: MethodConfig, axes: Mapping[str, Sequence[float]]) -> list[SweptPoint]:
    """Return a method at every combination of the values of its thresholds."""
    names = tuple(axes)
    return [
        SweptPoint(method, ThresholdConfig(**dict(zip(names, values, strict=True))), GRID)  # type: ignore[arg-type]
        for values in product(*axes.values())
    ]


def grid_points(
    grid: GridConfig,
    task: TaskConfig,
    base: MethodConfig,
    published: Iterable[Setting] = (),
) -> list[SweptPoint]:
    """Return all points of a sweep, each setting once: vanilla, other baselines, published settings, then the grid.

    `base` has the switches that all points of the grid share. BildError where a threshold has no values.
    """
    usual = ThresholdConfig()
    found = [vanilla_point(), SweptPoint(MethodConfig("small"), usual, BASELINE)]
    found += [SweptPoint(MethodConfig("speculative", max_draft=k), usual, BASELINE) for k in grid.windows]
    found += [SweptPoint(*setting, PUBLISHED) for setting in published]
    for method in grid.variants(base):
        found += points_of(method, grid.axes(method, task.kinds))
    return once(found)


def once(points: Iterable[SweptPoint]) -> list[SweptPoint]:
    """Return each setting once, for the first reason that it is there for."""
    found: dict[str, SweptPoint] = {}
    for point in points:
        found.setdefault(point.key, point)
    return list(found.values())


def begun(bases: Sequence[MethodConfig]) -> list[SweptPoint]:
    """Return the points that a search over these methods begins with."""
    return [point for base in bases for point in points_of(base, {name: COARSE[name] for name in searched(base)})]


def searched(method: MethodConfig) -> list[str]:
    """Return the thresholds that a search varies, fb of a window included: 0 is the window itself."""
    usual = ThresholdConfig()
    names = {*thresholds_of(method, usual), *heeds(method, usual) & {"fb"}}
    return [name for name in THRESHOLDS if name in names]


def neighbours(point: SweptPoint, steps: Mapping[str, float]) -> list[SweptPoint]:
    """Return a point and those one step away in any of its thresholds."""
    axes = {}
    for name, step in steps.items():
        value, (low, high) = getattr(point.threshold, name), _RANGES[name]
        near = (min(high, max(low, value + way * step)) for way in (-1, 0, 1))
        axes[name] = [int(each) if name == "top" else round(each, 2) for each in near]
    return points_of(point.method, axes)
