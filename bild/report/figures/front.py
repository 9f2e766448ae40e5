"""Speedup against the paired difference to vanilla: every measured point with both intervals and their joint region.

Points that are shown to hold the margin are full; predicted points are hollow and quiet; the paper's and the
reproduction's stand grey behind, each less its own vanilla. Equal records give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.report import layout
from bild.report.figure import FRONT_COLOR, Look, Sheet, Theme, looks
from bild.report.figures import front_text
from bild.report.format import label, legend
from bild.report.labels import Box, extent
from bild.report.paper import Overlay, overlay
from bild.report.predictions import difference_of, not_measured
from bild.report.sections import Section, make_section
from bild.results import Interval, Record
from bild.results.predicted import PredictedPoint
from bild.results.reading import ONE_POINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon

MOST_REGIONS = 9
PALE = 0.4
"""The opacity of the inside of a mark that is not shown to hold the margin."""


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
            notes = front_text.front_notes(section, predicted, behind, unplaced)
            entries = front_text.front_legend(section, predicted, looks(shown, theme), behind, theme)
            sizes: dict[str, Any] = {"heights": (3.4,), "left": 0.72, "right": 0.55}
            frame = layout.open_section(section, front_text.TITLE, notes, entries, theme, width, **sizes)
            found = _fill(frame, section, predicted, looks(shown, theme), behind)
            if found == unplaced:
                break
            unplaced = found
        return frame.figure

    return Sheet(stem, front_text.TITLE, front_text.front_caption(section, predicted, behind), make)


def _fill(
    frame: layout.Frame,
    section: Section,
    predicted: Sequence[PredictedPoint],
    shown: dict[str, Look],
    behind: Overlay | None,
) -> int:
    """Fill the panel, and return how many labels found no place."""
    axes, theme = frame.panels[0], frame.theme
    layout.plain(axes, theme, "x")
    _set_limits(frame, section, predicted, behind)
    for name, look in reversed(shown.items()):  # the anchors on top
        guesses = [point for point in predicted if legend(point) == name]
        _draw_predicted(axes, [_guessed(section, point) for point in guesses], look, theme)
        for record in (record for record in section.records if legend(record) == name):
            _draw_point(axes, record, look, theme, section)
    for record in _with_region(section):
        axes.add_patch(_region(section, record, shown[legend(record)].color))
    hairs = layout.open_differences(axes, section, theme)
    line: dict[str, Any] = {"color": theme.mark(FRONT_COLOR), "alpha": layout.FAINT, "linewidth": 1.4, "zorder": 2}
    axes.plot(*zip(*section.front_line(), strict=True), label="Pareto front", **line)
    if behind is not None:
        _draw_overlay(axes, behind, theme)
    for mark, chosen in zip(front_text.PICKS, section.picks, strict=True):
        if chosen is not None:
            ring = mark.look(theme) | {"zorder": 4.5}
            layout.dots(axes, [section.at(chosen)], theme.strong, mark.marker, mark.size, theme, **ring)
    notes = _draw_library(axes, section.records, theme)
    if (beyond := far_out(section, predicted, behind)) is not None:
        notes += _draw_far(axes, section, beyond, shown[legend(beyond)], theme)
    layout.long_speedup_axis(frame)
    return front_text.draw_labels(frame, section, shown, notes, hairs)


def _draw_point(axes: Axes, record: Record, look: Look, theme: Theme, section: Section) -> None:
    """Draw a measured point: full where it is shown to hold the margin, pale where it is not."""
    found = section.verdicts.get(record.hash)
    face = look.color if found is None or found.kind == "shown" else (look.color, PALE)
    edge: dict[str, Any] = {"markerfacecolor": face, "markeredgewidth": 1.0}
    edge["markeredgecolor"] = theme.paper if face == look.color else look.color
    if section.confirmed(record):
        edge |= {"markeredgecolor": theme.strong, "markeredgewidth": 1.4, "markersize": 1.25 * look.size}
    alpha = max(0.15, min(0.45, 12 / len(section.records)))
    layout.cross(axes, record.speedup, section.difference(record), look.color, alpha)
    layout.dots(
        axes, [section.at(record)], look.color, look.marker, look.size, theme, zorder=5, label=look.name, **edge
    )


def _guessed(section: Section, point: PredictedPoint) -> tuple[float, float]:
    """Return where a predicted point lies: its speedup, and its difference to vanilla."""
    return point.speedup.value, difference_of(section, point).value


def _draw_predicted(axes: Axes, at: Sequence[tuple[float, float]], look: Look, theme: Theme) -> None:
    if at:
        hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": look.color, "markeredgewidth": 0.6}
        faint = 0.5 if len(at) < 100 else 0.35
        layout.dots(axes, at, look.color, look.marker, 0.5 * look.size, theme, zorder=1.8, alpha=faint, **hollow)


def _set_limits(
    frame: layout.Frame, section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None
) -> None:
    axes = frame.panels[0]
    (slow, fast), (low, high) = spans_of(section, predicted, behind, far_out(section, predicted, behind))
    wide, tall = max(fast - slow, 0.2), max(high - low, 0.5)
    library = library_position(section.records)
    if library is not None and slow - wide / 4 <= library < slow:  # near enough to be shown in its place
        slow = library
    axes.set_xlim(slow - 0.07 * wide, fast + 0.07 * wide)
    axes.set_ylim(low - 0.1 * tall, high + 0.08 * tall)  # room for the library's mark at the foot
    axes.locator_params(axis="y", nbins=8)
    axes.locator_params(axis="x", nbins=5 if frame.phone else 8)


def spans_of(
    section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None = None, without: Record | None = None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of speedups and of differences that the front shows, but for one point that it may leave out."""
    records = [record for record in section.records if record is not without]
    x = [record.speedup for record in records] + [layout.exactly(1.0)]
    y = [section.difference(record) for record in records] + [Interval(0.0, -section.margin, 0.0)]
    others = [*(_guessed(section, each) for each in predicted), *(behind.points if behind else ())]
    x += [layout.exactly(speedup) for speedup, _ in others]
    y += [layout.exactly(lost) for _, lost in others]
    return layout.span(x, 0.5), layout.span(y, 2 * ONE_POINT)


