"""Text in figures: measured, wrapped, and placed beside points, each label in the nearest free place around its point.

Positions are in pixels of the drawn figure. The search is greedy and has no randomness, so a figure's bytes do not
change from run to run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bild.report.figure import DPI

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect
    from matplotlib.text import Annotation, Text
    from numpy.typing import NDArray

_GAPS = (3.5, 6.0, 9.0, 13.0, 18.0, 24.0, 32.0, 42.0)  # points between a point's middle and the text's edge
# Where the text goes: the direction of its nearest edge, and which part of it lies there (in half widths and heights).
# Above and right first, where a front has room.
_SIDES = (
    (0.7, 0.7, 1.0, 1.0),
    (1.0, 0.0, 1.0, 0.0),
    (0.0, 1.0, 0.0, 1.0),
    (-1.0, 0.0, -1.0, 0.0),
    (0.7, -0.7, 1.0, -1.0),
    (-0.7, -0.7, -1.0, -1.0),
    (-0.7, 0.7, -1.0, 1.0),
    (0.0, -1.0, 0.0, -1.0),
    (0.0, 1.0, 0.7, 1.0),
    (0.0, 1.0, -0.7, 1.0),
    (0.0, -1.0, 0.7, -1.0),
    (0.0, -1.0, -0.7, -1.0),
    (0.93, 0.38, 1.0, 1.0),
    (0.38, 0.93, 1.0, 1.0),
    (0.93, -0.38, 1.0, -1.0),
    (-0.93, 0.38, -1.0, 1.0),
    (-0.93, -0.38, -1.0, -1.0),
)
_LEADER_FROM = 9.0  # points; a label so far off gets a line to its point
_RADIUS = 4.0  # points that a leader leaves free around its point
_MARGIN = 1.0  # points around a text
_PIECE = 6.0  # pixels


class Box(NamedTuple):
    """A rectangle in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float


class Label(NamedTuple):
    """A text for the point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    color: str
    radius: float = 4.0
    """Of its mark, in points."""


class Place(NamedTuple):
    """The place of a text's middle, in points from its label's point, and the boxes that it and its leader take."""

    dx: float
    dy: float
    boxes: list[Box]
    start: tuple[float, float]  # of the leader, as a share of the box's width and height


def halo(paper: str = "#ffffff") -> list[AbstractPathEffect]:
    """Return an edge in the background's colour around a text, which keeps it readable on a line."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=1.6, foreground=paper)]


def extent(text: Text) -> Box:
    """Return the box that a text takes in the drawn figure."""
    figure = text.figure
    assert figure is not None
    return Box(*text.get_window_extent(figure.canvas.get_renderer()).extents)  # type: ignore[attr-defined]


def place(
    axes: Axes,
    labels: Sequence[Label],
    obstacles: Iterable[Box],
    soft: Sequence[Box] = (),
    line: Sequence[Sequence[float]] = (),
    size: float = 7.5,
    paper: str = "#ffffff",
) -> tuple[list[Annotation], list[Label]]:
    """Write the labels in the order given, and return what was written and what found no free place.

    Text covers no obstacle and no other text; it covers `soft` boxes and the `line` through these pixels only where it
    must. The axes' limits and position must be final.
    """
    taken, soft_ = list(obstacles), _array([*soft, *_pieces(line)])
    written: list[Annotation] = []
    unplaced: list[Label] = []
    for label in labels:
        found = _find(axes, label, _array(taken), soft_, size)
        if found is None:
            unplaced.append(label)
            continue
        taken += found.boxes
        note = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(found.dx, found.dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            color=label.color,
            zorder=6,
            arrowprops=_arrow(found, label) if len(found.boxes) > 1 else None,
            path_effects=halo(paper),
        )
        written.append(note)
    return written, unplaced


