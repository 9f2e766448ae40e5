"""`sweep.find`: thresholds are searched on the examples that are chosen on, and confirmed once on the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bild.errors import BildError
from bild.metrics.claims import Verdict, holm, verdict
from bild.results import Record
from bild.results.ledger import LedgerEntry
from bild.sweep.config import Goal, SweepConfig
from bild.sweep.confirm import divide, enter
from bild.sweep.context import GrownTree, Work
from bild.sweep.drive import measure_fixed
from bild.sweep.grid import SweptPoint, vanilla_point
from bild.sweep.predict import Candidate
from bild.sweep.pricing import Pricing
from bild.sweep.search import Answer, Found, Search


@dataclass(frozen=True)
class Confirmed:
    """A chosen setting, as it was measured where it was not chosen."""

    found: Found
    record: Record
    verdict: Verdict


@dataclass(frozen=True)
class Confirmation:
    """What became of the chosen settings on the other examples."""

    split: str
    points: list[Confirmed]
    earlier: list[LedgerEntry]
    """Other settings of this pair that were looked at on these examples before."""
    failed: list[str]


@dataclass(frozen=True)
class Outcome:
    """A search and its confirmation, which is none where nothing was found or none was wanted."""

    answer: Answer
    split: str
    """That was chosen on."""
    config: SweepConfig
    """Of what confirms, or else of what was chosen on: the options of the command that runs what was found."""
    confirmation: Confirmation | None


def find(config: SweepConfig, goal: Goal) -> Outcome:
    """Search over the thresholds of every rule set and draft limit of a sweep; confirm what is found."""
    here, there = divide(config)
    answer = search(here, goal)
    confirmation = None
    if answer.chosen and config.sweep.confirm:
        confirmation = confirm(there, spread_out(answer.chosen, max(1, config.sweep.front)), goal)
    return Outcome(answer, here.config.task.split, there.config, confirmation)


def search(work: Work, goal: Goal) -> Answer:
    """Search on the tree of these examples."""
    grown = GrownTree(work)
    with work.locked():
        usual = vanilla_point()
        replay = grown.replays([usual])[0]
        prices = Pricing(work, grown.tree.path).prices()
        predictor = grown.predictor

        def evaluate(points: Sequence[SweptPoint]) -> list[Candidate]:
            found = [predictor.candidate(p, r, prices) for p, r in zip(points, grown.replays(points), strict=True)]
            return [dataclasses.replace(candidate, replay=None) for candidate in found]

        vanilla = predictor.candidate(usual, replay, prices)
        return Search(goal, evaluate, predictor, vanilla).run(work.config.sweep.variants(work.config.method))


def spread_out(front: Sequence[Found], most: int) -> list[Found]:
    """Return at most so many of a front, evenly from end to end."""
    if len(front) <= most:
        return list(front)
    return [front[i] for i in sorted({round(i) for i in np.linspace(0, len(front) - 1, most)})]


def confirm(work: Work, chosen: Sequence[Found], goal: Goal) -> Confirmation:
    """Measure the chosen settings on these examples, once, and judge them; several are judged together (Holm)."""
    points = [found.point for found in chosen]
    earlier = enter(work, points, goal.bound)
    fixed = measure_fixed(work, points)
    margin = goal.bound if goal.wanted != "quality" else work.config.measure.margin
    judged = []
    for found in chosen:
        if found.point.key not in fixed.points:
            continue
        record = fixed.points[found.point.key].record
        difference = record.headline_difference
        if difference is None:
            raise BildError(f"{record.label} has no paired difference to vanilla: delete its folder and run again.")
        judged.append(Confirmed(found, record, verdict(difference, margin, record.quality.examples)))
    if len(judged) > 1:
        level = work.config.measure.confidence
        together = holm([each.verdict for each in judged], level)
        judged = [dataclasses.replace(each, verdict=one) for each, one in zip(judged, together, strict=True)]
    return Confirmation(work.config.task.split, judged, earlier, fixed.failed)
