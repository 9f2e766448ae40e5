"""The options of a sweep, and the points that they stand for. Plain dataclasses without Hydra and without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from statistics import NormalDist
from typing import ClassVar

from bild.config import MAX_DRAFT, METHODS, POINTS, RULES, MethodConfig, RunConfig, ThresholdConfig
from bild.decoding import thresholds_of
from bild.decoding.methods import heeds
from bild.decoding.policies import live_refusal, writes_vanilla
from bild.decoding.rules import AUTO
from bild.errors import BildError
from bild.options import LONG, MANY, check_fields, number, word
from bild.sweep.ray_cluster import Workers

PLANS = ("show", "only")
FINDS = ("speedup", "quality", "front", "methods")
THRESHOLDS = ("fb", "rb", "alpha", "top")
"""The thresholds that a sweep may vary."""
ANY = "any"
"""The key, among the kinds of task, of thresholds for all of them."""


@dataclass
class KindGrid:
    """The thresholds that one kind of task is swept over."""

    fb: list[float] = number(list, 0, 1)
    rb: list[float] = number(list, 0, math.inf)
    alpha: list[float] = number(list, 0, 1)
    top: list[int] = number(list, 1, 10**6)

    def __post_init__(self) -> None:
        check_fields("sweep.kinds", self)


@dataclass
class LengthConfig:
    """Mean tokens of a task's sources and outputs, for estimates only."""

    source: int = number(MISSING, 1, LONG)
    target: int = number(MISSING, 1, LONG)

    def __post_init__(self) -> None:
        check_fields("lengths", self)


@dataclass(frozen=True)
class Goal:
    """The goal of a search: the most "speedup" or "quality" while the other keeps its bound, or the whole "front".

    "methods": the most speedup of each method, at each of some margins. `bound` is the points of quality below vanilla
    that may be lost, or the speedup that must be kept. `reach` is how far below its estimate a difference is to keep
    the bound, in distances of its lower end.
    """

    wanted: str
    bound: float = 0.0
    margins: tuple[float, ...] = ()
    reach: float = 1.0

    def __str__(self) -> str:
        margins = ",".join(f"{margin:g}" for margin in self.margins)
        bounds = {"speedup": f"margin={self.bound:g}", "quality": f"at_least={self.bound:g}"}
        bounds["methods"] = f"margins=[{margins}]"
        return f"sweep.find={self.wanted}" + (f" sweep.{bounds[self.wanted]}" if self.wanted in bounds else "")


