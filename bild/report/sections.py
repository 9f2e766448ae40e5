"""Sections: the points that may stand in one table and one figure, what is doubtful of them, what lies behind them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bild.config import margin_of
from bild.errors import BildError
from bild.progress import say
from bild.report import format as words
from bild.results import Interval, Point, Record, Sample, Skipped, comparable, find_records, identity
from bild.results.predicted import ledger_of
from bild.results.reading import ANCHORS, Picks, front, picks
from bild.results.sample import SAMPLES, TRACE, read_samples, read_traces

if TYPE_CHECKING:
    from bild.metrics.claims import Verdict

MARGIN = 0.5
"""The loss in the metric's points that verdicts are told at, unless another is asked for."""
Rounds = list[dict[str, Any]]
Together = tuple[str, ...]
"""The hashes of the records that one confirmation looked at."""
T = TypeVar("T")


@dataclass(frozen=True)
class Section:
    """Records that may be compared: the anchors first, then the others from fast to slow.

    `folders` has the point folder of each record by its hash, where that is known. Verdicts are told at `margin`;
    `looks` has the records that were confirmed together.
    """

    records: tuple[Record, ...]
    folders: Mapping[str, Path] = field(default_factory=dict, compare=False)
    margin: float = MARGIN
    looks: tuple[Together, ...] = ()

    def __post_init__(self) -> None:
        margin_of(self.margin, "margin")

    @property
    def first(self) -> Record:
        """Return any of the records, for what they have in common."""
        return self.records[0]

    @property
    def title(self) -> str:
        """Name task, pair and metric, and how tokens were sampled where they were."""
        first = self.first
        named = (f"{first.task.name} ({first.task.split})", f"pair {first.pair.name}", words.metric_name(first))
        return ", ".join(filter(None, (*named, words.sampled(first))))

    @property
    def conditions(self) -> str:
        """Name engine and machine."""
        return f"{words.where(self.first)}; {words.machine_name(self.first)}"

    @property
    def size(self) -> str:
        """Write `quality: 24 examples, speed: 6`, or `60 examples` where both are of the same."""
        judged, timed = self.first.quality.examples, self.timed
        examples = words.plural(judged, "example")
        return examples if timed == f"{judged:,}" else f"{examples}, {timed} timed"

    @property
    def timed(self) -> str:
        """Write on how many examples the points were timed: `60`, `12 to 60`."""
        counts = [record.latency.examples for record in self.records]
        least, most = min(counts), max(counts)
        return f"{least:,}" if least == most else f"{least:,} to {most:,}"

    def vanilla(self) -> Record | None:
        """Return vanilla decoding by the large model, if it was measured."""
        return next((record for record in self.records if record.method.name == "vanilla"), None)

    @property
    def base(self) -> float:
        """Return vanilla's score, from its own record or by another's difference to it."""
        return self.first.headline.value - self.difference(self.first).value

    def difference(self, record: Record) -> Interval:
        """Return the paired difference of the main score to vanilla's; that of vanilla is nothing.

        Where it was not paired, vanilla's score is subtracted, and the interval is as wide as the record's own.
        """
        if record.method.name == "vanilla":
            return Interval(0.0, 0.0, 0.0)
        if record.headline_difference is not None:
            return record.headline_difference
        own, vanilla = record.headline, self.vanilla()
        base = vanilla.headline.value if vanilla is not None else own.value
        return Interval(own.value - base, own.low - base, own.high - base)

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """The records' paired differences judged at the margin, by hash; vanilla has none.

        Records that were confirmed together are judged together (Holm).
        """
        from bild.metrics.claims import together, verdict_of  # numpy: only where something is judged

        others = [record for record in self.records if record.method.name != "vanilla"]
        alone = {record.hash: found for record in others if (found := verdict_of(record, self.margin))}
        judged = dict(alone)
        for look in reversed(self.looks):  # of several, the first counts
            own = {name: alone[name] for name in look if name in alone}
            judged |= together(own, self.first.intervals.confidence) if len(own) > 1 else {}
        return judged

    def confirmed(self, record: Record) -> bool:
        """Return whether the record was looked at on examples that had no say in its choice."""
        return any(record.hash in look for look in self.looks)

    @cached_property
    def pick(self) -> Record | None:
        """Return the fastest point that is shown to lose no more than the margin, if any is faster than vanilla.

        One that was confirmed goes before one that was not.
        """

        def rank(record: Record) -> tuple[bool, float]:
            return self.confirmed(record), record.speedup.value

        shown = [record for record in self.records if (own := self.verdicts.get(record.hash)) and own.kind == "shown"]
        return max((record for record in shown if rank(record)[1] > 1), key=rank, default=None)

    @cached_property
    def papers(self) -> Picks:
        """Return the picks of the paper's Table 1, which go by the point estimate."""
        return picks(self.records)

    @property
    def picks(self) -> tuple[Record | None, Record | None, Record | None]:
        """The fastest shown, and the paper's two: without a loss, and at a loss of one point."""
        return self.pick, self.papers.no_loss, self.papers.one_point

    def picked(self, record: Record) -> bool:
        """Return whether the record is one of the picks."""
        return record in self.picks

    def told(self, record: Record | None) -> str:
        """Write a pick: its name, its speedup, and what speaks against it."""
        if record is None:
            return "none"
        speed, library = record.speedup, self.over_library(record)
        found = [f"{words.plus_minus(speed)}×", *(["confirmed"] if self.confirmed(record) else [])]
        found += ["not shown to be faster than vanilla"] if speed.low <= 1 else []
        if library is not None and library < 1:
            found.append(f"slower than the library's generate(): {words.significant(library, 2)}× its speed")
        return f"{self.names[record.hash]} ({', '.join(found)})"

    def over_library(self, record: Record) -> float | None:
        """Return the speedup over the library's `generate()`, by vanilla's where the record's was not timed."""
        for known, factor in ((record, 1.0), (self.vanilla(), record.speedup.value)):
            if known is not None and known.latency.library is not None:
                return factor * known.latency.library.speedup.value
        return None

    def at(self, record: Record) -> tuple[float, float]:
        """Return where a record lies: its speedup, and its difference to vanilla."""
        return record.speedup.value, self.difference(record).value

    def on_front(self) -> set[int]:
        """Return the indices of the records on the Pareto front of speedup and difference."""
        return set(front([self.at(record) for record in self.records]))

    def front_line(self) -> list[tuple[float, float]]:
        """Return the points on the front, as `at` has them, from slow to fast."""
        return sorted(self.at(self.records[index]) for index in self.on_front())

    @cached_property
    def names(self) -> dict[str, str]:
        """The label of each record by its hash, which tells those apart that share one."""
        return dict(zip((record.hash for record in self.records), words.labels(self.records), strict=True))

    def telling(self, most: int, fits: Callable[[Record], bool] | None = None) -> list[Record]:
        """Return at most so many points that stand for the section: the picks, then the front, then the rest.

        Without `fits`, all but the anchors count. They come in the section's order.
        """
        fits = fits or (lambda record: record.method.name not in ANCHORS)
        on_front, records = self.on_front(), self.records
        order = sorted(range(len(records)), key=lambda i: (not self.picked(records[i]), i not in on_front, i))
        return [records[i] for i in sorted([i for i in order if fits(records[i])][:most])]

    def samples(self, record: Record) -> list[Sample] | None:
        """Return the examples of a record, or None where its folder is not known, empty or damaged."""
        return self._behind(record, SAMPLES, read_samples)

    def rounds(self, record: Record) -> list[Rounds] | None:
        """Return the rounds of each example of a record, or None where the trace is not there or damaged."""
        found = self._behind(record, TRACE, read_traces)
        return None if found is None else list(found.values())

    def _behind(self, record: Record, name: str, read: Callable[[Path], T]) -> T | None:
        folder = self.folders.get(record.hash)
        try:
            return None if folder is None else _read(read, folder, (folder / name).stat().st_mtime_ns)
        except OSError:
            return None

    def command(self, verb: str, *options: str) -> str:
        """Return a `python -m bild.<verb>` on the section's examples, pair and engine, with these options.

        It goes by the command that made a point; the record of an older point has none, and its fields have to do.
        """
        first = self.first
        told = dict(word.partition("=")[::2] for word in shlex.split(first.command or "")[3:])
        fields: dict[str, object] = {
            name: value for name, value in told.items() if name.partition(".")[0] in ("task", "model", "engine")
        }
        if "task" not in fields:
            name, layers = words.split_exit(first.pair.name)
            fields = {"task": first.task.name, "model": name, "model.exit": layers, "task.split": first.task.split}
            fields |= {"task.samples": first.task.data.get("samples"), "engine": first.engine.name}
            fields |= {"engine.dtype": first.engine.dtype}
        if verb == "sweep" and fields.get("task.samples") is not None:
            fields["task.samples"] = first.quality.examples  # those of its tree
        given = [f"{name}={value}" for name, value in fields.items() if value is not None]
        return " ".join([f"python -m bild.{verb}", *map(shlex.quote, (*given, *words.drawn(first), *options))])


