"""The layout of every figure: title, conditions and legend above the panels, words below; for a page or a phone.

Sizes are worked out from the texts before anything is drawn, so that nothing overlaps whatever the names are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bild.report.sections import Section
from bild.report.style import Theme
from bild.results import Interval

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTHS = {"print": 7.0, "phone": 3.6}  # inches: the text width of a page, and a phone held upright
DPI = 200
_SIDE = 0.09  # inches left free at either edge
_GAP = 0.95  # inches between two panels, for the labels of the second


class Words(NamedTuple):
    """The texts of a figure."""

    title: str
    conditions: str
    notes: str


def words_of(section: Section, title: str, notes: str) -> Words:
    """Return the texts of a figure of one section."""
    return Words(title, f"{section.title}; {section.conditions}", notes)


class Frame(NamedTuple):
    """A figure with empty panels in place."""

    figure: Figure
    panels: list[Axes]
    theme: Theme
    phone: bool


def open_frame(
    theme: Theme,
    width: str,
    words: Words,
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
    above = [
        (big, 0.17 if phone else 0.185, "bold", theme.ink, wrap(words.title, big, room, bold=True)),
        (plain, 0.14 if phone else 0.155, "normal", theme.soft, wrap(words.conditions, plain, room)),
    ]
    notes, note = wrap(words.notes, small, room), 0.125 if phone else 0.135
    columns, rows = _legend_shape(legend, room, row)
    top = 0.3 + sum(step * len(lines) for _, step, _, _, lines in above) + 0.0176 * row * rows + head
    bottom = 0.08 + note * len(notes)
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
    for index, text in enumerate(notes):
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


def span(intervals: Iterable[Interval], least: float) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, and their intervals as far as half the values' span beyond.

    A wild interval, of two sessions that disagree, would squeeze all points into a corner: its bar leaves the frame.
    """
    found = list(intervals)
    low, high = min(each.value for each in found), max(each.value for each in found)
    air = max(high - low, least) / 2
    low, high = max(min(each.low for each in found), low - air), min(max(each.high for each in found), high + air)
    return min(low, *(each.value for each in found)), max(high, *(each.value for each in found))


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


def _legend_shape(legend: Sequence[Artist], inches: float, size: float) -> tuple[int, int]:
    """Return how many columns fit, and how many rows that makes."""
    widths = [text_inches(str(handle.get_label()), size) + 0.5 for handle in legend]
    for columns in range(len(legend), 1, -1):
        rows, fullest = -(-len(legend) // columns), len(legend) % columns or columns
        # matplotlib fills columns from top to bottom, the first ones fullest
        ends = [rows * min(column, fullest) + (rows - 1) * max(0, column - fullest) for column in range(columns + 1)]
        if sum(max(widths[start:end], default=0.0) for start, end in itertools.pairwise(ends)) <= inches:
            return columns, rows
    return 1, len(legend)
