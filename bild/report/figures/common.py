"""Parts that figures share: marks with intervals, lines, axes, handles in the legend, the paper's quiet curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bild.report.format import labels, metric_name
from bild.report.labels import Box, extent, halo
from bild.report.layout import Frame
from bild.report.sections import Section
from bild.report.style import DASHES, FRONT_COLOR, SERIES, Look, Theme
from bild.results import Interval, Record
from bild.results.reading import ONE_POINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

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
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8 if whole else 6, integer=whole))
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
