"""The frame of every figure: title, conditions and legend above the panels, words below; for a page or a phone.

Sizes are worked out from the texts before anything is drawn, so that nothing overlaps whatever the names are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bild.report.style import Theme

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
    """A figure with a panel for each of `heights` (inches), side by side on a page and stacked on a phone.

    `left`, `right`, `foot` and `head` are the inches that the labels around a panel take; `shares` divides the width
    of a page among the panels. `legend` are handles with labels. The caller holds the `rc_context`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, phone = WIDTHS[width], width == "phone"
    room = 0.965 * (wide - 2 * _SIDE)  # a line's width differs a little from one resolution to another
    figure = Figure(figsize=(wide, 10), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    small, middle = (6.5, 7.0) if phone else (7.0, 7.5)
    row = 0.0176 * middle
    title = wrap(figure, words.title, 9.5 if phone else 10.5, room, bold=True)
    conditions = wrap(figure, words.conditions, 7.0 if phone else 8.0, room)
    notes = wrap(figure, words.notes, small, room)
    columns, rows = _legend_shape(figure, legend, room, middle)
    title_height, line, note = (0.17 if phone else 0.185), (0.14 if phone else 0.155), (0.125 if phone else 0.135)
    top = 0.1 + title_height * len(title) + 0.02 + line * len(conditions) + 0.04 + row * rows + 0.14 + head
    bottom = 0.08 + note * len(notes)
    stacked = phone and len(heights) > 1
    body = sum(heights) + foot * len(heights) + 0.2 * (len(heights) - 1) if stacked else max(heights) + foot
    height = top + body + bottom
    figure.set_size_inches(wide, height)
    y = height - 0.1
    for size, step, lines, bold, color in (
        (9.5 if phone else 10.5, title_height, title, "bold", theme.ink),
        (7.0 if phone else 8.0, line, conditions, "normal", theme.soft),
    ):
        for text in lines:
            figure.text(_SIDE / wide, y / height, text, fontsize=size, fontweight=bold, color=color, va="top")
            y -= step
        y -= 0.02
    if legend:
        figure.legend(
            handles=list(legend),
            loc="upper left",
            bbox_to_anchor=((_SIDE - 0.05) / wide, (y + 0.02) / height),
            ncols=columns,
            frameon=False,
            fontsize=middle,
            handletextpad=0.4,
            columnspacing=1.2,
            labelspacing=0.25,
            borderaxespad=0.0,
        )
    for index, text in enumerate(notes):
        at = (bottom - 0.04 - index * note) / height
        figure.text(_SIDE / wide, at, text, fontsize=small, color=theme.soft, va="top")
    panels = _panels(figure, heights, shares, stacked, (left, right, foot), (wide, height, bottom, body))
    canvas.draw_idle()
    return Frame(figure, panels, theme, phone)


def _panels(
    figure: Figure,
    heights: Sequence[float],
    shares: Sequence[float],
    stacked: bool,
    margins: tuple[float, float, float],
    sizes: tuple[float, float, float, float],
) -> list[Axes]:
    (left, right, foot), (wide, height, bottom, body) = margins, sizes
    panels = []
    if stacked:
        at = bottom + body
        for panel in heights:
            at -= panel
            box = (left / wide, at / height, (wide - left - right) / wide, panel / height)
            panels.append(figure.add_axes(box))
            at -= foot + 0.2
        return panels
    room = wide - left - right - (len(heights) - 1) * max(_GAP, left)
    total = sum(shares) or len(heights)
    x = left
    for index, panel in enumerate(heights):
        part = room * (shares[index] if shares else 1) / total
        panels.append(figure.add_axes((x / wide, (bottom + foot) / height, part / wide, panel / height)))
        x += part + max(_GAP, left)
    return panels


def wrap(figure: Figure, text: str, size: float, inches: float, bold: bool = False) -> list[str]:
    """Lines of at most so many inches; a word alone may be longer. Newlines stay."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and text_inches(figure, longer, size, bold) > inches:
                lines.append(line)
                line = word
            else:
                line = longer
        if line:
            lines.append(line)
    return [_cut(figure, line, size, inches, bold) for line in lines]


def _cut(figure: Figure, line: str, size: float, inches: float, bold: bool) -> str:
    """A single word that is too long loses its end."""
    if text_inches(figure, line, size, bold) <= inches:
        return line
    while len(line) > 1 and text_inches(figure, f"{line}…", size, bold) > inches:
        line = line[:-1]
    return f"{line}…"


def text_inches(figure: Figure, text: str, size: float, bold: bool = False) -> float:
    """How wide a line of text is."""
    from matplotlib.font_manager import FontProperties

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    pixels = renderer.get_text_width_height_descent(text, font, ismath=False)[0]
    return float(pixels) / figure.dpi


def _legend_shape(figure: Figure, legend: Sequence[Artist], inches: float, size: float) -> tuple[int, int]:
    """How many columns fit, and how many rows that makes."""
    if not legend:
        return 1, 0
    widths = [text_inches(figure, str(handle.get_label()), size) + 0.5 for handle in legend]
    for columns in range(len(legend), 0, -1):
        rows = -(-len(legend) // columns)
        # matplotlib fills columns from top to bottom, the first ones fullest
        starts, at = [], 0
        for column in range(columns):
            starts.append(
                widths[at : at + (rows if column < len(legend) % columns or not len(legend) % columns else rows - 1)]
            )
            at += len(starts[-1])
        if sum(max(column, default=0.0) for column in starts) <= inches:
            return columns, rows
    return 1, len(legend)
