"""The options of a sweep, and the points that they stand for. Plain dataclasses without Hydra and without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from bild.config import MAX_DRAFT, RULES, MethodConfig, RunConfig, TaskConfig, ThresholdConfig, at_least, one_of
from bild.decoding import settings, thresholds_of
from bild.decoding.names import label
from bild.errors import BildError
from bild.results import Method, Threshold, config_hash
from bild.sweep.ray_cluster import Workers

PLANS = ("show", "only")
BASELINE, PUBLISHED, GRID = "baseline", "published", "grid"
"""Why a point is in a sweep."""
FINDS = ("speedup", "quality", "front")


@dataclass
class KindGrid:
    """The thresholds that one kind of task is swept over."""

    fb: list[float] = field(default_factory=list)
    rb: list[float] = field(default_factory=list)


@dataclass
class LengthConfig:
    """Mean tokens of a task's sources and outputs, for estimates only."""

    source: int
    target: int


@dataclass(frozen=True)
class Goal:
    """The goal of a search: the most "speedup" or "quality" while the other keeps its bound, or the whole "front".

    `bound` is the points of quality below vanilla that may be lost, or the speedup that must be kept.
    """

    wanted: str
    bound: float = 0.0

    def __str__(self) -> str:
        key = {"speedup": f" sweep.margin={self.bound:g}", "quality": f" sweep.at_least={self.bound:g}"}
        return f"sweep.find={self.wanted}{key.get(self.wanted, '')}"


@dataclass
class GridConfig:
    """The points that a sweep predicts, and how it measures those that matter."""

    fb: list[float] = field(default_factory=list)
    rb: list[float] = field(default_factory=list)
    max_draft: list[int] = field(default_factory=lambda: [MAX_DRAFT])
    rules: list[str] = field(default_factory=lambda: ["paper"])
    first: list[str] = field(default_factory=list)
    """The model that writes the first token, "large", "small" or both in turn; empty: as `method.first` says."""
    kinds: dict[str, KindGrid] = field(default_factory=dict)
    """Thresholds by kind of task, where `fb` or `rb` is empty."""
    windows: list[int] = field(default_factory=lambda: [4, 10])
    """Drafts of exact speculative decoding, a baseline."""
    published: bool = True
    """Measure the paper's settings for this task and pair too."""
    front: int = 8
    """At most so many points of the predicted front are measured live; -1: every point of the grid."""
    width: float = 0.03
    """Examples are added until every speedup's interval is at most this wide on either side, relative."""
    minutes: float = 60.0
    """But no more are begun after so much measuring."""
    least: int = 32
    """Examples of the first stage; every further stage has at most twice as many."""
    calibration: float = 20.0
    """Seconds of live decoding that the prices are taken from before anything is predicted."""
    find: str | None = None
    """Search the thresholds instead of measuring: "speedup" for the fastest within `margin`, "quality" for the best
    that is `at_least` so fast, "front" for the whole front."""
    margin: float | None = None
    """Points of quality, against vanilla, that `find=speedup` may lose; None: 1, as in the paper's Table 1."""
    at_least: float | None = None
    """The speedup over vanilla that `find=quality` must keep."""
    workers: str | None = None
    """Processes that share the growing of the tree (docs/sweep.md); None: this one alone."""

    def __post_init__(self) -> None:
        for fb in self.fb:
            ThresholdConfig(fb=fb)
        for rb in self.rb:
            ThresholdConfig(rb=rb)
        for name, values in (("max_draft", self.max_draft), ("windows", self.windows)):
            if any(value < 1 for value in values):
                raise BildError(f"sweep.{name}={values} is out of range: a draft has 1 token or more.")
        for rules in self.rules:
            one_of("sweep.rules", rules, RULES)
        for first in self.first:
            one_of("sweep.first", first, ("large", "small"))
        if not self.max_draft or not self.rules:
            raise BildError("sweep.max_draft and sweep.rules need at least one value each.")
        if not 0.001 <= self.width <= 1:
            raise BildError(f"sweep.width={self.width:g} is out of range: 0.03 asks for speedups known to 3 %.")
        at_least("sweep.front", self.front, -1)
        at_least("sweep.least", self.least, 2)
        at_least("sweep.minutes", self.minutes, 0)
        if not self.calibration > 0:
            raise BildError(f"sweep.calibration={self.calibration:g} is out of range: give more than 0 seconds.")
        self._check_goal()
        if self.workers is not None:
            Workers.parse(self.workers)

    def variants(self, base: MethodConfig) -> list[MethodConfig]:
        """Return the methods that the thresholds are swept for: every rule set, first writer and draft limit."""
        writers: Sequence[str | None] = self.first or [base.first]
        return [
            dataclasses.replace(base, name="bild", rules=rules, first=first, max_draft=limit)
            for rules in self.rules
            for first in writers
            for limit in self.max_draft
        ]

    def _check_goal(self) -> None:
        one_of("sweep.find", self.find, FINDS)
        for name, value, wanted in (("margin", self.margin, "speedup"), ("at_least", self.at_least, "quality")):
            if value is not None and self.find != wanted:
                raise BildError(f"sweep.{name} has no effect here: leave it out, or search with sweep.find={wanted}.")
        if self.margin is not None and not math.isfinite(self.margin):
            raise BildError(f"sweep.margin={self.margin:g} is out of range: 1 allows a loss of one point of quality.")
        if self.find == "quality" and not (self.at_least is not None and 0 < self.at_least < math.inf):
            raise BildError("sweep.find=quality needs the speedup that must be kept, above 0: give sweep.at_least=1.8.")

    @property
    def goal(self) -> Goal | None:
        """The goal that `find` and its bound ask for."""
        if self.find is None:
            return None
        bounds = {"speedup": 1.0 if self.margin is None else self.margin, "quality": self.at_least or 0.0}
        return Goal(self.find, bounds.get(self.find, 0.0))


