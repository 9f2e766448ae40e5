"""Placing text beside points without overlaps: each label takes the nearest free place around its point.

Positions are in pixels of the drawn figure. The search is greedy and has no randomness, so a figure's bytes do not
change from run to run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect
    from matplotlib.text import Annotation, Text

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

    def overlaps(self, other: Box) -> bool:
        """Return whether the two share any area."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def holds(self, other: Box) -> bool:
        """Return whether the other lies wholly within."""
        return self.x0 <= other.x0 and self.y0 <= other.y0 and self.x1 >= other.x1 and self.y1 >= other.y1


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
    box: Box
    start: tuple[float, float]  # of the leader, as a share of the box's width and height
    leader: tuple[Box, ...]


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
    taken = list(obstacles)
    soft = [*soft, *_pieces(line)]
    written: list[Annotation] = []
    unplaced: list[Label] = []
    for label in labels:
        found = _find(axes, label, taken, soft, size)
        if found is None:
            unplaced.append(label)
            continue
        taken += [found.box, *found.leader]
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
            arrowprops=_arrow(found, label) if found.leader else None,
            path_effects=halo(paper),
        )
        written.append(note)
    return written, unplaced


def _find(axes: Axes, label: Label, taken: Sequence[Box], soft: Sequence[Box], size: float) -> Place | None:
    """Return the best free place of one label: near, and clear of the soft boxes."""
    scale = axes.figure.dpi / 72
    probe = axes.text(label.x, label.y, label.text, fontsize=size)
    measured = extent(probe)
    probe.remove()
    width = (measured.x1 - measured.x0) / scale + 2 * _MARGIN
    height = (measured.y1 - measured.y0) / scale
    x, y = axes.transData.transform((label.x, label.y))
    frame = Box(*axes.get_window_extent().extents)
    best: Place | None = None
    least = math.inf
    for gap, dx, dy in _offsets(width, height, label.radius - _RADIUS):
        box = Box(
            x + (dx - width / 2) * scale,
            y + (dy - height / 2) * scale,
            x + (dx + width / 2) * scale,
            y + (dy + height / 2) * scale,
        )
        if not frame.holds(box) or any(box.overlaps(other) for other in taken):
            continue
        near = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
        leader = (
            tuple(_pieces([(x, y), near], (label.radius + 1) * scale))
            if gap - max(0.0, label.radius - _RADIUS) >= _LEADER_FROM
            else ()
        )
        if any(piece.overlaps(other) for piece in leader for other in taken):
            continue
        # A clear place a little further off beats one on a bar, but one far away does not.
        cost = sum(box.overlaps(other) for other in soft) + gap / 6 + bool(leader) / 2
        if cost < least:
            start = (near[0] - box.x0) / (box.x1 - box.x0), (near[1] - box.y0) / (box.y1 - box.y0)
            best, least = Place(dx, dy, box, start, leader), cost
    return best


def _arrow(place: Place, label: Label) -> dict[str, Any]:
    """Return the leader from the text's nearest edge to just outside the point."""
    look = {"arrowstyle": "-", "color": label.color, "linewidth": 0.5, "alpha": 0.6}
    return {**look, "relpos": place.start, "shrinkA": 0, "shrinkB": label.radius}


def _offsets(width: float, height: float, more: float = 0.0) -> Iterator[tuple[float, float, float]]:
    """Yield the gap in points, and the shift of the text's middle that leaves it between the point and the text's edge.

    `more` is what a mark is larger than usual.
    """
    for usual in _GAPS:
        gap = usual + max(0.0, more)
        for right, up, half_widths, half_heights in _SIDES:
            yield gap, gap * right + half_widths * width / 2, gap * up + half_heights * height / 2


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
