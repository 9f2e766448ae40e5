"""Speedup against quality: every measured point with both of its intervals and the region that holds them jointly.

Predicted points are hollow; the paper's and the reproduction's stand quietly behind. Equal records give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.report.figure import Sheet
from bild.report.figures.common import FAINT, dots, long_speedup_axis, plain, quiet_curve
from bild.report.figures.front_text import QUIET_MARKS, TITLE, draw_labels, front_caption, front_legend, front_words
from bild.report.format import legend, metric_name
from bild.report.labels import Box, extent, halo
from bild.report.layout import Frame, open_frame
from bild.report.paper import Overlay, overlay
from bild.report.predictions import not_measured
from bild.report.sections import Section, make_section
from bild.report.style import FRONT_COLOR, Look, Theme, looks
from bild.results import Record
from bild.results.pareto import ANCHORS, ONE_POINT
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_REGIONS = 9


def draw(records: Sequence[Record], theme: str = "light", width: str = "print") -> Figure:
    """Draw records that may be compared; BildError naming what differs where they may not."""
    return front_sheet(make_section(records)).draw(theme, width)


def save(records: Sequence[Record], out: Path, stem: str = "pareto") -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg` to the folder `out`, and return their paths. BildError as in `draw`."""
    sheet = front_sheet(make_section(records), stem=stem)
    return sheet.save(Path(out), (("", "light", "print", ("png", "svg")),))


def front_sheet(section: Section, predicted: Sequence[PredictedPoint] = (), stem: str = "pareto") -> Sheet:
    """Return the front of a section; a predicted point that was measured too is shown as measured only."""
    predicted, behind = not_measured(section, predicted), overlay(section.first)
    shown = {*map(legend, section.records), *map(legend, predicted)}

    def make(theme: Theme, width: str) -> Figure:
        # The words must know how many labels found no place, and the frame must know the words: draw twice if need be.
        unplaced = 0
        for _ in range(2):
            words = front_words(section, predicted, behind, unplaced)
            entries = front_legend(section, predicted, looks(shown, theme), behind, theme)
            frame = open_frame(theme, width, words, entries, heights=(3.1,), left=0.62, right=0.2)
            found = _fill(frame, section, predicted, looks(shown, theme), behind)
            if found == unplaced:
                break
            unplaced = found
        return frame.figure

    return Sheet(stem, TITLE, front_caption(section, predicted, behind), make)


def _fill(
    frame: Frame, section: Section, predicted: Sequence[PredictedPoint], shown: dict[str, Look], behind: Overlay | None
) -> int:
    """Fill the panel, and return how many labels found no place."""
    axes, theme = frame.panels[0], frame.theme
    _set_limits(frame, section, predicted, behind)
    for name, look in reversed(shown.items()):  # the anchors on top
        _draw_predicted(axes, [each for each in predicted if legend(each) == name], look, theme)
        _draw_points(axes, [record for record in section.records if legend(record) == name], look, theme, section)
    for record in _with_region(section):
        _draw_region(axes, record, shown[legend(record)].color)
    hairs = _draw_lines(axes, section, theme)
    if behind is not None:
        _draw_overlay(axes, behind, theme)
    for picked, marker in ((section.picks.no_loss, "o"), (section.picks.one_point, "s")):
        if picked is not None:  # a ring at no loss, a box at a loss of a point at most
            at = [(picked.latency.speedup.total.value, picked.headline.value)]
            ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": theme.strong, "markeredgewidth": 0.9}
            dots(axes, at, theme.strong, marker, 11.5, theme, zorder=4.5, **ring)
    notes = _draw_library(axes, section.records, theme)
    long_speedup_axis(frame)
    axes.set_ylabel(metric_name(section.first))
    return draw_labels(frame, section, shown, notes, hairs)


