"""What others published: the paper's tables and curves, and the reproduction on a T4. Data in `bild/report/data/`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bild.results import Record

DATA = Path(__file__).with_name("data")
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's Table 1: its score, its speedup, and the thresholds that the reproduction lists for it."""

    task: str
    pair: str
    pick: str
    score: float
    speedup: float | None
    rb: float | None
    fb: float | None
    unconfirmed: bool = False


@dataclass(frozen=True)
class Reproduced:
    """A point of the reproduction: `speedup` is its vanilla's milliseconds a sample over its own; scores by name."""

    task: str
    pair: str
    fb: float | None
    rb: float | None
    samples: int
    ms_per_sample: float
    speedup: float
    scores: dict[str, float]


@cache
def paper() -> dict[str, Any]:
    """`paper.yaml` as it is."""
    data: dict[str, Any] = yaml.safe_load((DATA / "paper.yaml").read_text(encoding="utf-8"))
    return data


def kind_of_pair(name: str) -> str | None:
    """`aligned` or `unaligned`: which of the paper's pairs one of ours is, or None."""
    return next((kind for kind, names in paper()["pairs"].items() if name in names), None)


def table1(task: str) -> list[PaperRow]:
    """The rows of one task, vanilla first; empty for a task that the paper does not have."""
    found = paper()["table1"].get(task)
    if found is None:
        return []
    first = PaperRow(task, "", "vanilla", found["vanilla"], 1.0, None, None)
    return [first, *(PaperRow(task=task, **row) for row in found["rows"])]


def paper_examples(task: str) -> int:
    """How many examples the paper decoded."""
    return int(paper()["table1"][task]["examples"])


def curve(figure: str, task: str, name: str) -> Curve:
    """A curve of `fig4`, `fig5` or `fig6` as (speedup or latency, score); empty where the paper has none."""
    return tuple((float(x), float(y)) for x, y in paper()[figure].get(task, {}).get(name, ()))


@cache
def reproduction() -> tuple[Reproduced, ...]:
    """Every point of the reproduction, its vanilla points among them."""
    with (DATA / paper()["reproduction"]["file"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    vanilla = {row["task"]: float(row["ms_per_sample"]) for row in rows if row["pair"] == "vanilla"}
    names = ("bleu", "rouge1", "rouge2", "rougeL", "rougeLsum")
    return tuple(
        Reproduced(
            row["task"],
            row["pair"],
            float(row["fallback"]) if row["fallback"] else None,
            float(row["rollback"]) if row["rollback"] else None,
            int(row["samples"]),
            float(row["ms_per_sample"]),
            vanilla[row["task"]] / float(row["ms_per_sample"]),
            {name: float(row[name]) for name in names if row[name]},
        )
        for row in rows
    )


@dataclass(frozen=True)
class Overlay:
    """What stands quietly behind the front of a task and pair: the curve of Fig. 4, Table 1, the reproduction."""

    curve: Curve
    picks: tuple[PaperRow, ...]
    reproduced: tuple[tuple[float, float], ...]

    @property
    def points(self) -> list[tuple[float, float]]:
        """Everything as (speedup, score)."""
        return [*self.curve, *((row.speedup or 1.0, row.score) for row in self.picks), *self.reproduced]


def overlay(record: Record) -> Overlay | None:
    """The overlay for the task, pair and metric of a record, or None."""
    kind = kind_of_pair(record.pair.name)
    if kind is None or record.quality.headline not in ("bleu", "rougeLsum"):
        return None
    rows = tuple(row for row in table1(record.task.name) if row.pair == kind)
    if not rows:
        return None
    theirs = tuple(
        (point.speedup, point.scores[record.quality.headline])
        for point in reproduction()
        if point.task == record.task.name and point.pair == kind and record.quality.headline in point.scores
    )
    return Overlay(curve("fig4", record.task.name, kind), rows, theirs)
