"""The points of a sweep: a method at a setting each, and why it is there. Without Hydra and without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import settings, thresholds_of
from bild.decoding.names import label
from bild.decoding.policies import live_refusal
from bild.results import Method, Threshold, config_hash
from bild.results.parts import recorded
from bild.sweep.config import GridConfig

BASELINE, PUBLISHED, GRID = "baseline", "published", "grid"
"""The reasons for which a point is in a sweep."""


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
    def setting(self) -> tuple[MethodConfig, ThresholdConfig]:
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
    published: Iterable[tuple[MethodConfig, ThresholdConfig]] = (),
) -> list[SweptPoint]:
    """Return all points of a sweep, each setting once: vanilla, other baselines, published settings, then the grid.

    `base` has the switches that all points of the grid share. BildError where a threshold has no values.
    """
    usual = ThresholdConfig()
    found = [vanilla_point(), SweptPoint(MethodConfig("small"), usual, BASELINE)]
    found += [SweptPoint(MethodConfig("speculative", max_draft=k), usual, BASELINE) for k in grid.windows]
    found += [SweptPoint(*setting, PUBLISHED) for setting in published]
    for method in grid.variants(base):
        found += points_of(method, grid.axes(method, task.kind))
    return once(found)


def once(points: Iterable[SweptPoint]) -> list[SweptPoint]:
    """Return each setting once, for the first reason that it is there for."""
    found: dict[str, SweptPoint] = {}
    for point in points:
        found.setdefault(point.key, point)
    return list(found.values())