def _draw_points(axes: Axes, records: Sequence[Record], look: Look, theme: Theme, section: Section) -> None:
    if not records:
        return
    speeds, scores = [record.latency.speedup.total for record in records], [record.headline for record in records]
    points = [(speed.value, score.value) for speed, score in zip(speeds, scores, strict=True)]
    x, y = zip(*points, strict=True)
    bars: dict[str, Any] = {"color": look.color, "linewidth": 0.7}
    bars["alpha"] = max(0.12, min(0.35, 12 / len(section.records)))
    axes.hlines(y, [speed.low for speed in speeds], [speed.high for speed in speeds], **bars)
    axes.vlines(x, [score.low for score in scores], [score.high for score in scores], **bars)
    dots(axes, points, look.color, look.marker, look.size, theme, zorder=5, label=look.name, markeredgewidth=0.6)


def _draw_predicted(axes: Axes, points: Sequence[PredictedPoint], look: Look, theme: Theme) -> None:
    if points:
        at = [(each.speedup.value, each.quality.score) for each in points]
        hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": look.color, "markeredgewidth": 0.7}
        faint, name = 0.75 if len(points) < 100 else 0.5, f"{look.name}, predicted"
        dots(axes, at, look.color, look.marker, 0.72 * look.size, theme, zorder=3, alpha=faint, label=name, **hollow)


def _set_limits(frame: Frame, section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None) -> None:
    axes = frame.panels[0]
    x, y = [1.0], []
    for record in section.records:
        speed, score = record.latency.speedup.total, record.headline
        x += [speed.low, speed.high]
        y += [score.low, score.value, score.high]
    for record in _with_region(section):
        assert record.joint is not None
        across, along = (_reach(record) * sd for sd in (record.joint.speedup_sd, record.joint.quality_sd))
        speed, score = record.latency.speedup.total, record.headline
        x += [speed.value - across, speed.value + across]
        y += [score.value - along, score.value + along]
    others = [(each.speedup.value, each.quality.score) for each in predicted]
    for speedup, quality in [*others, *(behind.points if behind else ())]:
        x.append(speedup)
        y.append(quality)
    slow, fast, low, high = min(x), max(x), min(y), max(y)
    wide, tall = max(fast - slow, 0.2), max(high - low, 0.5)
    library = library_position(section.records)
    if library is not None and slow - wide / 4 <= library < slow:  # near enough to be shown in its place
        slow = library
    axes.set_xlim(slow - 0.07 * wide, fast + 0.07 * wide)
    axes.set_ylim(low - 0.1 * tall, high + 0.08 * tall)  # room for the library's mark at the foot
    axes.locator_params(axis="y", nbins=8)
    axes.locator_params(axis="x", nbins=5 if frame.phone else 8)
    plain(axes, frame.theme)


def _draw_lines(axes: Axes, section: Section, theme: Theme) -> list[Box]:
    """Draw vanilla's quality (no loss), a point below it, vanilla's speed, and the front; return the hairs' boxes."""
    frame, vanilla, difference = axes.get_window_extent(), section.vanilla(), section.first.headline_difference
    quality = vanilla.headline.value if vanilla else None
    if quality is None and difference is not None:
        quality = section.first.headline.value - difference.value
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    x, _ = axes.transData.transform((1.0, quality or 0.0))
    boxes = [Box(x - 1, frame.y0, x + 1, frame.y1)]
    for loss, name, dash in ((0.0, "no loss", "-"), (ONE_POINT, "−1 point", (0, (4, 3)))):
        level = -math.inf if quality is None else quality - loss
        if level <= axes.get_ylim()[0]:
            continue
        axes.axhline(level, color=theme.hair, linewidth=0.7, linestyle=dash, zorder=1)
        _, y = axes.transData.transform((1.0, level))
        look: dict[str, Any] = {"fontsize": 6.5, "color": theme.quiet, "path_effects": halo(theme.paper)}
        note = axes.text(0.995, level, name, transform=axes.get_yaxis_transform(), ha="right", va="bottom", **look)
        boxes += [Box(frame.x0, y - 1, frame.x1, y + 1), extent(note)]
    line: dict[str, Any] = {"color": theme.mark(FRONT_COLOR), "alpha": FAINT, "linewidth": 1.4, "zorder": 2}
    axes.plot(*zip(*section.front_line(), strict=True), label="Pareto front", **line)
    return boxes