def widest_draft(grid: GridConfig) -> int:
    """The most tokens of a draft among the points."""
    return max(*grid.max_draft, *grid.windows, 2)


@dataclass
class SweepConfig(RunConfig):
    """The options of `python -m bild.sweep`: those of a run, with a grid in the place of a point."""

    GROUPS: ClassVar[tuple[str, ...]] = ("task", "model", "method", "threshold", "engine", "experiment", "sweep")
    OWN: ClassVar[dict[str, str]] = {
        "threshold": "sweep.fb=[...] and sweep.rb=[...]",
        "threshold.*": "sweep.fb=[...] and sweep.rb=[...]",
        "method": "sweep.rules=[...] and sweep.max_draft=[...]",
        "method.name": "sweep.rules=[...] and sweep.max_draft=[...]",
        "method.rules": "sweep.rules=[...]",
        "method.max_draft": "sweep.max_draft=[...]",
        "experiment": "task=..., model=... and sweep=paper",
    }

    sweep: GridConfig = field(default_factory=GridConfig)
    lengths: dict[str, LengthConfig] = field(default_factory=dict)
    """Lengths that a plan assumes before it has seen any data, by task."""
    plan: str = "show"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plan not in PLANS:
            raise BildError(f"plan={self.plan} is not known: plan=only shows what a sweep would do, and runs nothing.")


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
        threshold = thresholds_of(self.method, self.threshold)
        return config_hash({"method": settings(self.method, self.threshold), "threshold": threshold})

    @property
    def setting(self) -> tuple[MethodConfig, ThresholdConfig]:
        """The pair that trees and measurements take."""
        return self.method, self.threshold

    def recorded(self) -> tuple[Method, Threshold]:
        """Return method and thresholds as the records of measured points have them; null for what is not heeded."""
        switches = dict.fromkeys(field.name for field in dataclasses.fields(Method))
        method = Method(**(switches | settings(self.method, self.threshold)))  # type: ignore[arg-type]
        return method, Threshold(**({"fb": None, "rb": None} | thresholds_of(self.method, self.threshold)))


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
    grid: GridConfig,
    task: TaskConfig,
    base: MethodConfig,
    published: Iterable[tuple[MethodConfig, ThresholdConfig]] = (),
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
