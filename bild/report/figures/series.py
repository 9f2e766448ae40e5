"""What figures with several points share: colours, marks with their intervals, lines, axes, handles in the legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bild.report.looks import DASHES, SERIES, Look, long_names
from bild.report.style import Theme
from bild.results import Interval, Record, Score

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "D", "^", "v", "P")


class Series(NamedTuple):
    """How one point is drawn among others."""

    name: str
    color: str
    dash: Any
    marker: str


def series(records: Sequence[Record], theme: Theme) -> list[Series]:
    """A colour, a line and a mark of its own for each of at most six records."""
    return [
        Series(
            name, theme.mark(SERIES[index % len(SERIES)]), DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)]
        )
        for index, name in enumerate(long_names(records))
    ]


def handles(found: Sequence[Series], marks: bool = False) -> list[Artist]:
    """The legend of some series."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            color=each.color,
            linestyle=each.dash,
            linewidth=1.3,
            marker=each.marker if marks else None,
            markersize=3.5,
            label=each.name,
        )
        for each in found
    ]


def look_handles(shown: Mapping[str, Look]) -> list[Artist]:
    """The legend of marks."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=look.color, marker=look.marker, markersize=5, linestyle="none", label=look.name)
        for look in shown.values()
    ]


def draw_line(
    axes: Axes, x: Sequence[float], y: Sequence[float], look: Series, marks: bool = False, **more: Any
) -> None:
    """The line of one point, as `handles` shows it in the legend."""
    marker = look.marker if marks else None
    axes.plot(x, y, color=look.color, linestyle=look.dash, linewidth=1.2, marker=marker, markersize=3, **more)


def cross(
    axes: Axes, x: Interval, y: Interval | Score, color: str, *, alphas: tuple[float, float], linewidth: float = 0.7
) -> None:
    """The intervals of a point as two thin lines, which need not meet in the middle."""
    axes.plot([x.low, x.high], [y.value] * 2, color=color, linewidth=linewidth, alpha=alphas[0])
    axes.plot([x.value] * 2, [y.low, y.high], color=color, linewidth=linewidth, alpha=alphas[1])


def dots(
    axes: Axes, points: Sequence[tuple[float, float]], color: str, marker: str, size: float, theme: Theme, **more: Any
) -> None:
    """Marks edged in the colour of the paper, so that they stand out from each other."""
    look: dict[str, Any] = {
        "color": color,
        "marker": marker,
        "markersize": size,
        "markeredgecolor": theme.paper,
        "zorder": 4,
    }
    axes.plot(*zip(*points, strict=True), markeredgewidth=0.5, **(look | more))


def speedup_axis(axes: Axes, label: str = "speedup over vanilla") -> None:
    """Speedups across, with their sign."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")


def plain(axes: Axes, theme: Theme) -> None:
    """A grid behind the data."""
    axes.grid(True, color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
