"""`sweep.find`: thresholds are searched on the examples that are chosen on, and confirmed once on the others.

A choice is looked at once on examples that had no say in it. Every further look at the same examples with another
choice makes it likelier that one of them passes by luck, so looks are counted, in a file that outlives a kill.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bild.config import ThresholdConfig
from bild.decoding.policies import writes_vanilla
from bild.errors import BildError, refusing
from bild.metrics.claims import Verdict, holm, verdict_of
from bild.progress import collector_off, timestamp
from bild.results import Point
from bild.results.codec import append_lines, read_lines
from bild.results.files import read_file
from bild.results.predicted import LEDGER, LedgerEntry, MethodChoice
from bild.sweep.config import Goal, SweepConfig
from bild.sweep.context import GrownTree, SweepWork
from bild.sweep.drive import measure_fixed
from bild.sweep.grid import SweptPoint, once, vanilla_point
from bild.sweep.predict import Candidate
from bild.sweep.pricing import Pricing
from bild.sweep.search import Answer, Found, Search, spread_out
from bild.tasks import Dataset
from bild.tasks.dataset import place

_SPLIT_SEED = -1


@dataclass(frozen=True)
class Confirmed:
    """A chosen setting, as it was measured where it was not chosen."""

    found: Found
    measured: Point
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
        confirmation = confirm(there, answer)
    return Outcome(answer, here.config.task.split, there.config, confirmation)


def search(work: SweepWork, goal: Goal) -> Answer:
    """Search on the tree of these examples."""
    grown = GrownTree(work)
    with work.locked():
        usual = vanilla_point()
        replay = grown.replays([usual])[0]
        prices = Pricing(work, grown.tree.path).prices()
        predictor = grown.predictor

        def evaluate(points: Sequence[SweptPoint]) -> list[Candidate]:
            found: list[Candidate] = []
            for replays in grown.in_turn(points):
                with collector_off():
                    found += [
                        dataclasses.replace(predictor.candidate(point, replay, prices), replay=None)
                        for point, replay in zip(points[len(found) :], replays, strict=False)
                    ]
            return found

        vanilla = predictor.candidate(usual, replay, prices)
        return Search(goal, evaluate, predictor, vanilla).run(work.config.sweep.variants(work.config.method))


def confirm(work: SweepWork, answer: Answer) -> Confirmation:
    """Measure the chosen settings on these examples, once, and judge them; several are judged together (Holm)."""
    goal, chosen = answer.goal, answer.chosen
    if goal.wanted == "front":
        chosen = spread_out(chosen, max(1, work.config.sweep.front))
    points = once([found.point for found in chosen])
    earlier = enter(work, points, goal.bound, choices_of(answer))
    measured, failed = measure_fixed(work, points)
    judged = []
    for found in chosen:
        if found.point.key not in measured:
            continue
        margin = {"quality": work.config.measure.margin, "methods": found.bound}.get(goal.wanted, goal.bound)
        point = measured[found.point.key]
        own = verdict_of(point.record, margin)
        if own is None:
            what = f"{point.record.label} has no paired difference to vanilla"
            raise BildError(f"{what}: delete its folder and run again.")
        judged.append(Confirmed(found, point, own))
    if len(judged) > 1:
        together = holm([each.verdict for each in judged], work.config.measure.confidence)
        judged = [dataclasses.replace(each, verdict=one) for each, one in zip(judged, together, strict=True)]
    return Confirmation(work.config.task.split, judged, earlier, failed)


def choices_of(answer: Answer) -> list[MethodChoice]:
    """Return what a search of methods chose, for the ledger; nothing of another search."""
    if answer.goal.wanted != "methods":
        return []
    return [
        *(
            MethodChoice(
                found.point.method.name,
                found.bound,
                found.point.key,
                found.estimate.difference.lower,
                found.estimate.speedup,
                writes_vanilla(found.point.method, ThresholdConfig()),
            )
            for found in answer.chosen
        ),
        *(MethodChoice(*lacking) for lacking in answer.none),
    ]


def divide(config: SweepConfig) -> tuple[SweepWork, SweepWork]:
    """Return the examples to choose on and, apart from them, those to confirm on.

    BildError where a split, a file or an example is missing, or one of the two would be empty.
    """
    task, choose = config.task, config.sweep.choose
    share = config.sweep.share if choose is not None else None if task.confirm else 0.5
    if share is not None:
        return _parts(config, lambda data: _first(data, share))
    if choose is not None and ("/" in choose or Path(choose).is_file()):
        return _parts(config, lambda data: _listed(Path(choose), data))
    own = choose or task.split
    other = task.confirm if task.confirm not in (None, own) else task.split
    if other == own:
        raise BildError(
            f"task={task.name} names no split beside {own} to confirm on: give task.confirm=..., or sweep.choose=0.5 "
            "to choose on one half of it and confirm on the other."
        )
    return SweepWork(_on(config, own)), SweepWork(_on(config, other))


def _parts(config: SweepConfig, pick: Callable[[Dataset], set[str]]) -> tuple[SweepWork, SweepWork]:
    here, there = (SweepWork(config, pick), SweepWork(config, lambda data: {e.id for e in data.examples} - pick(data)))
    if not (len(here.data) and len(there.data)):
        raise BildError(
            f"sweep.choose={config.sweep.choose or 0.5} leaves one side without examples: choose on some of them only."
        )
    return here, there


def _on(config: SweepConfig, split: str) -> SweepConfig:
    return dataclasses.replace(config, task=dataclasses.replace(config.task, split=split))


def _first(data: Dataset, share: float) -> set[str]:
    """Return a share of the examples, by the ids alone, so it does not change with a random generator's version."""
    names = sorted((example.id for example in data.examples), key=lambda name: place(name, _SPLIT_SEED))
    return set(names[: math.ceil(share * len(names))])


def _listed(path: Path, data: Dataset) -> set[str]:
    with refusing(lambda why: f"sweep.choose={path} could not be read ({why}): give a file with one id a line."):
        names = {line.strip() for line in read_file(path).decode().splitlines() if line.strip()}
    if unknown := sorted(names - {example.id for example in data.examples}):
        raise BildError(f"sweep.choose={path} has the id {unknown[0]}, which no example of the task has.")
    return names


def enter(
    work: SweepWork, points: Sequence[SweptPoint], bound: float, choices: Sequence[MethodChoice] = ()
) -> list[LedgerEntry]:
    """Write down that these settings are about to be looked at; return the earlier looks at the same examples.

    The same settings again are the same look.
    """
    path = work.folder / LEDGER
    own = LedgerEntry(
        data=work.full.provenance["hash"],
        split=work.config.task.split,
        points=sorted(point.key for point in points),
        labels=[point.label for point in points],
        bound=bound,
        created=timestamp(),
        judged=work.data.provenance["hash"],
        choices=list(choices),
    )
    earlier = [look for look in read_lines(LedgerEntry, path) if look.data == own.data]
    if (own.points, own.choices) not in [(look.points, look.choices) for look in earlier]:
        append_lines(path, [own])
    return [look for look in earlier if look.points != own.points]
