"""Names beside points: found all at once, they stand where looking at one place after the other puts them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bild.report import labels
from bild.report.figure import LIGHT
from bild.report.labels import Box, Label, extent, place
from bild.report.layout import open_frame


def overlaps(one: Box, other: Box) -> bool:
    """Whether the two share any area."""
    return one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1


def holds(frame: Box, box: Box) -> bool:
    """Whether the box lies wholly within the frame."""
    return frame.x0 <= box.x0 and frame.y0 <= box.y0 and frame.x1 >= box.x1 and frame.y1 >= box.y1


def one_by_one(axes: Axes, label: Label, taken: list[Box], soft: Sequence[Box]) -> tuple[float, float] | None:
    """The shift of a label's text, by trying place after place; what it takes is added to `taken`."""
    scale = axes.figure.dpi / 72
    box = extent(axes.text(label.x, label.y, label.text, fontsize=7.5))
    width, height = (box.x1 - box.x0) / scale + 2 * labels._MARGIN, (box.y1 - box.y0) / scale
    x, y = axes.transData.transform((label.x, label.y))
    frame, more = Box(*axes.get_window_extent().extents), max(0.0, label.radius - labels._RADIUS)
    best, least = None, math.inf
    for usual in labels._GAPS:
        for right, up, half_widths, half_heights in labels._SIDES:
            gap = usual + more
            dx, dy = gap * right + half_widths * width / 2, gap * up + half_heights * height / 2
            box = Box(
                *(
                    at + (to + side * size / 2) * scale
                    for side in (-1, 1)
                    for at, to, size in ((x, dx, width), (y, dy, height))
                )
            )
            near = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
            leader = (
                list(labels._pieces([(x, y), near], (label.radius + 1) * scale)) if usual >= labels._LEADER_FROM else []
            )
            if not holds(frame, box) or any(overlaps(each, other) for each in (box, *leader) for other in taken):
                continue
            cost = sum(overlaps(box, other) for other in soft) + gap / 6 + bool(usual >= labels._LEADER_FROM) / 2
            if cost < least:
                best, least, boxes = (dx, dy), cost, [box, *leader]
    taken += [] if best is None else boxes
    return best


@pytest.mark.parametrize("count", [3, 30])
def test_names_stand_where_trying_one_place_after_the_other_puts_them(count: int) -> None:
    figure, rng = Figure((5, 3), dpi=100), random.Random(count)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    points = [(rng.gauss(0.5, 0.15), rng.gauss(0.5, 0.15)) for _ in range(count)]
    at = axes.transData.transform(points).tolist()
    marks = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in at]
    bars = [Box(x - 30, y - 1, x + 30, y + 1) for x, y in at]
    asked = [Label(*point, f"0.{i}/2", "#010101", rng.choice((4.0, 7.5))) for i, point in enumerate(points)]
    notes, left = place(axes, asked, marks, bars)
    taken = list(marks)
    wanted = [one_by_one(axes, label, taken, bars) for label in asked]
    assert [note.xyann for note in notes] == [pytest.approx(each) for each in wanted if each is not None]
    assert left == [label for label, each in zip(asked, wanted, strict=True) if each is None]


def test_a_subtitle_of_two_lines_breaks_between_its_parts() -> None:
    def lines(conditions: str) -> list[str]:
        frame = open_frame(LIGHT, "print", "Title", conditions, "")
        return [text.get_text() for text in frame.figure.texts][1:]

    section = "multi30k-files (test), pair embedded-bridge, BLEU"
    where = "fused engine, fp32, cpu, 1 thread; Intel(R) Xeon(R) Processor, 2 threads"
    assert lines(f"{section}; {where}") == [f"{section};", where]
    assert lines(f"{section}; fused engine") == [f"{section}; fused engine"]
    assert lines(f"short; {where}, {section}, {section}")[0].startswith("short; fused engine")  # else three lines