def far_out(section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None = None) -> Record | None:
    """Return the small model's point where its place would squeeze all others into a corner; None where it does not."""
    small = next((record for record in section.records if record.method.name == "small"), None)
    if small is None or len(section.records) < 3:
        return None
    (slow, fast), (low, high) = spans_of(section, predicted, behind, small)
    speedup, lost = section.at(small)
    far = speedup - fast > 1.5 * max(fast - slow, 0.2) or low - lost > 1.5 * max(high - low, 0.5)
    return small if far else None


def _draw_far(axes: Axes, section: Section, record: Record, look: Look, theme: Theme) -> list[Box]:
    """Mark a point that lies beyond the edge there, and say where it lies; return the text's box."""
    speedup, lost = section.at(record)
    (_, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = min(speedup, right), min(max(lost, low), high)
    axes.plot([x], [y], marker=">" if speedup > right else "v", markersize=6, color=look.color, clip_on=False, zorder=5)
    lift = 8 if y < (low + high) / 2 else -8
    words = f"{label(record)}: {speedup:.2f}×, {lost:+.2f}".replace("-", "−")
    side = {"ha": "right", "va": "bottom" if lift > 0 else "top", "color": look.ink}
    return [extent(layout.note(axes, words, (x, y), (-4, lift), side, theme))]


def _with_region(section: Section) -> list[Record]:
    """Return whose region is drawn: of many points only the front and the picks, else it is a fog.

    What sessions differ by is not in the joint figures, so a point of several has none.
    """
    front, few = section.on_front(), len(section.records) <= MOST_REGIONS
    return [
        record
        for index, record in enumerate(section.records)
        if record.joint is not None
        and record.latency.between is None
        and record.joint.speedup_sd > 0 < record.joint.quality_sd
        and (few or index in front or section.picked(record))
    ]


def _region(section: Section, record: Record, color: str) -> Polygon:
    """Return what holds speedup and difference jointly: an ellipse of the record's confidence."""
    from matplotlib.patches import Polygon

    joint, (x, y) = record.joint, section.at(record)
    assert joint is not None
    reach = math.sqrt(-2 * math.log(1 - record.intervals.confidence))
    rest = math.sqrt(max(0.0, 1 - joint.correlation**2))
    turns = [2 * math.pi * step / 72 for step in range(72)]
    corners = [
        (
            x + reach * joint.speedup_sd * math.cos(turn),
            y + reach * joint.quality_sd * (joint.correlation * math.cos(turn) + rest * math.sin(turn)),
        )
        for turn in turns
    ]
    return Polygon(corners, closed=True, facecolor=(color, 0.07), edgecolor=(color, 0.3), linewidth=0.5, zorder=1.5)


def _draw_overlay(axes: Axes, behind: Overlay, theme: Theme) -> None:
    """Draw the paper's curve and Table 1 and the reproduction, grey and thin: they are of another machine."""
    (mark, size, _), (other, other_size, _) = front_text.QUIET_MARKS
    if behind.curve:
        layout.quiet_curve(axes, behind.curve, theme, mark, (0, (3, 2)))
    hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": theme.quiet, "markeredgewidth": 0.9}
    layout.dots(axes, behind.picks, theme.quiet, mark, size + 2.5, theme, zorder=1.9, **hollow)
    if behind.reproduced:
        faint: dict[str, Any] = {"markeredgecolor": theme.quiet, "markeredgewidth": 0.6, "alpha": 0.55, "zorder": 1.7}
        layout.dots(axes, behind.reproduced, theme.quiet, other, other_size, theme, **faint)


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
    side = {"xycoords": foot, "ha": "left" if on_left else "right", "va": "bottom", "color": theme.quiet}
    words = f"library generate(): {position:.2f}×"
    return [extent(layout.note(axes, words, (x, 0), (7 if on_left else -7, 5), side, theme))]
