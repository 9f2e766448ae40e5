"""The paper's curve, its Table 1 and the reproduction as a quiet layer behind one's own points."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bild.report.published import Overlay
from bild.report.style import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

QUIET_MARKS: tuple[tuple[str, float, str], ...] = (
    ("d", 4, "paper (T4)"),
    ("x", 3.5, "reproduction (T4, no decoder cache)"),
)


def draw_overlay(axes: Axes, behind: Overlay, theme: Theme) -> None:
    """Grey and thin: these were measured on another machine."""
    (mark, size, name), (other, other_size, other_name) = QUIET_MARKS
    curve = sorted(behind.curve)
    axes.plot(
        [x for x, _ in curve],
        [y for _, y in curve],
        color=theme.quiet,
        linewidth=0.8,
        linestyle=(0, (3, 2)),
        marker=mark,
        markersize=size - 1,
        markerfacecolor="none",
        markeredgewidth=0.6,
        alpha=0.8,
        zorder=1.8,
        label=name,
    )
    for row in behind.picks:
        axes.plot(
            [row.speedup or 1.0],
            [row.score],
            marker=mark,
            markersize=size + 2.5,
            markerfacecolor="none",
            markeredgecolor=theme.quiet,
            markeredgewidth=0.9,
            linestyle="none",
            zorder=1.9,
        )
    axes.plot(
        [x for x, _ in behind.reproduced],
        [y for _, y in behind.reproduced],
        linestyle="none",
        marker=other,
        markersize=other_size,
        markeredgewidth=0.6,
        color=theme.quiet,
        alpha=0.55,
        zorder=1.7,
        label=other_name,
    )


def draw_quiet_curve(axes: Axes, points: Iterable[tuple[float, float]], theme: Theme, marker: str, dash: Any) -> None:
    """One of the paper's curves behind one's own."""
    x, y = zip(*sorted(points), strict=True)
    axes.plot(
        x, y, color=theme.quiet, linewidth=0.8, linestyle=dash, marker=marker, markersize=2.5, alpha=0.7, zorder=1.5
    )


def quiet_handle(name: str, theme: Theme) -> Line2D:
    """What the legend says of such curves."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=theme.quiet, linewidth=0.8, marker="d", markersize=3, label=name)
