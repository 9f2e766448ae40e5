"""Choose here, confirm there: the two sets of examples, and the ledger of what was confirmed on a set before.

A choice is looked at once on examples that had no say in it. Every further look at the same examples with another
choice makes it likelier that one of them passes by luck, so looks are counted, in a file that outlives a kill.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bild.errors import BildError
from bild.results.ledger import LEDGER, LedgerEntry
from bild.results.lines import append_lines, read_lines
from bild.sweep.config import SweepConfig
from bild.sweep.context import Work
from bild.sweep.grid import SweptPoint
from bild.tasks import Dataset
from bild.tasks.dataset import place

_SPLIT_SEED = -1


def divide(config: SweepConfig) -> tuple[Work, Work]:
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
    return Work.open(_on(config, own)), Work.open(_on(config, other))


def _parts(config: SweepConfig, pick: Callable[[Dataset], set[str]]) -> tuple[Work, Work]:
    here, there = Work.open(config, pick), Work.open(config, lambda data: {e.id for e in data.examples} - pick(data))
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
    try:
        names = {line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise BildError(f"sweep.choose={path} could not be read ({error}): give a file with one id a line.") from None
    if unknown := sorted(names - {example.id for example in data.examples}):
        raise BildError(f"sweep.choose={path} has the id {unknown[0]}, which no example of the task has.")
    return names


def enter(work: Work, points: Sequence[SweptPoint], bound: float) -> list[LedgerEntry]:
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
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        judged=work.data.provenance["hash"],
    )
    earlier = [look for look in read_lines(LedgerEntry, path) if look.data == own.data]
    if own.points not in [look.points for look in earlier]:
        append_lines(path, [own])
    return [look for look in earlier if look.points != own.points]
