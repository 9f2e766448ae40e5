"""The words of the front: the names beside its points, its legend, the notes below it, and the figure in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bild.config import MAX_DRAFT
from bild.report.figures.common import front_handle, handle
from bild.report.format import interval_name, label, legend, plural, plus_minus, switches_note
from bild.report.labels import Box, Label, place
from bild.report.layout import Frame, Words, words_of
from bild.report.paper import Overlay, overlay_note
from bild.report.sections import MARK, Section
from bild.report.style import Look, Theme
from bild.results import Record
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

TITLE = "Speedup against quality"
MOST_LABELS = 40
"""From here on only the front, the anchors and the picks are named: more names are a fog."""
MOST_OBSTACLES = 200
"""From here on labels keep clear of each other only: there is no free place among so many marks."""
QUIET_MARKS: tuple[tuple[str, float, str], ...] = (
    ("d", 4, "paper (T4)"),
    ("x", 3.5, "reproduction (T4, no decoder cache)"),
)


def front_words(section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None, unplaced: int) -> Words:
    """Return title, conditions, and the notes below the figure."""
    first, usual = section.first, _usual_draft(section)
    joint = f"; ellipses: speedup and quality jointly ({100 * first.intervals.confidence:g} %, same draws)"
    notes = [
        f"n = {section.size}, batch size 1. Bars: {interval_name(first)}"
        f"{joint if any(record.joint for record in section.records) else ''}.",
        "Speedup is the ratio of total times, encoders included; upper right is better.",
        f"Hollow: {plural(len(predicted), 'predicted point')} (replayed, priced, not timed)." if predicted else "",
        "" if usual in (None, MAX_DRAFT) else f"Where a name has no k, BiLD drafts are of up to {usual} tokens.",
        switches_note(section.records),
        overlay_note(behind) if behind is not None else "",
        section.doubts_note(),
        f"{plural(unplaced, 'point')} without a label: see the table." if unplaced else "",
    ]
    return words_of(section, TITLE, " ".join(filter(None, notes)))


def front_caption(section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None) -> str:
    """Return the figure in words, for those who do not see it."""
    names = section.names_by_hash()

    def told(record: Record | None) -> str:
        if record is None:
            return "none"
        return f"{names[record.hash]} at {plus_minus(record.latency.speedup.total)} times vanilla's speed"

    text = (
        f"{plural(len(section.records), 'measured point')} of {section.title}; {len(section.on_front())} on the Pareto "
        f"front. Fastest BiLD at no loss: {told(section.picks.no_loss)}; at a loss of one point at most: "
        f"{told(section.picks.one_point)}."
    )
    if predicted:
        text += f" {plural(len(predicted), 'predicted point')} are hollow."
    return text if behind is None else f"{text} {overlay_note(behind)}"


def front_legend(
    section: Section, predicted: Sequence[PredictedPoint], shown: dict[str, Look], behind: Overlay | None, theme: Theme
) -> list[Line2D]:
    """Return entries for methods measured and predicted, the front's line, the picks, and what stands behind."""
    measured, hollow = set(map(legend, section.records)), set(map(legend, predicted))
    edge: dict[str, Any] = {"markeredgecolor": theme.paper, "markeredgewidth": 0.6}
    handles = [
        handle(look.name, look.color, marker=look.marker, markersize=look.size, **edge)
        for name, look in shown.items()
        if name in measured
    ]
    empty: dict[str, Any] = {"markerfacecolor": "none"}
    handles += [
        handle(f"{look.name}, predicted", look.color, marker=look.marker, markersize=0.72 * look.size, **empty)
        for name, look in shown.items()
        if name in hollow
    ]
    handles.append(front_handle(theme))
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 0.9}
    if section.picks.no_loss is not None:
        handles.append(handle("fastest BiLD at no loss", theme.strong, marker="o", markersize=8, **ring))
    if section.picks.one_point is not None:
        handles.append(handle("fastest at −1 point", theme.strong, marker="s", markersize=7.5, **ring))
    if behind is not None:
        handles += [
            handle(name, theme.quiet, marker=mark, markersize=size, markerfacecolor="none")
            for mark, size, name in QUIET_MARKS
        ]
    return handles


def draw_labels(frame: Frame, section: Section, shown: dict[str, Look], taken: list[Box], soft: list[Box]) -> int:
    """Name the points, the picks and the front first, and return how many found no place."""
    axes, records = frame.panels[0], section.records
    if len(records) < MOST_OBSTACLES:
        points, bars = _obstacles(frame, section, shown)
        taken, soft = [*taken, *points], [*soft, *bars]
    front, first = section.on_front(), {index for index, record in enumerate(records) if section.picked(record)}
    order = sorted(range(len(records)), key=lambda index: (index not in first, index not in front, index))
    named = order if len(order) <= MOST_LABELS else [i for i in order if i in front | first][:MOST_LABELS]
    doubts = section.doubts()
    every = all(doubts.values())  # then the notes say it of all
    usual = f" k{_usual_draft(section)}"

    def short(record: Record) -> str:
        """Return a label without what the mark or the notes tell."""
        text = label(record)
        return text.removeprefix("BiLD-A ").removeprefix("BiLD ").removesuffix(usual) if "/" in text else text

    labels = [
        Label(
            records[index].latency.speedup.total.value,
            records[index].headline.value,
            short(records[index]) + (MARK if doubts[records[index].hash] and not every else ""),
            shown[legend(records[index])].ink,
            7.5 if index in first else 4.0,
        )
        for index in named
    ]
    lines = axes.transData.transform(section.front_line()).tolist()
    left = place(axes, labels, taken, soft, lines, 6.5 if frame.phone else 7.5, frame.theme.paper)[1]
    return len(records) - len(labels) + len(left)


def _usual_draft(section: Section) -> int | str | None:
    """Return the draft limit that most BiLD points have."""
    drafts = Counter(record.method.max_draft for record in section.records if record.method.name == "bild")
    return drafts.most_common(1)[0][0] if drafts else None


def _obstacles(frame: Frame, section: Section, shown: dict[str, Look]) -> tuple[list[Box], list[Box]]:
    """Return the boxes of the points' marks, which no text may cover, and of their intervals, which it should not."""
    axes, scale = frame.panels[0], frame.figure.dpi / 72
    points: list[Box] = []
    bars: list[Box] = []
    for record in section.records:
        speed, score = record.latency.speedup.total, record.headline
        x, y = axes.transData.transform((speed.value, score.value))
        radius = (13 if section.picked(record) else shown[legend(record)].size) * scale / 2
        points.append(Box(x - radius, y - radius, x + radius, y + radius))
        (x0, y0), (x1, y1) = axes.transData.transform([(speed.low, score.low), (speed.high, score.high)])
        bars += [Box(x0, y - 1, x1, y + 1), Box(x - 1, y0, x + 1, y1)]
    return points, bars
