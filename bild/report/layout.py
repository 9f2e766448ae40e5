"""The layout of every figure: title, conditions and legend above the panels, words below; for a page or a phone; and
the parts that figures share: marks with intervals, lines, axes, handles in the legend, the paper's quiet curves.

Sizes are worked out from the texts before anything is drawn, so that nothing overlaps whatever the names are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bild.report.figure import DASHES, DPI, FRONT_COLOR, SERIES, Look, Theme
from bild.report.format import labels, metric_name
from bild.report.labels import Box, extent, halo, legend_shape, wrap
from bild.report.sections import Section
from bild.results import Interval, Record
from bild.results.reading import ONE_POINT

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

WIDTHS = {"print": 7.0, "phone": 3.6}  # inches: the text width of a page, and a phone held upright
_SIDE = 0.09  # inches left free at either edge
_GAP = 0.95  # inches between two panels, for the labels of the second


class Frame(NamedTuple):
    """A figure with empty panels in place."""

    figure: Figure
    panels: list[Axes]
    theme: Theme
    phone: bool


def open_frame(
    theme: Theme,
    width: str,
    title: str,
    conditions: str,
    notes: str,
    legend: Sequence[Artist] = (),
    *,
    heights: Sequence[float] = (3.1,),
    left: float = 0.58,
    right: float = 0.12,
    foot: float = 0.48,
    head: float = 0.0,
    shares: Sequence[float] = (),
) -> Frame:
    """Open a figure with a panel for each of `heights` (inches), side by side on a page and stacked on a phone.

    `left`, `right`, `foot` and `head` are the inches that the labels around a panel take; `shares` divides the width
    of a page among the panels. `legend` are handles with labels. The caller holds the `rc_context`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, phone = WIDTHS[width], width == "phone"
    room = 0.965 * (wide - 2 * _SIDE)  # a line's width differs a little from one resolution to another
    figure = Figure(figsize=(wide, 10), dpi=DPI)
    FigureCanvasAgg(figure)
    # Each text: size in points, inches from line to line, weight, colour, lines.
    big, plain, small, row = (9.5, 7.0, 6.5, 7.0) if phone else (10.5, 8.0, 7.0, 7.5)
    subtitle = wrap(conditions, plain, room)
    if len(subtitle) > 1:  # where one part ends and the next begins, unless that takes another line
        subtitle = min(wrap(conditions.replace("; ", ";\n", 1), plain, room), subtitle, key=len)
    above = [
        (big, 0.17 if phone else 0.185, "bold", theme.ink, wrap(title, big, room, bold=True)),
        (plain, 0.14 if phone else 0.155, "normal", theme.soft, subtitle),
    ]
    written, note = wrap(notes, small, room), 0.125 if phone else 0.135
    columns, rows = legend_shape(legend, room, row)
    top = 0.3 + sum(step * len(lines) for _, step, _, _, lines in above) + 0.0176 * row * rows + head
    bottom = 0.08 + note * len(written)
    stacked = phone and len(heights) > 1
    body = sum(heights) + foot * len(heights) + 0.2 * (len(heights) - 1) if stacked else max(heights) + foot
    height = top + body + bottom
    figure.set_size_inches(wide, height)
    y = height - 0.1
    for size, step, weight, color, lines in above:
        for text in lines:
            figure.text(_SIDE / wide, y / height, text, fontsize=size, fontweight=weight, color=color, va="top")
            y -= step
        y -= 0.02
    if legend:
        figure.legend(
            handles=list(legend),
            loc="upper left",
            bbox_to_anchor=((_SIDE - 0.05) / wide, (y + 0.02) / height),
            ncols=columns,
            frameon=False,
            fontsize=row,
            handletextpad=0.4,
            columnspacing=1.2,
            labelspacing=0.25,
            borderaxespad=0.0,
        )
    for index, text in enumerate(written):
        at = (bottom - 0.04 - index * note) / height
        figure.text(_SIDE / wide, at, text, fontsize=small, color=theme.soft, va="top")
    panels = []
    x, at = left, bottom + body
    whole = wide - left - right - (0 if stacked else (len(heights) - 1) * _GAP)
    for index, panel in enumerate(heights):
        part = whole if stacked else whole * (shares[index] / sum(shares) if shares else 1 / len(heights))
        at = at - panel if stacked else bottom + foot
        panels.append(figure.add_axes((x / wide, at / height, part / wide, panel / height)))
        at -= foot + 0.2
        x += 0 if stacked else part + _GAP
    return Frame(figure, panels, theme, phone)