@dataclass
class GridConfig:
    """The points that a sweep predicts, and how it measures those that matter."""

    methods: list[str] = word(list, METHODS)
    """The methods that are swept, each over the thresholds that it heeds; empty: the one that `method` names."""
    fb: list[float] = number(list, 0, 1, what="the fallback threshold is a probability,")
    rb: list[float] = number(list, 0, math.inf)
    alpha: list[float] = number(list, 0, 1, what="what a drafted token may lose is a probability or a share,")
    top: list[int] = number(list, 1, 10**6)
    max_draft: list[int] = number(lambda: [MAX_DRAFT], 1, 1024, what="the tokens of a draft are")
    rules: list[str] = word(lambda: ["paper"], RULES)
    first: list[str] = word(list, ("large", "small"))
    """The model that writes the first token, "large", "small" or both in turn; empty: as `method.first` says."""
    kinds: dict[str, KindGrid] = field(default_factory=dict)
    """Thresholds by kind of task, or for "any", where a list above is empty."""
    windows: list[int] = number(lambda: [4, 10], 1, 1024, what="the tokens of a draft are")
    """Drafts of exact speculative decoding, a baseline."""
    published: bool = True
    """Measure the paper's settings for this task and pair too."""
    front: int = number(8, -1, 10**6)
    """At most so many points of the predicted front are measured live; -1: every point of the grid."""
    width: float = number(0.03, 0.001, 1, what="0.03 asks for speedups known to 3 %,")
    """Examples are added until every speedup's interval is at most this wide on either side, relative."""
    minutes: float = number(60.0, 0, math.inf)
    """But no more are begun after so much measuring."""
    least: int = number(32, 2, MANY)
    """Examples of the first stage; every further stage has at most twice as many."""
    calibration: float = number(20.0, 0, 3600, above=True)
    """Seconds of live decoding that the prices are taken from before anything is predicted."""
    find: str | None = word(None, FINDS)
    """Search the thresholds instead of measuring: "speedup" for the fastest within `margin`, "quality" for the best
    that is `at_least` so fast, "front" for the whole front, "methods" for the fastest of each of `methods` within each
    of `margins`."""
    margin: float | None = number(None, -100, 100, what=POINTS)
    """Points of quality, against vanilla, that `find=speedup` may lose; None: `measure.margin`."""
    margins: list[float] = number(list, 0, 100, what=POINTS)
    """Points of quality that `find=methods` may lose, one after another; empty: 0, 0.5 and 1."""
    at_least: float | None = number(None, 0, 1000, above=True)
    """The speedup over vanilla that `find=quality` must keep."""
    choose: str | None = None
    """The examples that `find` chooses on: a split, a share (0.5) of the task's split, or a file of ids. None: the
    task's split where the task names another one to confirm on, else half of it."""
    power: float | None = number(None, 0.5, 0.999)
    """Choose what a confirmation on as many examples shows with this chance, if its difference there is as here, judged
    with all that is chosen beside it. None: what keeps its margin by the lower end, an even chance at the edge."""
    confirm: bool = True
    """Measure what `find` chose on the other examples, once; each time is counted."""
    settle: float = number(10.0, 0, math.inf)
    """Minutes of decoding live, untimed, for texts with a decision within rounding; what is left stays as replayed."""
    workers: str | None = None
    """Processes that share the growing of the tree (docs/sweep.md); None: this one alone."""

    def __post_init__(self) -> None:
        check_fields("sweep", self)
        if not self.max_draft or not self.rules:
            raise BildError("sweep.max_draft and sweep.rules need at least one value each.")
        self._check_goal()
        if self.workers is not None:
            Workers.parse(self.workers)

    def variants(self, base: MethodConfig) -> list[MethodConfig]:
        """Return the methods that are swept: each with every rule set that it has, first writer and draft limit."""
        writers: Sequence[str | None] = self.first or [base.first]
        return [
            dataclasses.replace(base, name=name, rules=rules, first=first, max_draft=limit)
            for name in self.methods or [base.name]
            for rules in (self.rules if METHODS[name].rule_sets else [base.rules])
            for first in writers
            for limit in self.max_draft
        ]

    def axes(self, method: MethodConfig, names: Sequence[str]) -> dict[str, Sequence[float]]:
        """Return the values of each threshold that a method is swept over on a kind of task, by its names (`kinds`).

        A threshold that the method could do without (a window's fb, a cap) is swept only where its list was given.
        BildError where nothing has values of one that it needs.
        """
        needed, heeded = thresholds_of(method, ThresholdConfig()), heeds(method, ThresholdConfig())
        found: dict[str, Sequence[float]] = {}
        for name in THRESHOLDS:
            if name in heeded and (given := getattr(self, name)):
                found[name] = given
            elif name in needed:
                usual = (self.kinds[each] for each in (*reversed(names), ANY) if each in self.kinds)
                found[name] = next((values for each in usual if (values := getattr(each, name))), [])
        if lacking := [name for name, values in found.items() if not values]:
            hints = {"fb": "0.3,0.6,0.9", "rb": "1,3,5", "alpha": "0.05,0.1,0.2", "top": "2,3,5"}
            give = " and ".join(f"sweep.{name}=[{hints[name]}]" for name in lacking)
            raise BildError(f"The grid has no thresholds of method={method.name} for {names[-1]}: give {give}.")
        return found

    @property
    def share(self) -> float | None:
        """Return the share of a split that `choose` names; None where it names something else."""
        try:
            return None if self.choose is None else float(self.choose)
        except ValueError:
            return None

    def _check_goal(self) -> None:
        if self.share is not None and not 0 < self.share < 1:
            raise BildError(f"sweep.choose={self.choose} is out of range: a share lies between 0 and 1.")
        for name, value, wanted in (
            ("margin", self.margin, "speedup"),
            ("margins", self.margins or None, "methods"),
            ("at_least", self.at_least, "quality"),
        ):
            if value is not None and self.find != wanted:
                raise BildError(f"sweep.{name} has no effect here: leave it out, or search with sweep.find={wanted}.")
        given = [name for name in THRESHOLDS if getattr(self, name)]
        if self.find is not None and given:
            raise BildError(
                f"sweep.{given[0]} has no effect beside sweep.find={self.find}, which tries all of them: leave it out."
            )
        if self.power is not None and self.find not in ("speedup", "methods"):
            raise BildError(
                "sweep.power has no effect here: leave it out, or search with sweep.find=speedup or sweep.find=methods."
            )
        if self.choose is not None and self.find is None:
            raise BildError("sweep.choose has no effect here: leave it out, or search with sweep.find=speedup.")
        if self.find == "quality" and self.at_least is None:
            raise BildError("sweep.find=quality needs the speedup that must be kept, above 0: give sweep.at_least=1.8.")

    def goal(self, margin: float, confidence: float = 0.95) -> Goal | None:
        """Return the goal that `find` and its bound ask for; `margin` and `confidence` are those of claims."""
        if self.find is None:
            return None
        if self.find == "methods":
            margins = tuple(sorted({*self.margins})) or (0.0, 0.5, 1.0)
            lossy = sum(not writes_vanilla(MethodConfig(name), ThresholdConfig()) for name in self.methods)
            return Goal(self.find, margins[-1], margins, self._reach(confidence, lossy * len(margins)))
        bounds = {"speedup": margin if self.margin is None else self.margin, "quality": self.at_least or 0.0}
        return Goal(self.find, bounds.get(self.find, margin), reach=self._reach(confidence, 1))

    def _reach(self, confidence: float, claims: int) -> float:
        """Return `Goal.reach` for `power`, where the first of so many claims must stand against all (Holm)."""
        if self.power is None:
            return 1.0
        z = NormalDist().inv_cdf
        return (z(1 - (1 - confidence) / max(1, claims)) + z(self.power)) / z(confidence)


