"""Published figures, and ours beside them: the paper's tables and curves, the reproduction on a T4 (`data/`)."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bild.config import MethodConfig
from bild.decoding import policies as names
from bild.report.format import DASH, machine_name, metric_name, number, spread
from bild.report.sections import Section
from bild.report.table import Column, Table
from bild.results import Record

DATA = Path(__file__).with_name("data")
ROUNDING = 0.1
"""Points by which two scores of the same texts may differ: numeric precision, versions of the libraries."""
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
    """A point of the reproduction: `speedup` is its vanilla's time a sample over its own; scores by name."""

    task: str
    pair: str
    fb: float | None
    rb: float | None
    samples: int
    speedup: float
    scores: dict[str, float]


@cache
def paper() -> dict[str, Any]:
    """Return `paper.yaml` as it is."""
    data: dict[str, Any] = yaml.safe_load((DATA / "paper.yaml").read_text(encoding="utf-8"))
    return data


def kind_of_pair(name: str) -> str | None:
    """Return `aligned` or `unaligned`, which of the paper's pairs one of ours is, or None."""
    return next((kind for kind, names in paper()["pairs"].items() if name in names), None)


def table1(task: str) -> list[PaperRow]:
    """Return the rows of one task, vanilla first; empty for a task that the paper does not have."""
    found = paper()["table1"].get(task)
    if found is None:
        return []
    first = PaperRow(task, "", "vanilla", found["vanilla"], 1.0, None, None)
    return [first, *(PaperRow(task=task, **row) for row in found["rows"])]


def paper_examples(task: str) -> int:
    """Return how many examples the paper decoded."""
    return int(paper()["table1"][task]["examples"])


def curve(figure: str, task: str, name: str) -> Curve:
    """Return a curve of `fig4`, `fig5` or `fig6` as (speedup or latency, score); empty where the paper has none."""
    return tuple((float(x), float(y)) for x, y in paper()[figure].get(task, {}).get(name, ()))


@cache
def reproduction() -> tuple[Reproduced, ...]:
    """Return every point of the reproduction, its vanilla points among them."""
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
            vanilla[row["task"]] / float(row["ms_per_sample"]),
            {name: float(row[name]) for name in names if row[name]},
        )
        for row in rows
    )


@dataclass(frozen=True)
class Overlay:
    """The quiet layer behind the front of a task and pair: the curve of Fig. 4, Table 1, the reproduction.

    Each point is (speedup, score less that of its own vanilla).
    """

    curve: Curve
    picks: Curve
    reproduced: Curve

    @property
    def points(self) -> Curve:
        """Return everything."""
        return self.curve + self.picks + self.reproduced


def overlay(record: Record) -> Overlay | None:
    """Return the overlay for the task, pair and metric of a record, or None."""
    kind, task, headline = kind_of_pair(record.pair.name), record.task.name, record.quality.headline
    if kind is None or headline not in ("bleu", "rougeLsum") or record.decode is not None:
        return None
    rows = [row for row in table1(task) if row.pair == kind]
    if not rows:
        return None
    vanilla = table1(task)[0].score
    theirs = [point for point in reproduction() if point.task == task and headline in point.scores]
    base = next((point.scores[headline] for point in theirs if point.pair == "vanilla"), math.nan)
    return Overlay(
        tuple((speedup, score - vanilla) for speedup, score in curve("fig4", task, kind)),
        tuple((row.speedup or 1.0, row.score - vanilla) for row in rows),
        tuple((point.speedup, point.scores[headline] - base) for point in theirs if point.pair == kind),
    )


def overlay_note(behind: Overlay | None = None) -> str:
    """Say that grey figures come from another machine, and what the reproduction did differently."""
    data = paper()
    note = f"Grey: measured by others on another machine ({data['machine']}), shown for orientation only"
    if behind is not None and behind.reproduced:
        note += f"; the reproduction ran BiLD {data['reproduction']['caveat']}"
    return f"{note}."


def paper_table(sections: Sequence[Section]) -> Table | None:
    """Return the paper's Table 1 on the tasks of these sections with ours beside it; None without such a task.

    The pairs are told by their names.
    """
    tasks = [task for task in paper()["table1"] if any(section.first.task.name == task for section in sections)]
    values = []
    for row in (row for task in tasks for row in table1(task)):
        ours: list[Record | None] = [found for section in sections if (found := ours_of(section, row))]
        values += [_values(row, record) for record in ours or [None]]
    if not values:
        return None
    columns = (
        Column("task", "task"),
        Column("pair", "pair"),
        Column("point", "point"),
        Column("(rb, fb)", "thresholds", in_csv=False),
        Column("score: paper", "paper_score", "{:.2f}".format),
        Column("T4 repr.", "reproduction_score", "{:.2f}".format),
        Column("ours", "our_score", spread),
        Column("ours − paper", "score_gap", gap_words),
        Column("as expected?", "expected"),
        Column("speedup: paper", "paper_speedup", "{:.2f}".format),
        Column("T4 repr.", "reproduction_speedup", "{:.2f}".format),
        Column("ours", "our_speedup", spread),
        Column("ours − paper", "speedup_gap", gap_words),
        Column("ours is", "ours", in_csv=False),
    )
    source, theirs = paper(), paper()["reproduction"]
    notes = (
        f"Paper: {source['source']}, on {source['machine']}. Speedups of different machines are shown, not compared: "
        "a difference there says as much of the machines as of the method.",
        f"T4 repr.: {theirs['source']}, on {theirs['machine']}; it ran BiLD {theirs['caveat']}, so its speedups are "
        "too low.",
        f"as expected?: greedy decoding of the same split with the same weights by the authors' rules gives the "
        f"paper's score but for rounding, so within {ROUNDING:g} points. On fewer examples, or by other rules, "
        "nothing is expected. Thresholds are those of the reproduction; the unaligned ones of wmt14 are unconfirmed.",
    )
    return Table.of("table1", "The paper's Table 1, and the same measured here", columns, values, notes, 4)