def _with_region(section: Section) -> list[Record]:
    """Return whose region is drawn: of many points only the anchors, the front and the picks, else it is a fog."""
    front, few = section.on_front(), len(section.records) <= MOST_REGIONS
    return [
        record
        for index, record in enumerate(section.records)
        if record.joint is not None
        and (few or index in front or record.method.name in ANCHORS or section.picked(record))
    ]


def _draw_region(axes: Axes, record: Record, color: str) -> None:
    """Draw what holds speedup and quality jointly: the normal ellipse of the paired bootstrap draws."""
    from matplotlib.patches import Polygon

    joint = record.joint
    if joint is None or joint.speedup_sd <= 0 or joint.quality_sd <= 0:
        return
    across, along = _reach(record) * joint.speedup_sd, _reach(record) * joint.quality_sd
    rest = math.sqrt(max(0.0, 1 - joint.correlation**2))
    turns = [2 * math.pi * step / 72 for step in range(72)]
    corners = [
        (
            record.latency.speedup.total.value + across * math.cos(turn),
            record.headline.value + along * (joint.correlation * math.cos(turn) + rest * math.sin(turn)),
        )
        for turn in turns
    ]
    axes.add_patch(Polygon(corners, closed=True, facecolor=color, alpha=0.07, linewidth=0, zorder=1.5))
    axes.add_patch(Polygon(corners, closed=True, fill=False, edgecolor=color, alpha=0.3, linewidth=0.5, zorder=1.6))


def _reach(record: Record) -> float:
    """Return how many standard deviations from its middle a normal ellipse of the record's confidence goes."""
    return math.sqrt(-2 * math.log(1 - record.intervals.confidence))


def _draw_overlay(axes: Axes, behind: Overlay, theme: Theme) -> None:
    """Draw the paper's curve and Table 1 and the reproduction, grey and thin: they are of another machine."""
    (mark, size, _), (other, other_size, _) = QUIET_MARKS
    if behind.curve:
        quiet_curve(axes, behind.curve, theme, mark, (0, (3, 2)))
    picks = [(row.speedup or 1.0, row.score) for row in behind.picks]
    hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": theme.quiet, "markeredgewidth": 0.9}
    dots(axes, picks, theme.quiet, mark, size + 2.5, theme, zorder=1.9, **hollow)
    if behind.reproduced:
        faint: dict[str, Any] = {"markeredgecolor": theme.quiet, "markeredgewidth": 0.6, "alpha": 0.55, "zorder": 1.7}
        dots(axes, behind.reproduced, theme.quiet, other, other_size, theme, **faint)


def library_position(records: Sequence[Record]) -> float | None:
    """Return the library's generate() on the speedup axis: same-engine vanilla's time over its, or None if not timed.

    Vanilla's own record compares the two on the same examples; without it, times per token have to do.
    """
    timed = [(record, record.latency.library) for record in records if record.latency.library]
    for record, library in timed:
        if record.method.name == "vanilla" and library:
            return 1 / library.speedup.value
    for record, library in timed:
        if library:
            return record.latency.baseline.ms_per_token / library.ms_per_token
    return None


def _draw_library(axes: Axes, records: Sequence[Record], theme: Theme) -> list[Box]:
    """Mark the library's generate() on the axis, or its end where it lies outside; return the text's box."""
    position = library_position(records)
    if position is None:
        return []
    left, right = axes.get_xlim()
    x = min(max(position, left), right)
    marker = "^" if x == position else "<" if position < left else ">"
    foot = axes.get_xaxis_transform()
    axes.plot([x], [0], transform=foot, marker=marker, markersize=5, color=theme.quiet, clip_on=False, zorder=5)
    on_left = x < (left + right) / 2
    note = axes.annotate(
        f"library generate(): {position:.2f}×",
        (x, 0),
        xycoords=foot,
        xytext=(7 if on_left else -7, 5),
        textcoords="offset points",
        ha="left" if on_left else "right",
        va="bottom",
        fontsize=7,
        color=theme.quiet,
        path_effects=halo(theme.paper),
    )
    return [extent(note)]
