"""The words of the front: the names beside its points, its legend, the notes below it, and the figure in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bild.config import MAX_DRAFT
from bild.report.figure import Look, Theme
from bild.report.format import interval_name, label, legend, metric_name, plural, switches_note
from bild.report.labels import Box, Label, place
from bild.report.layout import Frame, front_handle, handle
from bild.report.paper import Overlay, overlay_note
from bild.report.points import session_note
from bild.report.provenance import MARK, doubts, doubts_note
from bild.report.sections import Section
from bild.results import Record
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

TITLE = "Speedup against quality"


class Pick(NamedTuple):
    """A mark around a pick of a section: its name in the legend (`{}` is the margin), and its shape."""

    name: str
    marker: str
    size: float
    width: float

    def look(self, theme: Theme) -> dict[str, Any]:
        """Return the look of the mark: an edge alone."""
        color = theme.strong if self.width > 1 else theme.quiet
        return {"markerfacecolor": "none", "markeredgecolor": color, "markeredgewidth": self.width}


PICKS = (
    Pick("fastest shown within {:g}", "o", 12.5, 1.3),
    Pick("as the paper chose (point estimate): no loss", "s", 10.5, 0.8),
    Pick("as the paper chose: −1 point", "D", 10.0, 0.8),
)
"""In the order of `Section.picks`."""
MOST_LABELS = 40
"""From here on only the front, the anchors and the picks are named: more names are a fog."""
MOST_OBSTACLES = 200
"""From here on labels keep clear of each other only: there is no free place among so many marks."""
QUIET_MARKS: tuple[tuple[str, float, str], ...] = (
    ("d", 4, "paper (T4)"),
    ("x", 3.5, "reproduction (T4, no decoder cache)"),
)


def front_notes(
    section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None, unplaced: int
) -> list[str]:
    """Return the notes below the figure, some of them empty."""
    first, usual, margin = section.first, _usual_draft(section), f"{section.margin:g}"
    level = f"{100 * first.intervals.confidence:g}"
    joint = any(record.joint and record.latency.between is None for record in section.records)
    return [
        f"n = {section.size}, batch size 1. Up: {metric_name(first)} less vanilla's, paired; bands: losses of {margin} "
        f"and 1 point. Full marks: shown within {margin} (one-sided {level} % end); pale: undecided or refuted. Bars: "
        f"{interval_name(first)}{'; ellipses: both jointly' if joint else ''}.",
        "Speedup is the ratio of total times, encoders included; upper right is better.",
        "✓, edged: confirmed on examples that it was not chosen on." if section.looks else "",
        session_note(section),
        f"Hollow: {plural(len(predicted), 'predicted point')} (replayed, priced, not timed)." if predicted else "",
        "" if usual in (None, MAX_DRAFT) else f"Where a name has no k, BiLD drafts are of up to {usual} tokens.",
        switches_note(section.records),
        f"{overlay_note(behind)} Each less its own vanilla." if behind is not None else "",
        doubts_note(section.records),
        f"{plural(unplaced, 'point')} without a label: see the table." if unplaced else "",
    ]


def front_caption(section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None) -> str:
    """Return the figure in words, for those who do not see it."""
    papers = section.papers
    text = (
        f"{plural(len(section.records), 'measured point')} of {section.title}; {len(section.on_front())} on the "
        f"front. Fastest shown within {section.margin:g}: {section.told(section.pick)}. By point estimate, as the "
        f"paper chose, fastest BiLD at no loss: {section.told(papers.no_loss)}; at a loss of one point at most: "
        f"{section.told(papers.one_point)}."
    )
    if predicted:
        text += f" {plural(len(predicted), 'predicted point')} are hollow."
    return text if behind is None else f"{text} {overlay_note(behind)}"


def front_legend(
    section: Section, predicted: Sequence[PredictedPoint], shown: dict[str, Look], behind: Overlay | None, theme: Theme
) -> list[Line2D]:
    """Return entries for methods measured and predicted, the front's line, the picks, and what stands behind."""
    measured = set(map(legend, section.records))
    edge: dict[str, Any] = {"markeredgecolor": theme.paper, "markeredgewidth": 0.6}
    handles = [
        handle(look.name, look.color, marker=look.marker, markersize=look.size, **edge)
        for name, look in shown.items()
        if name in measured
    ]
    hollow: dict[str, Any] = {"markerfacecolor": "none", "markersize": 4, "markeredgewidth": 0.6}
    alone = [look for name, look in shown.items() if name not in measured]
    handles += [handle(f"{look.name}, predicted", look.color, marker=look.marker, **hollow) for look in alone]
    if len(predicted) and len(alone) < len(shown):
        handles.append(handle("predicted", theme.quiet, marker="o", **hollow))
    handles.append(front_handle(theme))
    for mark, chosen in zip(PICKS, section.picks, strict=True):
        if chosen is not None:
            name = mark.name.format(section.margin)
            handles.append(handle(name, theme.strong, marker=mark.marker, markersize=7.5, **mark.look(theme)))
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
    order = [index for index in order if _inside(axes, section.at(records[index]))]
    named = order if len(order) <= MOST_LABELS else [i for i in order if i in front | first][:MOST_LABELS]
    marked = doubts(records)
    every = all(marked.values())  # then the notes say it of all
    usual = f" k{_usual_draft(section)}"

    def short(record: Record) -> str:
        """Return a label without what the mark or the notes tell, with the switches that tell it from another's."""
        text = label(record)
        more = section.names[record.hash].removeprefix(text).replace(", rules=authors", "")  # the mark is another
        own = text.removeprefix("BiLD-A ").removeprefix("BiLD ").removesuffix(usual) if "/" in text else text
        return own if "#" in more else own + more.removesuffix(" rules=authors")

    labels = [
        Label(
            *section.at(records[index]),
            short(records[index])
            + (" ✓" if section.confirmed(records[index]) else "")
            + (MARK if marked[records[index].hash] and not every else ""),
            shown[legend(records[index])].ink,
            7.5 if index in first else 4.0,
        )
        for index in named
    ]
    lines = axes.transData.transform(section.front_line()).tolist()
    left = place(axes, labels, taken, soft, lines, 6.5 if frame.phone else 7.5, frame.theme.paper)[1]
    return len(order) - len(labels) + len(left)


def _inside(axes: Axes, at: tuple[float, float]) -> bool:
    """Tell whether a point lies within the panel; the one beyond its edge has words of its own."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    return left <= at[0] <= right and low <= at[1] <= high


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
        speed, score = record.speedup, section.difference(record)
        x, y = axes.transData.transform(section.at(record))
        radius = (13 if section.picked(record) else shown[legend(record)].size) * scale / 2
        points.append(Box(x - radius, y - radius, x + radius, y + radius))
        (x0, y0), (x1, y1) = axes.transData.transform([(speed.low, score.low), (speed.high, score.high)])
        bars += [Box(x0, y - 1, x1, y + 1), Box(x - 1, y0, x + 1, y1)]
    return points, bars
