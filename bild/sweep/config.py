"""The typed configuration of a sweep. Plain dataclasses without Hydra and without torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from bild.config import MAX_DRAFT, RULES, MethodConfig, RunConfig, ThresholdConfig, one_of
from bild.errors import BildError
from bild.sweep.ray_cluster import Workforce

PLANS = ("show", "only")
_FIND = re.compile(r"\s*(speedup|quality)\s+at\s+([+-]?\d+(?:\.\d+)?)\s*(x?)\s*")


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
    """What is searched for: the most of `wanted` ("speedup" or "quality") while the other keeps its bound.

    `bound` is a difference of quality to vanilla in points, or a speedup. Without one: the whole front.
    """

    wanted: str
    bound: float | None

    @staticmethod
    def parse(text: str) -> Goal:
        """From `speedup at -1.0`, `quality at 1.8x` or `front`. BildError for anything else."""
        if text.strip() == "front":
            return Goal("front", None)
        found = _FIND.fullmatch(text)
        if found is None or (found[1] == "speedup" and found[3]) or (found[1] == "quality" and float(found[2]) <= 0):
            raise BildError(
                f"sweep.find={text!r} is not known: write 'speedup at -1.0' (the fastest within a point of vanilla's "
                "quality), 'quality at 1.8x' (the best at least so fast), or front."
            )
        return Goal(found[1], float(found[2]))

    def __str__(self) -> str:
        if self.bound is None:
            return "front"
        return f"{self.wanted} at {self.bound:g}{'x' if self.wanted == 'quality' else ''}"


@dataclass
class GridConfig:
    """Which points a sweep predicts, and how it measures those that matter."""

    fb: list[float] = field(default_factory=list)
    rb: list[float] = field(default_factory=list)
    max_draft: list[int] = field(default_factory=lambda: [MAX_DRAFT])
    rules: list[str] = field(default_factory=lambda: ["paper"])
    first: list[str] = field(default_factory=list)
    """Who writes the first token, "large", "small" or both in turn; empty: as `method.first` says."""
    kinds: dict[str, KindGrid] = field(default_factory=dict)
    """Thresholds by kind of task, where `fb` or `rb` is empty."""
    windows: list[int] = field(default_factory=lambda: [4, 10])
    """Drafts of exact speculative decoding, a baseline."""
    published: bool = True
    """Whether the paper's settings for this task and pair are measured too."""
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
    """`speedup at -1.0`, `quality at 1.8x` or `front`: search the thresholds instead of measuring."""
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
        for name in ("front", "least"):
            if getattr(self, name) < (2 if name == "least" else -1):
                raise BildError(f"sweep.{name}={getattr(self, name)} is out of range: it is too small.")
        if not self.minutes >= 0 or not self.calibration > 0:
            raise BildError("sweep.minutes and sweep.calibration are times: give 0 or more, and more than 0.")
        if self.find is not None:
            Goal.parse(self.find)
        if self.workers is not None:
            Workforce.parse(self.workers)

    def variants(self, base: MethodConfig) -> list[MethodConfig]:
        """The methods that the thresholds are swept for: every rule set, first writer and draft limit."""
        writers: Sequence[str | None] = self.first or [base.first]
        return [
            dataclasses.replace(base, name="bild", rules=rules, first=first, max_draft=limit)
            for rules in self.rules
            for first in writers
            for limit in self.max_draft
        ]

    @property
    def goal(self) -> Goal | None:
        """What `find` asks for."""
        return None if self.find is None else Goal.parse(self.find)


def widest_draft(grid: GridConfig) -> int:
    """The most tokens of a draft among the points."""
    return max(*grid.max_draft, *grid.windows, 2)


@dataclass
class SweepConfig(RunConfig):
    """What `python -m bild.sweep` can be told: what a run can, a grid in the place of a point, and what to do."""

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
    """By task: what a plan assumes before it has seen any data."""
    plan: str = "show"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plan not in PLANS:
            raise BildError(f"plan={self.plan} is not known: plan=only shows what a sweep would do, and runs nothing.")