def open_section(
    section: Section, title: str, notes: Iterable[str], legend: Sequence[Artist], theme: Theme, width: str, **sizes: Any
) -> Frame:
    """Open the figure of a section, with the notes that are not empty; on a phone left is upper and right lower."""
    text = " ".join(filter(None, notes))
    text = text.replace("Left:", "Upper:").replace("Right:", "Lower:") if width == "phone" else text
    return open_frame(theme, width, title, f"{section.title}; {section.conditions}", text, legend, **sizes)


def span(intervals: Iterable[Interval], least: float) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, and their intervals as far as half the values' span beyond.

    A wild interval, of two sessions that disagree, would squeeze all points into a corner: its bar leaves the frame.
    """
    found = list(intervals)
    low, high = min(each.value for each in found), max(each.value for each in found)
    air = max(high - low, least) / 2
    low, high = max(min(each.low for each in found), low - air), min(max(each.high for each in found), high + air)
    return min(low, *(each.value for each in found)), max(high, *(each.value for each in found))


def span_axes(axes: Axes, points: Iterable[tuple[Interval, Interval]], least: tuple[float, float]) -> None:
    """Set both axes to the spans of some points and a little air."""
    limits = []
    for found, wide in zip(zip(*points, strict=True), least, strict=True):
        low, high = span(found, wide)
        air = 0.07 * max(high - low, wide)
        limits.append((low - air, high + air))
    axes.set(xlim=limits[0], ylim=limits[1])


def exactly(value: float) -> Interval:
    """Return a value as an interval without a width."""
    return Interval(value, value, value)


MARKERS = ("o", "s", "D", "^", "v", "P")
FAINT = 0.6
"""The opacity of a front's line."""


class Series(NamedTuple):
    """The look of one point among others."""

    name: str
    color: str
    dash: Any
    marker: str


def series(records: Sequence[Record], theme: Theme) -> list[Series]:
    """Return a colour, a line and a mark of its own for each of at most six records."""
    return [
        Series(name, theme.mark(SERIES[at % len(SERIES)]), DASHES[at % len(DASHES)], MARKERS[at % len(MARKERS)])
        for at, name in enumerate(labels(records))
    ]


def handle(name: str, color: str, **more: Any) -> Line2D:
    """Return an entry of a legend; without a `linestyle` it is a mark alone."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=name, color=color, **({"linestyle": "none"} | more))


def series_handles(found: Sequence[Series], marks: bool = False) -> list[Line2D]:
    """Return the legend of some series."""
    return [
        handle(s.name, s.color, linestyle=s.dash, linewidth=1.3, marker=s.marker if marks else None, markersize=3.5)
        for s in found
    ]


def look_handles(shown: Mapping[str, Look]) -> list[Line2D]:
    """Return the legend of marks."""
    return [handle(look.name, look.color, marker=look.marker, markersize=5) for look in shown.values()]


def front_handle(theme: Theme) -> Line2D:
    """Return the legend's entry for the line of a front."""
    return handle("Pareto front", theme.mark(FRONT_COLOR), linestyle="-", alpha=FAINT, linewidth=1.4)


def quiet_handle(name: str, theme: Theme) -> Line2D:
    """Return the legend's entry for the paper's curves."""
    return handle(name, theme.quiet, linestyle="-", linewidth=0.8, marker="d", markersize=3)


def draw_line(
    axes: Axes, x: Sequence[float], y: Sequence[float], look: Series, marks: bool = False, **more: Any
) -> None:
    """Draw the line of one point, as `series_handles` shows it in the legend."""
    marker = look.marker if marks else None
    axes.plot(x, y, color=look.color, linestyle=look.dash, linewidth=1.2, marker=marker, markersize=3, **more)