def widest_draft(grid: GridConfig) -> int:
    """Return the most tokens of a draft among the points."""
    return max(*grid.max_draft, *grid.windows, 2)


@dataclass
class SweepConfig(RunConfig):
    """The options of `bild sweep`: those of a run, with a grid in the place of a point."""

    GROUPS: ClassVar[tuple[str, ...]] = (
        "task",
        "model",
        "method",
        "threshold",
        "engine",
        "decode",
        "experiment",
        "sweep",
    )
    OWN: ClassVar[dict[str, str]] = {
        "threshold": "sweep.fb=[...], sweep.rb=[...], sweep.alpha=[...] or sweep.top=[...]",
        "threshold.*": "sweep.fb=[...], sweep.rb=[...], sweep.alpha=[...] or sweep.top=[...]",
        "method.rules": "sweep.rules=[...]",
        "method.max_draft": "sweep.max_draft=[...]",
        "experiment": "task=..., model=... and sweep=paper",
    }

    sweep: GridConfig = field(default_factory=GridConfig)
    lengths: dict[str, LengthConfig] = field(default_factory=dict)
    """Lengths that a plan assumes before it has seen any data, by task."""
    plan: str = "show"

    @property
    def goal(self) -> Goal | None:
        """What a search looks for; None where nothing is searched."""
        return self.sweep.goal(self.measure.margin, self.measure.confidence)

    def __post_init__(self) -> None:
        """Check the methods of the sweep: a replay takes some that no live run can."""
        check_fields("", self)
        if self.plan not in PLANS:
            raise BildError(f"plan={self.plan} is not known: plan=only shows what a sweep would do, and runs nothing.")
        grid, base = self.sweep, self.method
        if grid.methods and base.name not in ("bild", *grid.methods):
            raise BildError(f"method={base.name} has no effect beside sweep.methods: name it in that list instead.")
        for name in grid.methods or [base.name]:
            if METHODS[name].exits:
                raise BildError(f"method={name} cannot be swept: a decision tree holds what whole models say.")
            if METHODS[name].stop is None:
                raise BildError(f"method={name} has no thresholds to sweep: it is a baseline of every sweep already.")
        if base.max_draft == AUTO:
            raise BildError("method.stop=auto goes by costs that only a live run measures: no sweep can predict it.")
        methods = grid.variants(base)
        heeded = frozenset[str]().union(*(heeds(method, ThresholdConfig()) for method in methods))
        for option in THRESHOLDS:
            if getattr(grid, option) and option not in heeded:
                names = ", ".join(dict.fromkeys(method.name for method in methods))
                raise BildError(
                    f"sweep.{option} has no effect on {names}: leave it out, or sweep a method that uses it."
                )
        if grid.find is not None and any(live_refusal(method, self.engine.name) for method in methods):
            raise BildError("sweep.find looks for settings that can run live, and stop=oracle cannot: leave it out.")
