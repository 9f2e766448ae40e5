"""What figures with several points side by side share: their colours, their lines and their handles in the legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bild.report.looks import DASHES, SERIES, long_names
from bild.report.themes import Theme
from bild.results import Record

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


def plain(axes: Axes, theme: Theme) -> None:
    """A grid behind the data."""
    axes.grid(True, color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
