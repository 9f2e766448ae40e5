"""Two results folders side by side, such as two machines: separate fronts, ratios of like points, what differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from bild.errors import BildError
from bild.report import format as words
from bild.report import layout
from bild.report.figure import FRONT_COLOR, Look, Sheet, Theme, looks
from bild.report.predictions import setting
from bild.report.sections import Section, find_sections
from bild.report.table import Column, Table
from bild.results import Interval, Record, identity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Like = tuple[Record, Record]
"""The records of both folders at one setting."""


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
    """Return whether two records share examples, limits, weights and score, without which a ratio means nothing."""

    def shared(record: Record) -> tuple[object, ...]:
        task, pair = record.task, record.pair
        return (
            (task.name, task.split, task.prompt, task.source_limit, task.target_limit),
            (pair.large.fingerprint, pair.small.fingerprint),
            record.decode,
            (record.quality.data, record.quality.examples, record.quality.headline, record.headline.signature),
        )

    return shared(left) == shared(right)


def like_points(left: Section, right: Section) -> list[Like]:
    """Return the records of both that have the same method, switches and thresholds."""
    theirs = {setting(record): record for record in right.records}
    return [(record, theirs[setting(record)]) for record in left.records if setting(record) in theirs]


def ratio(left: Interval, right: Interval) -> Interval:
    """Return left / right, the two taken as independent: half widths add in squares on the scale of logarithms."""
    value = left.value / right.value
    above = math.hypot(math.log(left.high / left.value), math.log(right.value / right.low))
    below = math.hypot(math.log(left.value / left.low), math.log(right.high / right.value))
    return Interval(value, value * math.exp(-below), value * math.exp(above))


def difference_table(sections: Sequence[Section], names: Sequence[str] = (), stem: str = "differences") -> Table | None:
    """Return every field in which the sections differ, a column a section; None where there is only one section."""
    if len(sections) < 2:
        return None
    found = [_fields(section) for section in sections]
    rows = []
    for name in dict.fromkeys(name for each in found for name in each):
        values = [each.get(name, "absent") for each in found]
        if len(set(values)) > 1:
            rows.append((name, *map(_short, values)))
    headings = ("field", *(names or [str(index + 1) for index in range(len(sections))]))
    notes = ["Points that differ in any of these are never put on one front or in one table."]
    notes += [
        f"{heading}: {section.title}; {section.conditions}; {len(section.records)} points"
        for heading, section in zip(headings[1:], sections, strict=True)
    ]
    title = "What keeps the sections apart" if stem == "differences" else f"What differs: {sections[0].title}"
    return Table(stem, title, headings, tuple(rows), tuple(notes), names=len(headings))


def seeds_table(sections: Sequence[Section]) -> Table | None:
    """Return the means over seeds of points that were sampled under several, with their intervals; None without any."""
    from scipy.special import stdtrit

    groups: dict[tuple[object, ...], list[tuple[Section, Record]]] = {}
    for section in sections:
        same = tuple((name, value) for name, value in _fields(section).items() if name != "decode.seed")
        for record in section.records if section.first.decode else ():
            groups.setdefault((same, *setting(record)), []).append((section, record))

    def mean(values: Sequence[float], confidence: float) -> Interval:
        middle, reach = fmean(values), stdtrit(len(values) - 1, (1 + confidence) / 2) / math.sqrt(len(values))
        return Interval(middle, middle - reach * stdev(values), middle + reach * stdev(values))

    rows = []
    for found in groups.values():
        seeds, (section, first) = {record.decode.seed for _, record in found if record.decode}, found[0]
        if len(seeds) < 2:
            continue
        level = first.intervals.confidence
        speed = mean([math.log(record.speedup.value) for _, record in found], level)
        rows.append(
            {
                "conditions": f"{section.title.rpartition(', seed')[0]}; {words.where(first)}",
                "label": words.label(first),
                "seeds": len(seeds),
                "score": mean([record.headline.value for _, record in found], level),
                "difference": mean([section.difference(record).value for section, record in found], level),
                "speedup": Interval(*(math.exp(each) for each in (speed.value, speed.low, speed.high))),
            }
        )
    if not rows:
        return None
    columns = (
        Column("sampled", "conditions"),
        Column("method", "label"),
        Column("seeds", "seeds"),
        Column("mean score", "score", words.spread),
        Column("mean Δ to vanilla", "difference", lambda interval: words.spread(interval, signed=True)),
        Column("mean speedup", "speedup", words.spread),
    )
    notes = (
        "Intervals are of the mean over seeds (Student's t): they hold that of the noise, not of the examples. "
        "Method and vanilla share the noise of each seed, so their difference is paired.",
    )
    return Table.of("seeds", "Over several seeds", columns, rows, notes, 2)


def _fields(section: Section) -> dict[str, str]:
    first = section.first
    fields = {"pair.name": first.pair.name, "schema": str(first.schema)}
    fields |= {name: str(value) for name, value in identity(first).items()}
    machine = first.environment["machine"]
    return fields | {f"machine.{name}": str(value) for name, value in machine.items() if name != "fingerprint"}


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:16]}… ({len(value)} characters)"


def _side(left: Section, right: Section, index: int) -> Side:
    stem = "side-by-side" if index == 0 else f"side-by-side-{index + 1}"
    apart = difference_table([left, right], ["left", "right"], f"{stem}-differences")
    tables = [_ratio_table(left, right, stem), *([apart] if apart else [])]
    both = [f"{words.plural(len(section.records), 'point')} on {section.conditions}" for section in (left, right)]
    title = f"Side by side: {left.title}"
    sheet = Sheet(stem, title, f"{'; '.join(both)}.", partial(_draw, left, right, title))
    return Side(left, right, sheet, tuple(tables))


def _ratio_table(left: Section, right: Section, stem: str) -> Table:
    pairs, metric = like_points(left, right), words.metric_name(left.first)

    def places(pair: Like) -> int:
        return words.decimals(words.half(pair[0].headline)) + 1

    def score(side: int) -> Callable[[Like], str]:
        return lambda pair: f"{pair[side].headline.value:.{places(pair)}f}"

    def gap(pair: Like) -> str:
        value = pair[0].headline.value - pair[1].headline.value
        return f"{value:+.{places(pair)}f}" if abs(value) > 1e-9 else "same"

    def speeds(of: Callable[[Interval, Interval], Interval]) -> Callable[[Like], Interval | None]:
        """Take something from both speedups, which vanilla has none of."""
        return lambda pair: None if pair[0].method.name == "vanilla" else of(*(each.speedup for each in pair))

    columns = (
        Column("method", "method", of=lambda pair: left.names[pair[0].hash]),
        Column(None, "left_score", of=lambda pair: pair[0].headline.value),
        Column(None, "right_score", of=lambda pair: pair[1].headline.value),
        Column(f"{metric}, left", "left_words", in_csv=False, of=score(0)),
        Column(f"{metric}, right", "right_words", in_csv=False, of=score(1)),
        Column("left − right", "gap", in_csv=False, of=gap),
        Column("ms per token, left", "left_ms_per_token", words.significant, of=lambda p: p[0].latency.ms_per_token),
        Column("right", "right_ms_per_token", words.significant, of=lambda p: p[1].latency.ms_per_token),
        Column("left is × as fast", "times_as_fast", words.spread, of=lambda pair: _times_as_fast(*pair)),
        Column("speedup, left", "left_speedup", words.spread, of=speeds(lambda own, _: own)),
        Column("right", "right_speedup", words.spread, of=speeds(lambda _, other: other)),
        Column("left / right", "speedup_ratio", words.spread, of=speeds(ratio)),
    )
    notes = [
        f"Left: {left.conditions}. Right: {right.conditions}.",
        "The same settings on both, on the same examples and weights. Speedups are over vanilla on the same side. "
        "Intervals of a ratio take the two sides as independent.",
    ]
    if only := len(left.records) + len(right.records) - 2 * len(pairs):
        notes.append(f"{only} points have no like one on the other side.")
    return Table.of(stem, f"Ratios of like points: {left.title}", columns, pairs, notes)


def _times_as_fast(left: Record, right: Record) -> Interval | None:
    """Return the right side's time over the left's; None where they timed other examples."""
    if left.task.data["hash"] != right.task.data["hash"]:
        return None
    return ratio(right.latency.ms_per_example, left.latency.ms_per_example)


def _draw(left: Section, right: Section, title: str, theme: Theme, width: str) -> Figure:
    shown = looks([words.legend(record) for section in (left, right) for record in section.records], theme)
    names = ("Upper", "Lower") if width == "phone" else ("Left", "Right")
    conditions = f"{names[0]}: {left.conditions}\n{names[1]}: {right.conditions}"
    note = (
        f"n = {left.size} on both. Each speedup is over vanilla on its own side. "
        f"Bars: {words.interval_name(left.first)}. Same axes, separate fronts."
    )
    handles = [*layout.look_handles(shown), layout.front_handle(theme)]
    frame = layout.open_frame(theme, width, title, conditions, note, handles, heights=(2.6, 2.6), left=0.62, right=0.55)
    for axes, section in zip(frame.panels, (left, right), strict=True):
        _panel(axes, section, shown, theme)
    one, two = frame.panels
    for axes in frame.panels:
        axes.set_xlim(min(one.get_xlim()[0], two.get_xlim()[0]), max(one.get_xlim()[1], two.get_xlim()[1]))
        axes.set_ylim(min(one.get_ylim()[0], two.get_ylim()[0]), max(one.get_ylim()[1], two.get_ylim()[1]))
    for axes, section in zip(frame.panels, (left, right), strict=True):
        layout.open_differences(axes, section, theme)
    return frame.figure


def _panel(axes: Axes, section: Section, shown: dict[str, Look], theme: Theme) -> None:
    for record in section.records:
        look = shown[words.legend(record)]
        layout.cross(axes, record.speedup, section.difference(record), look.color)
        layout.dots(axes, [section.at(record)], look.color, look.marker, 0.9 * look.size, theme)
    front: dict[str, Any] = {"color": theme.mark(FRONT_COLOR), "alpha": layout.FAINT, "linewidth": 1.4, "zorder": 2}
    axes.plot(*zip(*section.front_line(), strict=True), **front)
    layout.plain(axes, theme, "x")
    axes.locator_params(axis="x", nbins=5)
    layout.speedup_axis(axes)
