"""Sections: the points that may stand in one table and one figure, what is doubtful of them, what lies behind them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from bild.errors import BildError
from bild.report.format import label, labels, machine_name, metric_name, plural, where
from bild.results import Point, Record, Sample, Skipped, comparable, find_records, identity, read_samples, read_traces
from bild.results.pareto import ANCHORS, Picks, front, picks

MARK = "†"
Rounds = list[dict[str, Any]]
T = TypeVar("T")


@dataclass(frozen=True)
class Section:
    """Records that may be compared: the anchors first, then the others from fast to slow.

    `folders` has the point folder of each record by its hash, where that is known.
    """

    records: tuple[Record, ...]
    folders: Mapping[str, Path] = field(default_factory=dict, compare=False)

    @property
    def first(self) -> Record:
        """Return any of the records, for what they have in common."""
        return self.records[0]

    @property
    def title(self) -> str:
        """Name task, pair and metric."""
        first = self.first
        return f"{first.task.name} ({first.task.split}), pair {first.pair.name}, {metric_name(first)}"

    @property
    def conditions(self) -> str:
        """Name engine and machine."""
        return f"{where(self.first)}; {machine_name(self.first)}"

    @property
    def size(self) -> str:
        """Write `60 examples`."""
        return plural(self.first.latency.examples, "example")

    @property
    def slug(self) -> str:
        """Return a name for its files, where a report has several sections."""
        first = self.first
        parts = (first.task.name, first.pair.name, first.engine.name, first.engine.dtype, first.engine.device)
        return re.sub(r"[^\w.]+", "-", "-".join(parts)).strip("-.")

    def vanilla(self) -> Record | None:
        """Return vanilla decoding by the large model, if it was measured."""
        return next((record for record in self.records if record.method.name == "vanilla"), None)

    @cached_property
    def picks(self) -> Picks:
        """Return the paper's two picks."""
        return picks(self.records)

    def picked(self, record: Record) -> bool:
        """Return whether the record is one of the picks."""
        return record in (self.picks.no_loss, self.picks.one_point)

    def on_front(self) -> set[int]:
        """Return the indices of the records on the Pareto front of speedup and quality."""
        return set(front([(record.latency.speedup.total.value, record.headline.value) for record in self.records]))

    def front_line(self) -> list[tuple[float, float]]:
        """Return the points on the front as (speedup, quality), from slow to fast."""
        chosen = [self.records[index] for index in self.on_front()]
        return sorted((record.latency.speedup.total.value, record.headline.value) for record in chosen)

    def names(self) -> list[str]:
        """Return the label of each record; the hash tells those apart that share one."""
        return labels(self.records)

    def names_by_hash(self) -> dict[str, str]:
        """Return `names` by the records' hashes."""
        return {record.hash: name for record, name in zip(self.records, self.names(), strict=True)}

    def doubts(self) -> dict[str, tuple[str, ...]]:
        """Return by the hash of a record why it is marked, each reason a few words; empty for a point without a doubt.

        The commit of the newest record is the usual one: the records of other commits are stale beside it.
        """
        newest = max(self.records, key=lambda record: (record.created, record.hash))
        commit = newest.environment["git"]["sha"]
        return {record.hash: tuple(_reasons(record, commit)) for record in self.records}

    def doubts_note(self) -> str:
        """Return a sentence for a figure, or nothing: `† 3 points: dirty (3), stale (1); see the table.`"""
        marked = [given for given in self.doubts().values() if given]
        if not marked:
            return ""
        kinds = Counter(reason.partition(":")[0] for given in marked for reason in given)
        every = len(marked) == len(self.records) and len(marked) > 1
        told = ", ".join(f"{kind} ({count})" if len(marked) > 1 else kind for kind, count in sorted(kinds.items()))
        return f"{MARK} {'all points' if every else plural(len(marked), 'point')}: {told}; see the table."

    def telling(self, most: int, methods: Iterable[str] | None = None) -> list[Record]:
        """Return at most so many points that stand for the section: the picks, then the front, then the rest.

        Without `methods`, all but the anchors count. They come in the section's order.
        """
        wanted = None if methods is None else set(methods)
        on_front = self.on_front()
        order = sorted(range(len(self.records)), key=lambda i: (not self.picked(self.records[i]), i not in on_front, i))
        names = [record.method.name for record in self.records]
        fits = [i for i in order if (names[i] not in ANCHORS if wanted is None else names[i] in wanted)]
        return [self.records[i] for i in sorted(fits[:most])]

    def samples(self, record: Record) -> list[Sample] | None:
        """Return the examples of a record, or None where its folder is not known, empty or damaged."""
        return self._behind(record, "samples.jsonl", read_samples)

    def rounds(self, record: Record) -> list[Rounds] | None:
        """Return the rounds of each example of a record, or None where the trace is not there or damaged."""
        return self._behind(record, "trace.jsonl.gz", _read_rounds)

    def _behind(self, record: Record, name: str, read: Callable[[Path], list[T]]) -> list[T] | None:
        folder = self.folders.get(record.hash)
        try:
            return None if folder is None else _read(read, folder, (folder / name).stat().st_mtime_ns)
        except OSError:
            return None

    def run_command(self, *options: str, multirun: bool = False) -> str:
        """Return a `python -m bild.run` on the section's task, pair, split, samples and engine, with these options."""
        first = self.first
        name, layers = split_exit(first.pair.name)
        words = [f"task={first.task.name}", f"model={name}", *([f"model.exit={layers}"] if layers else [])]
        if first.task.data.get("samples") is not None:
            words.append(f"task.samples={first.task.data['samples']}")
        words += [f"task.split={first.task.split}", f"engine={first.engine.name}", f"engine.dtype={first.engine.dtype}"]
        return " ".join(["python -m bild.run", *(["-m"] if multirun else []), *map(shlex.quote, (*words, *options))])


