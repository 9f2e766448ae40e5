"""Sorting the points of a folder into sections: what may stand in one table and one figure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bild.errors import BildError
from bild.report.format import machine_name, metric_name, where
from bild.results import Point, Record, Skipped, comparable, find_records, identity
from bild.results.pareto import ANCHORS, front


@dataclass(frozen=True)
class Section:
    """Records that may be compared: the anchors first, then the others from fast to slow.

    `folders` has the point folder of each record by its hash, where that is known.
    """

    records: tuple[Record, ...]
    folders: Mapping[str, Path] = field(default_factory=dict, compare=False)

    @property
    def first(self) -> Record:
        """Any of the records, for what they have in common."""
        return self.records[0]

    @property
    def title(self) -> str:
        """Task, pair and metric."""
        first = self.first
        return f"{first.task.name} ({first.task.split}), pair {first.pair.name}, {metric_name(first)}"

    @property
    def conditions(self) -> str:
        """Engine and machine."""
        return f"{where(self.first)}; {machine_name(self.first)}"

    @property
    def slug(self) -> str:
        """A name for its files, where a report has several sections."""
        first = self.first
        parts = (first.task.name, first.pair.name, first.engine.name, first.engine.dtype, first.engine.device)
        return re.sub(r"[^\w.]+", "-", "-".join(parts)).strip("-.")

    def vanilla(self) -> Record | None:
        """Vanilla decoding by the large model, if it was measured."""
        return next((record for record in self.records if record.method.name == "vanilla"), None)

    def on_front(self) -> set[int]:
        """Indices of the records on the Pareto front of speedup and quality."""
        return set(front([(record.latency.speedup.total.value, record.headline.value) for record in self.records]))

    def names(self) -> list[str]:
        """The label of each record; the hash tells those apart that share one."""
        labels = [record.label for record in self.records]
        return [
            f"{record.label} #{record.hash[:6]}" if labels.count(record.label) > 1 else record.label
            for record in self.records
        ]

    def names_by_hash(self) -> dict[str, str]:
        """As `names`, by the records' hashes."""
        return {record.hash: name for record, name in zip(self.records, self.names(), strict=True)}


def make_section(records: Sequence[Record], folders: Mapping[str, Path] | None = None) -> Section:
    """One section of all the records. BildError naming what differs where they may not be compared."""
    if not records:
        raise BildError("There is no record to report: run a point first.")
    first = records[0]
    for other in records[1:]:
        fields = comparable(first, other)
        if fields:
            left, right = identity(first), identity(other)
            differing = ", ".join(f"{name} ({left.get(name)} and {right.get(name)})" for name in fields[:4])
            more = f" and {len(fields) - 4} more" if len(fields) > 4 else ""
            raise BildError(
                f"{first.label} and {other.label} cannot stand in one comparison because they differ in "
                f"{differing}{more}: report them apart, or run them under the same conditions."
            )
    return Section(tuple(sorted(records, key=_order)), dict(folders or {}))


def find_sections(root: Path) -> tuple[list[Section], list[Skipped]]:
    """The sections of a results folder, and what was left out and why. BildError where nothing can be reported."""
    points, skipped = find_records(root)
    newest: dict[tuple[str, tuple[str, ...]], Point] = {}
    for point in points:
        key = (point.record.hash, tuple(f"{name}={value}" for name, value in identity(point.record).items()))
        older = newest.get(key)
        if older is None:
            newest[key] = point
            continue
        keep, drop = (point, older) if point.record.created > older.record.created else (older, point)
        newest[key] = keep
        skipped.append(Skipped(drop.path, f"the same point as {keep.path}, which is not older"))
    groups: dict[tuple[str, ...], list[Point]] = {}
    for (_, conditions), point in newest.items():
        groups.setdefault(conditions, []).append(point)
    if not groups:
        why = f" (left out: {skipped[0].path}: {skipped[0].why})" if skipped else ""
        raise BildError(f"{root} holds no finished point{why}: finish a run there first.")
    sections = sorted(
        (_section(group) for group in groups.values()), key=lambda section: (section.title, section.conditions)
    )
    return sections, sorted(skipped, key=lambda item: item.path)


def _section(points: Sequence[Point]) -> Section:
    return make_section([point.record for point in points], {point.record.hash: point.path for point in points})


def _order(record: Record) -> tuple[int, float, str, str]:
    name = record.method.name
    rank = ANCHORS.index(name) if name in ANCHORS else len(ANCHORS)
    return rank, -record.latency.speedup.total.value, record.label, record.hash
