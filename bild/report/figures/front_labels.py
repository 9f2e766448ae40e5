"""Who is who in the front: the names beside its points, and its legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bild.report.figures.front_region import line_of, speed_of
from bild.report.figures.overlay import QUIET_MARKS
from bild.report.labels import Box, Label, place
from bild.report.layout import Frame
from bild.report.looks import FRONT_COLOR, Look, caption, key, usual_draft
from bild.report.marks import MARK, marks
from bild.report.published import Overlay
from bild.report.sections import Section
from bild.report.style import Theme
from bild.results.pareto import picks
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.artist import Artist

MOST_LABELS = 40
"""From here on only the front, the anchors and the picks are named: more names are a fog."""
FAINT = 0.6
"""How opaque the line of the front is."""
MOST_OBSTACLES = 200
"""From here on labels keep clear of each other only: there is no free place among so many marks."""


def draw_labels(frame: Frame, section: Section, shown: dict[str, Look], taken: list[Box], soft: list[Box]) -> int:
    """Name the points, those on the front first. Returns how many found no place."""
    axes, chosen = frame.panels[0], picks(section.records)
    if len(section.records) < MOST_OBSTACLES:
        points, bars = _obstacles(frame, section, shown)
        taken, soft = [*taken, *points], [*soft, *bars]
    front = section.on_front()
    first = {index for index, record in enumerate(section.records) if record in (chosen.no_loss, chosen.one_point)}
    order = sorted(range(len(section.records)), key=lambda index: (index not in first, index not in front, index))
    named = order if len(order) <= MOST_LABELS else [i for i in order if i in front | first][:MOST_LABELS]
    usual, doubts = usual_draft(section.records), marks(section)
    many = sum(bool(given) for given in doubts.values()) == len(section.records)  # then the caption says it of all
    labels = []
    for record in (section.records[index] for index in named):
        text = caption(record, usual) + (MARK if doubts[record.hash] and not many else "")
        radius = 7.5 if record in (chosen.no_loss, chosen.one_point) else 4.0
        labels.append(Label(speed_of(record).value, record.headline.value, text, shown[key(record)].ink, radius))
    lines = axes.transData.transform(line_of(section)).tolist()
    size = 6.5 if frame.phone else 7.5
    left = place(axes, labels, taken, soft, lines, size, frame.theme.paper)[1]
    return len(section.records) - len(labels) + len(left)


def _obstacles(frame: Frame, section: Section, shown: dict[str, Look]) -> tuple[list[Box], list[Box]]:
    """The boxes of the points' marks, which no text may cover, and of their intervals, which it had better not."""
    axes, chosen, scale = frame.panels[0], picks(section.records), frame.figure.dpi / 72
    points: list[Box] = []
    bars: list[Box] = []
    for record in section.records:
        speed, score = speed_of(record), record.headline
        x, y = axes.transData.transform((speed.value, score.value))
        radius = (13 if record in (chosen.no_loss, chosen.one_point) else shown[key(record)].size) * scale / 2
        points.append(Box(x - radius, y - radius, x + radius, y + radius))
        (x0, y0), (x1, y1) = axes.transData.transform([(speed.low, score.low), (speed.high, score.high)])
        bars += [Box(x0, y - 1, x1, y + 1), Box(x - 1, y0, x + 1, y1)]
    return points, bars


def front_legend(
    section: Section, predicted: Sequence[PredictedPoint], shown: dict[str, Look], behind: Overlay | None, theme: Theme
) -> list[Artist]:
    """Methods measured and predicted, the front's line, the picks' rings, and what stands behind."""
    from matplotlib.lines import Line2D

    measured = {key(record) for record in section.records}
    hollow = {key(each) for each in predicted}
    chosen = picks(section.records)

    def mark(marker: str, size: float, name: str, color: str, **more: Any) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, markersize=size, color=color, label=name, **more)

    handles: list[Artist] = [
        mark(look.marker, look.size, look.name, look.color, markeredgecolor=theme.paper, markeredgewidth=0.6)
        for name, look in shown.items()
        if name in measured
    ]
    handles += [
        mark(look.marker, 0.72 * look.size, f"{look.name}, predicted", look.color, markerfacecolor="none")
        for name, look in shown.items()
        if name in hollow
    ]
    handles.append(Line2D([], [], color=theme.mark(FRONT_COLOR), alpha=FAINT, linewidth=1.4, label="Pareto front"))
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 0.9}
    if chosen.no_loss is not None:
        handles.append(mark("o", 8, "fastest BiLD at no loss", theme.strong, **ring))
    if chosen.one_point is not None:
        handles.append(mark("s", 7.5, "fastest at −1 point", theme.strong, **ring))
    if behind is not None:
        handles += [mark(*look, theme.quiet, markerfacecolor="none") for look in QUIET_MARKS]
    return handles