def _find(axes: Axes, label: Label, taken: NDArray[Any], soft: NDArray[Any], size: float) -> Place | None:
    """Return the best free place of one label: near, and clear of the soft boxes."""
    import numpy as np

    scale = axes.figure.dpi / 72
    probe = axes.text(label.x, label.y, label.text, fontsize=size)
    measured = extent(probe)
    probe.remove()
    width = (measured.x1 - measured.x0) / scale + 2 * _MARGIN
    height = (measured.y1 - measured.y0) / scale
    point = axes.transData.transform((label.x, label.y))
    frame = axes.get_window_extent().extents
    more = max(0.0, label.radius - _RADIUS)  # what the mark is larger than usual
    usual, (right, up, half_widths, half_heights) = np.repeat(_GAPS, len(_SIDES)), np.tile(_SIDES, (len(_GAPS), 1)).T
    gaps, far = usual + more, usual >= _LEADER_FROM
    shifts = np.stack([gaps * right + half_widths * width / 2, gaps * up + half_heights * height / 2], axis=1)
    lower, upper = (point + (shifts + side * np.array([width, height]) / 2) * scale for side in (-1, 1))
    boxes = np.hstack([lower, upper])
    free = (lower >= frame[:2]).all(1) & (upper <= frame[2:]).all(1) & ~_overlaps(boxes, taken).any(1)
    # A clear place a little further off beats one on a bar, but one far away does not.
    costs = _overlaps(boxes, soft).sum(1) + gaps / 6 + far / 2
    for place in sorted(np.flatnonzero(free), key=costs.__getitem__):
        near = np.clip(point, lower[place], upper[place])
        leader = list(_pieces([point.tolist(), near.tolist()], (label.radius + 1) * scale)) if far[place] else []
        if not _overlaps(_array(leader), taken).any():
            start = (near - lower[place]) / (upper[place] - lower[place])
            dx, dy = shifts[place].tolist()
            return Place(dx, dy, [Box(*boxes[place].tolist()), *leader], tuple(start.tolist()))
    return None


def _array(boxes: Iterable[Box]) -> NDArray[Any]:
    import numpy as np

    return np.array(list(boxes), dtype=np.float64).reshape(-1, 4)


def _overlaps(some: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Tell of each pair of boxes whether the two share any area."""
    (x0, y0, x1, y1), (a0, b0, a1, b1) = some.T[:, :, None], others.T
    found: NDArray[Any] = (x0 < a1) & (a0 < x1) & (y0 < b1) & (b0 < y1)
    return found


def _arrow(place: Place, label: Label) -> dict[str, Any]:
    """Return the leader from the text's nearest edge to just outside the point."""
    look = {"arrowstyle": "-", "color": label.color, "linewidth": 0.5, "alpha": 0.6}
    return {**look, "relpos": place.start, "shrinkA": 0, "shrinkB": label.radius}


def _pieces(line: Sequence[Sequence[float]], spare: float = 0.0) -> Iterator[Box]:
    """Yield a line through pixels, but for its first `spare` pixels, as small boxes: one box would be mostly empty."""
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        length = math.hypot(x1 - x0, y1 - y0)
        steps = max(1, math.ceil(length / _PIECE))
        for step in range(steps + 1):
            if length * step / steps < spare:
                continue
            x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
            yield Box(x - 1, y - 1, x + 1, y + 1)


def wrap(text: str, size: float, inches: float, bold: bool = False) -> list[str]:
    """Return lines of at most so many inches; a word alone may be longer. Newlines stay."""
    lines: list[str] = []
    space = text_inches(" ", size, bold)
    for paragraph in text.split("\n"):
        line, long = "", 0.0
        for word in paragraph.split(" "):
            wide = text_inches(word, size, bold)
            if line and long + space + wide > inches:
                lines.append(line)
                line, long = word, wide
            else:
                line, long = (f"{line} {word}", long + space + wide) if line else (word, wide)
        if line:
            lines.append(line)
    return [_cut(line, size, inches, bold) for line in lines]


def _cut(line: str, size: float, inches: float, bold: bool) -> str:
    """Cut the end off a single word that is too long."""
    if text_inches(line, size, bold) <= inches:
        return line
    while len(line) > 1 and text_inches(f"{line}…", size, bold) > inches:
        line = line[:-1]
    return f"{line}…"


@lru_cache(maxsize=10_000)
def text_inches(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a line of text in inches."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    renderer: Any = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]
    return float(renderer.get_text_width_height_descent(text, font, ismath=False)[0]) / DPI


def legend_shape(legend: Sequence[Artist], inches: float, size: float) -> tuple[int, int]:
    """Return how many columns fit, and how many rows that makes."""
    widths = [text_inches(str(handle.get_label()), size) + 0.5 for handle in legend]
    for columns in range(len(legend), 1, -1):
        rows, fullest = -(-len(legend) // columns), len(legend) % columns or columns
        # matplotlib fills columns from top to bottom, the first ones fullest
        ends = [rows * min(column, fullest) + (rows - 1) * max(0, column - fullest) for column in range(columns + 1)]
        if sum(max(widths[start:end], default=0.0) for start, end in itertools.pairwise(ends)) <= inches:
            return columns, rows
    return 1, len(legend)