def make_section(records: Sequence[Record], folders: Mapping[str, Path] | None = None) -> Section:
    """Make one section of all the records. BildError naming what differs where they may not be compared."""
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
                f"{label(first)} and {label(other)} cannot stand in one comparison because they differ in "
                f"{differing}{more}: report them apart, or run them under the same conditions."
            )
    return Section(tuple(sorted(records, key=_order)), dict(folders or {}))


def find_sections(root: Path) -> tuple[list[Section], list[Skipped]]:
    """Return the sections of a results folder, and what was left out and why. BildError where nothing is usable."""
    points, skipped = find_records(root)
    newest: dict[tuple[str, tuple[str, ...]], Point] = {}
    for point in points:
        key = (point.record.hash, tuple(f"{name}={value}" for name, value in identity(point.record).items()))
        older = newest.setdefault(key, point)
        if older is point:
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
    sections = [
        make_section([point.record for point in group], {point.record.hash: point.path for point in group})
        for group in groups.values()
    ]
    return (
        sorted(sections, key=lambda section: (section.title, section.conditions)),
        sorted(skipped, key=lambda item: item.path),
    )


def split_exit(pair: str) -> tuple[str, int | None]:
    """Split a pair's name into that without `-exitN`, and N."""
    found = re.fullmatch(r"(.+)-exit(\d+)", pair)
    return (found[1], int(found[2])) if found else (pair, None)


def _order(record: Record) -> tuple[int, float, str, str]:
    name = record.method.name
    rank = ANCHORS.index(name) if name in ANCHORS else len(ANCHORS)
    return rank, -record.latency.speedup.total.value, label(record), record.hash


def _reasons(record: Record, commit: str | None) -> list[str]:
    """Say why to doubt a record: uncommitted changes, another commit than `commit`, what the run itself warned of."""
    git, steady = record.environment["git"], record.latency.stationarity
    found = ["dirty: measured with uncommitted changes"] if git["dirty"] else []
    if git["sha"] is None:
        found.append("commit unknown")
    elif commit is not None and git["sha"] != commit:
        found.append(f"stale: measured at {git['sha'][:10]}, the newest point at {commit[:10]}")
    if steady.warning:
        found.append(f"drift: the baseline's pace changed by {100 * steady.drift:+.0f} %")
    if record.counts.warning:
        found.append("passes: more was run or captured than the method needs")
    if record.environment.get("busy"):
        found.append("busy: the machine had other work when the run began")
    if record.sessions > 1:
        found.append(f"resumed: {plural(record.sessions, 'session')}")
    return found


def _read_rounds(folder: Path) -> list[Rounds]:
    return list(read_traces(folder).values())


@lru_cache(maxsize=64)
def _read(read: Callable[[Path], list[T]], folder: Path, stamp: int) -> list[T] | None:
    """Read a point's file once for all figures, and anew where it has changed since (`stamp`)."""
    try:
        return read(folder) or None
    except BildError:
        return None
