"""The points of a sweep: baselines, the paper's settings for the task and pair, and the grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import settings
from bild.decoding.methods import USED
from bild.errors import BildError
from bild.results import config_hash, label
from bild.results.parts import Method, Threshold
from bild.sweep.config import GridConfig
from bild.tree.walk import Setting

BASELINE, PUBLISHED, GRID = "baseline", "published", "grid"


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
        return config_hash({"method": settings(self.method, self.threshold), "threshold": self._thresholds})

    @property
    def setting(self) -> Setting:
        """The pair that trees and measurements take."""
        return self.method, self.threshold

    def recorded(self) -> tuple[Method, Threshold]:
        """Return method and thresholds as the records of measured points have them; null for what is not heeded."""
        switches = dict.fromkeys(field.name for field in dataclasses.fields(Method))
        method = Method(**(switches | settings(self.method, self.threshold)))  # type: ignore[arg-type]
        return method, Threshold(**({"fb": None, "rb": None} | self._thresholds))

    @property
    def _thresholds(self) -> dict[str, float]:
        return {name: getattr(self.threshold, name) for name in sorted(USED[self.method.name]["threshold"])}


def vanilla_point() -> SweptPoint:
    """Return the baseline of every speedup."""
    return SweptPoint(MethodConfig("vanilla"), ThresholdConfig(), BASELINE)


def thresholds(grid: GridConfig, task: TaskConfig) -> tuple[list[float], list[float]]:
    """Return a grid's (fallback, rollback) thresholds for a task. BildError where it has none for this kind of task."""
    usual = grid.kinds.get(task.kind)
    fb = grid.fb or (usual.fb if usual else [])
    rb = grid.rb or (usual.rb if usual else [])
    if not fb or not rb:
        raise BildError(
            f"The grid has no thresholds for {task.kind}: give sweep.fb=[0.3,0.6,0.9] and sweep.rb=[1,3,5]."
        )
    return fb, rb


def grid_points(
    grid: GridConfig, task: TaskConfig, base: MethodConfig, published: Iterable[Setting]
) -> list[SweptPoint]:
    """Return all points of a sweep, each setting once: vanilla, other baselines, published settings, then the grid.

    `base` has the switches that all points of the grid share.
    """
    usual = ThresholdConfig()
    found = [vanilla_point(), SweptPoint(MethodConfig("small"), usual, BASELINE)]
    found += [SweptPoint(MethodConfig("speculative", max_draft=k), usual, BASELINE) for k in grid.windows]
    found += [SweptPoint(*setting, PUBLISHED) for setting in published]
    fbs, rbs = thresholds(grid, task)
    for method in grid.variants(base):
        found += [SweptPoint(method, ThresholdConfig(fb, rb), GRID) for fb in fbs for rb in rbs]
    once: dict[str, SweptPoint] = {}
    for point in found:
        once.setdefault(point.key, point)
    return list(once.values())