def ours_of(section: Section, row: PaperRow) -> Record | None:
    """Return the record of a row: its task, pair and thresholds, by the authors' rules or else by the paper's.

    BiLD with any other switch or draft limit is not the paper's row, nor is a text that was sampled.
    """
    kind = kind_of_pair(section.first.pair.name)
    if section.first.task.name != row.task or kind is None or section.first.decode is not None:
        return None
    if row.pick == "vanilla":
        return section.vanilla()
    fitting = [
        record
        for record in section.records
        if kind == row.pair
        and record.method.name == "bild"
        and (record.threshold.fb, record.threshold.rb) == (row.fb, row.rb)
        and record.method.max_draft == MethodConfig.max_draft
        and not names.differing(record.method, record.threshold).keys() - {"rules"}
    ]
    return min(fitting, key=lambda record: (record.method.rules != "authors", record.hash), default=None)


def _theirs(row: PaperRow) -> Reproduced | None:
    """Return the reproduction's point of a row; of two with the same thresholds, the one on more examples."""
    pair = "vanilla" if row.pick == "vanilla" else row.pair
    fitting = [p for p in reproduction() if (p.task, p.pair, p.fb, p.rb) == (row.task, pair, row.fb, row.rb)]
    return max(fitting, key=lambda point: point.samples, default=None)


def _values(row: PaperRow, record: Record | None) -> dict[str, Any]:
    """Return all that the table and its CSV say of a row."""
    theirs, headline = _theirs(row), "bleu" if row.task in ("iwslt2017", "wmt14") else "rougeLsum"
    score = record.headline if record and record.quality.headline == headline else None
    speed = record.speedup if record else None
    at = None if row.rb is None or row.fb is None else f"({number(row.rb)}, {number(row.fb)})"
    return {
        "task": row.task,
        "pair": row.pair or (record and kind_of_pair(record.pair.name)) or None,  # vanilla's beside each pair's points
        "point": row.pick,
        "thresholds": (at or DASH) + ("?" if row.unconfirmed else ""),
        "rb": row.rb,
        "fb": row.fb,
        "metric": headline,
        "paper_score": row.score,
        "reproduction_score": theirs.scores[headline] if theirs else None,
        "our_score": score,
        "score_gap": score and score.value - row.score,
        "expected": score and _expected(row, record, score.value - row.score),
        "paper_speedup": row.speedup,
        "reproduction_speedup": theirs.speedup if theirs else None,
        "our_speedup": speed,
        "speedup_gap": None if speed is None or row.speedup is None else speed.value - row.speedup,
        "our_examples": record.quality.examples if record else None,
        "our_timed": record.latency.examples if record else None,
        "our_machine": machine_name(record) if record else None,
        "our_hash": record.hash if record else None,
        "ours": _what(row, record, headline),
    }


def gap_words(gap: float) -> str:
    """Write a difference with its sign: `+0.12`, `−0.03`."""
    return f"{gap:+.2f}".replace("-", "−")


def _expected(row: PaperRow, record: Record | None, gap: float) -> str | None:
    """Say whether our score is the paper's within rounding, or why it need not be."""
    if record is None:
        return None
    if record.quality.examples < paper_examples(row.task) or record.task.split != "validation":
        return "other examples"
    if row.pick != "vanilla" and record.method.rules != "authors":
        return "other rules"
    return "yes" if abs(gap) <= ROUNDING + 0.005 else "no"


def _what(row: PaperRow, record: Record | None, headline: str) -> str:
    """Say what ours is: how many examples, whose rules, which machine; or the experiment that would make it."""
    if record is None:
        at = f"{row.pair}-rb{names.number(row.rb or 0)}-fb{names.number(row.fb or 0)}"
        return f"not run: experiment=paper/{row.task}-{'vanilla' if row.pick == 'vanilla' else at}"
    full, count, timed = paper_examples(row.task), record.quality.examples, record.latency.examples
    share = f"{count:,}" if count >= full else f"{count:,} of {full:,}"
    speed = "" if timed == count else f", {timed:,} timed"
    rules = f", rules={record.method.rules}" if record.method.rules else ""
    metric = "" if record.quality.headline == headline else f", {metric_name(record)}"
    split = "" if record.task.split == "validation" else f", {record.task.split} split"
    engine = f"{record.engine.name} {record.engine.dtype}"
    return f"{share} examples{speed}{split}{rules}{metric}, {engine}, {machine_name(record)}"