def cross(axes: Axes, x: Interval, y: Interval, color: str, alpha: float = 0.35) -> None:
    """Draw the intervals of a point as two thin lines, which need not meet in the middle."""
    line: dict[str, Any] = {"color": color, "linewidth": 0.7, "alpha": alpha}
    axes.plot([x.low, x.high], [y.value] * 2, **line)
    axes.plot([x.value] * 2, [y.low, y.high], **line)


def dots(
    axes: Axes, points: Sequence[tuple[float, float]], color: str, marker: str, size: float, theme: Theme, **more: Any
) -> None:
    """Draw marks edged in the colour of the paper, so that they stand out from each other."""
    look: dict[str, Any] = {"markersize": size, "markeredgecolor": theme.paper, "markeredgewidth": 0.5, "zorder": 4}
    axes.plot(*zip(*points, strict=True), **(look | {"color": color, "marker": marker, "linestyle": "none"} | more))


def quiet_curve(axes: Axes, points: Iterable[tuple[float, float]], theme: Theme, marker: str, dash: Any) -> None:
    """Draw one of the paper's curves, grey and thin, behind one's own."""
    look: dict[str, Any] = {"color": theme.quiet, "linewidth": 0.8, "markersize": 2.5, "alpha": 0.7, "zorder": 1.5}
    axes.plot(*zip(*sorted(points), strict=True), linestyle=dash, marker=marker, **look)


def open_differences(axes: Axes, section: Section, theme: Theme) -> list[Box]:
    """Lay the margins as bands below vanilla's quality, and vanilla's speed as a hair; return what texts must avoid.

    The axes' limits must be final. Up goes the paired difference to vanilla; the scores stand at the right.
    """
    axes.set_ylabel(f"{metric_name(section.first)} less vanilla's, paired")
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    axes.axhline(0.0, color=theme.hair, linewidth=0.9, zorder=1)
    frame, above, taken = axes.get_window_extent(), 0.0, []
    low, high = axes.get_ylim()
    for margin, alpha in zip(sorted({section.margin, ONE_POINT} - {0.0}), (0.34, 0.17), strict=False):
        axes.axhspan(-margin, above, color=theme.hair, alpha=alpha, linewidth=0, zorder=0.5)
        room = (above + margin) / (high - low) * frame.height
        above = -margin
        if room > 8 * axes.figure.dpi / 72 and -margin > low:  # as high as its name
            look: dict[str, Any] = {"fontsize": 6.5, "color": theme.quiet, "path_effects": halo(theme.paper)}
            look |= {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "bottom"}
            taken.append(extent(axes.text(0.995, -margin, f"−{margin:g}", **look)))
    x, y = axes.transData.transform((1.0, 0.0))
    up, down = (lambda y: y + section.base), (lambda y: y - section.base)
    scores = axes.secondary_yaxis("right", functions=(up, down))
    scores.set_ylabel(metric_name(section.first), color=theme.soft)
    scores.spines["right"].set_visible(False)
    return [*taken, Box(x - 1, frame.y0, x + 1, frame.y1), Box(frame.x0, y - 1, frame.x1, y + 1)]


def axis_names(axes: Axes, x: str, y: str, theme: Theme, whole: bool = False) -> None:
    """Name both axes and lay a grid; `whole` is for counts across."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x)
    axes.set_ylabel(y)
    # With two ticks at least, which is usual, an axis of one count would be cut into fractions.
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8 if whole else 6, integer=whole, min_n_ticks=1 if whole else 2))
    plain(axes, theme)


def speedup_axis(axes: Axes, label: str = "speedup over vanilla") -> None:
    """Show speedups across, with their sign."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")


def long_speedup_axis(frame: Frame) -> None:
    """Show speedups across the first panel and say over what, where there is room."""
    speedup_axis(frame.panels[0], "speedup over vanilla" + ("" if frame.phone else " (large model, same engine)"))


def note(
    axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], look: Mapping[str, Any], theme: Theme
) -> Annotation:
    """Write words beside a place, so many points from it; a halo keeps them readable on a line."""
    usual: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "path_effects": halo(theme.paper)}
    return axes.annotate(text, at, xytext=shift, **(usual | {**look}))


def plain(axes: Axes, theme: Theme, axis: Literal["both", "x", "y"] = "both") -> None:
    """Lay a grid behind the data."""
    axes.grid(True, axis=axis, color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
