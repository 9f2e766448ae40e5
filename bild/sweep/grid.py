"""The points of a sweep: the grid, the baselines beside it, and the paper's settings for the task and pair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import settings, thresholds_of
from bild.decoding.names import label
from bild.errors import BildError
from bild.results import config_hash
from bild.sweep.config import GridConfig
from bild.tree.walk import Setting

BASELINE, PUBLISHED, GRID = "baseline", "published", "grid"


@dataclass(frozen=True)
class SweptPoint:
    """A method at a setting, and why it is in the sweep: "baseline", "published" or "grid"."""

    method: MethodConfig
    threshold: ThresholdConfig
    why: str

    @property
    def label(self) -> str:
        """Its name for people."""
        return label(self.method, self.threshold)

    @property
    def key(self) -> str:
        """Equal for two ways of writing one setting."""
        return key_of(self.method, self.threshold)

    @property
    def setting(self) -> Setting:
        """What the tree and the bench take."""
        return self.method, self.threshold


def key_of(method: MethodConfig, threshold: ThresholdConfig) -> str:
    """The hash of all that a method heeds."""
    return config_hash({"method": settings(method, threshold), "threshold": thresholds_of(method, threshold)})


def thresholds(grid: GridConfig, task: TaskConfig) -> tuple[list[float], list[float]]:
    """(fallback, rollback) thresholds of a grid for a task. BildError where it has none for this kind of task."""
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
    """All points of a sweep, each setting once: baselines first, then published settings, then the grid.

    `base` has the switches that all points of the grid share.
    """
    usual = ThresholdConfig()
    found = [SweptPoint(MethodConfig(name), usual, BASELINE) for name in ("vanilla", "small")]
    found += [SweptPoint(MethodConfig("speculative", max_draft=k), usual, BASELINE) for k in grid.windows]
    found += [SweptPoint(*setting, PUBLISHED) for setting in published]
    fbs, rbs = thresholds(grid, task)
    for method in grid.variants(base):
        found += [SweptPoint(method, ThresholdConfig(fb, rb), GRID) for fb in fbs for rb in rbs]
    once: dict[str, SweptPoint] = {}
    for point in found:
        once.setdefault(point.key, point)
    return list(once.values())


def published_settings(conf: Path, task: str, model: str) -> list[Setting]:
    """The paper's settings for a task and a pair, from `conf/experiment/paper/`; none where it has none."""
    found: list[Setting] = []
    for path in sorted((conf / "experiment" / "paper").glob("*.yaml")):
        plain: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        chosen: dict[str, str] = {}
        for entry in plain.get("defaults", []):
            if isinstance(entry, dict):
                chosen |= {str(key).removeprefix("override /"): str(value) for key, value in entry.items()}
        if (chosen.get("task"), chosen.get("model"), chosen.get("method")) != (task, model, "bild"):
            continue
        found.append((MethodConfig("bild", **plain.get("method", {})), ThresholdConfig(**plain.get("threshold", {}))))
    return found