def make_section(
    records: Sequence[Record], folders: Mapping[str, Path] | None = None, margin: float = MARGIN
) -> Section:
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
                f"{words.label(first)} and {words.label(other)} cannot stand in one comparison because they differ in "
                f"{differing}{more}: report them apart, or run them under the same conditions."
            )
    folders = dict(folders or {})
    return Section(tuple(sorted(records, key=_order)), folders, margin, looks_of(records, folders))


def looks_of(records: Sequence[Record], folders: Mapping[str, Path]) -> tuple[Together, ...]:
    """Return the looks at records of these, in the order of the ledgers beside their folders."""
    looks = ledger_of(folders.values(), records[0].quality.data)
    keys = {words.key_of(record): record.hash for record in records} if looks else {}
    return tuple(filter(None, (tuple(keys[key] for key in look.points if key in keys) for look in looks)))


def find_sections(root: Path, margin: float = MARGIN) -> tuple[list[Section], list[Skipped]]:
    """Return the sections of a results folder, and what was left out and why. BildError where nothing is usable."""
    points, skipped = find_records(root)
    same: dict[tuple[str, tuple[str, ...]], list[Point]] = {}
    for point in points:
        conditions = tuple(f"{name}={value}" for name, value in identity(point.record).items())
        same.setdefault((point.record.hash, conditions), []).append(point)
    groups: dict[tuple[str, ...], list[Point]] = {}
    for (_, conditions), found in same.items():
        keep = max(found, key=lambda point: point.record.created)
        why = f"the same point as {keep.path}, which is not older"
        skipped += [Skipped(point.path, why) for point in found if point is not keep]
        groups.setdefault(conditions, []).append(keep)
    if not groups:
        why = f" (left out: {skipped[0].path}: {skipped[0].why})" if skipped else ""
        raise BildError(f"{root} holds no finished point{why}: finish a run there first.")
    sections = [
        make_section([point.record for point in group], {point.record.hash: point.path for point in group}, margin)
        for group in groups.values()
    ]
    sections.sort(key=lambda section: (section.title, section.conditions))
    return sections, sorted(skipped, key=lambda item: item.path)


def _order(record: Record) -> tuple[int, float, str, str]:
    name = record.method.name
    return (*ANCHORS, name).index(name), -record.speedup.value, words.label(record), record.hash


@lru_cache(maxsize=64)
def _read(read: Callable[[Path], T], folder: Path, stamp: int) -> T | None:
    """Read a point's file once for all figures, and anew where it has changed since (`stamp`)."""
    try:
        return read(folder) or None
    except BildError as error:
        say(f"left out of the figures: {error}")
        return None
