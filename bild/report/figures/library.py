"""Where the library's own `generate()` stands among the points of a section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bild.report.labels import Box, extent, halo
from bild.report.style import Theme
from bild.results import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def library_position(records: Sequence[Record]) -> float | None:
    """The library's generate() on the speedup axis: same-engine vanilla's time over its, or None without a timing.

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


def draw_library(axes: Axes, records: Sequence[Record], theme: Theme) -> list[Box]:
    """The library's generate() as a quiet mark on the axis, or an arrow at its end where it lies outside.

    Returns the box of its text.
    """
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
