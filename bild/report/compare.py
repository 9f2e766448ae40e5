"""Two results folders side by side, such as two machines: separate fronts, and the ratios of like points."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bild.errors import BildError
from bild.report.differences import difference_table
from bild.report.figure import Sheet
from bild.report.figures.side_by_side import side_sheet
from bild.report.format import DASH, decimals, half, metric_name, significant, spread
from bild.report.sections import Section, find_sections
from bild.report.table import Table
from bild.results import Interval, Record


@dataclass(frozen=True)
class Side:
    """A section of one folder beside the like one of the other."""

    left: Section
    right: Section
    sheet: Sheet
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Comparison:
    """Sections of two folders that were measured on the same data with the same pair; `unmatched` names the others."""

    left: Path
    right: Path
    sides: tuple[Side, ...]
    unmatched: tuple[str, ...]


def compare(sections: Sequence[Section], other: Path, root: Path) -> Comparison:
    """Pair the sections of `root` with those of `other`. BildError where `other` holds nothing, or nothing alike."""
    others, _ = find_sections(other)
    sides: list[Side] = []
    unmatched: list[str] = []
    used: set[int] = set()
    for left in sections:
        fitting = [right for right in others if alike(left.first, right.first)]
        if not fitting:
            unmatched.append(f"{root}: {left.title}; {left.conditions}")
        for right in fitting:
            used.add(id(right))
            sides.append(_side(left, right, len(sides)))
    unmatched += [f"{other}: {right.title}; {right.conditions}" for right in others if id(right) not in used]
    if not sides:
        raise BildError(
            f"{root} and {other} share no task, examples and pair, so there is nothing to lay side by side: compare "
            "folders in which the same pair decoded the same examples."
        )
    return Comparison(root, other, tuple(sides), tuple(unmatched))


def alike(left: Record, right: Record) -> bool:
    """The same examples, limits, weights and score: what two machines must share for a ratio to mean anything."""

    def shared(record: Record) -> tuple[object, ...]:
        task, pair = record.task, record.pair
        return (
            (task.name, task.split, task.prompt, task.source_limit, task.target_limit, task.data["hash"]),
            (pair.large.fingerprint, pair.small.fingerprint),
            (record.latency.examples, record.quality.headline, record.headline.signature),
        )

    return shared(left) == shared(right)


def like_points(left: Section, right: Section) -> list[tuple[Record, Record]]:
    """The records of both that have the same method, switches and thresholds."""

    def settings(record: Record) -> tuple[object, ...]:
        return dataclasses.astuple(record.method), dataclasses.astuple(record.threshold)

    theirs = {settings(record): record for record in right.records}
    return [(record, theirs[settings(record)]) for record in left.records if settings(record) in theirs]


def ratio(left: Interval, right: Interval) -> Interval:
    """left / right, the two taken as independent: half widths add in squares on the scale of logarithms."""
    value = left.value / right.value

    def side(up: float, down: float) -> float:
        return math.hypot(up, down)

    above = side(math.log(left.high / left.value), math.log(right.value / right.low))
    below = side(math.log(left.value / left.low), math.log(right.high / right.value))
    return Interval(value, value * math.exp(-below), value * math.exp(above))


def _side(left: Section, right: Section, index: int) -> Side:
    stem = "side-by-side" if index == 0 else f"side-by-side-{index + 1}"
    tables = [_ratio_table(left, right, stem)]
    apart = difference_table([left, right], ["left", "right"])
    if apart is not None:
        tables.append(dataclasses.replace(apart, stem=f"{stem}-differences", title=f"What differs: {left.title}"))
    return Side(left, right, side_sheet(left, right, stem), tuple(tables))


def _ratio_table(left: Section, right: Section, stem: str) -> Table:
    rows, data = [], []
    names = left.names_by_hash()
    for one, two in like_points(left, right):
        times = ratio(two.latency.ms_per_example, one.latency.ms_per_example)
        speeds = ratio(one.latency.speedup.total, two.latency.speedup.total)
        gap = one.headline.value - two.headline.value
        places = decimals(half(one.headline)) + 1
        vanilla = one.method.name == "vanilla"
        rows.append(
            (
                names[one.hash],
                f"{one.headline.value:.{places}f}",
                f"{two.headline.value:.{places}f}",
                f"{gap:+.{places}f}" if abs(gap) > 1e-9 else "same",
                significant(one.latency.ms_per_token),
                significant(two.latency.ms_per_token),
                spread(times),
                DASH if vanilla else spread(one.latency.speedup.total),
                DASH if vanilla else spread(two.latency.speedup.total),
                DASH if vanilla else spread(speeds),
            )
        )
        data.append(
            {
                "method": names[one.hash],
                "left_score": one.headline.value,
                "right_score": two.headline.value,
                "left_ms_per_token": one.latency.ms_per_token,
                "right_ms_per_token": two.latency.ms_per_token,
                "times_as_fast": times.value,
                "times_as_fast_low": times.low,
                "times_as_fast_high": times.high,
                "left_speedup": one.latency.speedup.total.value,
                "right_speedup": two.latency.speedup.total.value,
                "speedup_ratio": speeds.value,
                "speedup_ratio_low": speeds.low,
                "speedup_ratio_high": speeds.high,
            }
        )
    metric = metric_name(left.first)
    headings = (
        "method",
        f"{metric}, left",
        f"{metric}, right",
        "left − right",
        "ms per token, left",
        "right",
        "left is × as fast",
        "speedup, left",
        "right",
        "left / right",
    )
    only = len(left.records) + len(right.records) - 2 * len(rows)
    notes = [
        f"Left: {left.conditions}. Right: {right.conditions}.",
        "The same settings on both, on the same examples and weights. Speedups are over vanilla on the same side. "
        "Intervals of a ratio take the two sides as independent.",
    ]
    if only:
        notes.append(f"{only} points have no like one on the other side.")
    return Table(stem, f"Ratios of like points: {left.title}", headings, tuple(rows), tuple(notes), 1, tuple(data))
