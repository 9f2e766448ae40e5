"""Quality and speedup over the two thresholds, a cell for each setting with its number."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bild.decoding.names import number
from bild.report.commands import run_command
from bild.report.frame import Words, open_frame
from bild.report.sections import Section
from bild.report.sheets import Missing, Sheet
from bild.report.themes import Theme
from bild.report.wording import metric_name
from bild.results import Record
from bild.results.parts import Method
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Over the thresholds"
_SMALLEST = 4.6  # points: smaller numbers cannot be read, a colour bar stands in for them


class Cell(NamedTuple):
    """One setting: quality, speedup, and whether it was measured."""

    quality: float
    speedup: float
    measured: bool


Grid = dict[tuple[float, float], Cell]


def heat_sheet(section: Section, predicted: Sequence[PredictedPoint] = ()) -> Sheet | Missing:
    """The heat maps of the BiLD points that share all switches; Missing where these span no grid."""
    cells, switches = grid(section, predicted)
    if len({fb for fb, _ in cells}) < 2 or len({rb for _, rb in cells}) < 2 or len(cells) < 4:
        command = run_command(section, "threshold.fb=0.3,0.6,0.9", "threshold.rb=1,2,4", multirun=True)
        return Missing(TITLE, "fewer than two values of each threshold", command)
    best = max(cells, key=lambda at: cells[at].quality)
    fast = max(cells, key=lambda at: cells[at].speedup)
    words = (
        f"{len(cells)} settings, {switches}. Highest {metric_name(section.first)} {cells[best].quality:.2f} at "
        f"fb {number(best[0])}, rb {number(best[1])}; highest speedup {cells[fast].speedup:.2f} at "
        f"fb {number(fast[0])}, rb {number(fast[1])}."
    )
    return Sheet("heat", TITLE, words, lambda theme, width: _draw(section, cells, switches, theme, width))


def grid(section: Section, predicted: Sequence[PredictedPoint] = ()) -> tuple[Grid, str]:
    """Cells by (fb, rb) of the largest group of BiLD points with the same switches, and these switches in words."""
    measured = [record for record in section.records if _at(record) is not None]
    guessed = [point for point in predicted if _at(point) is not None]
    groups = Counter(map(_switches, measured or guessed))
    if not groups:
        return {}, ""
    most = groups.most_common(1)[0][0]
    cells: Grid = {}
    for record in measured:
        if _switches(record) == most and (at := _at(record)) is not None:
            cells[at] = Cell(record.headline.value, record.latency.speedup.total.value, True)
    for point in guessed:
        if _switches(point) == most and (at := _at(point)) is not None:
            cells.setdefault(at, Cell(point.quality.score, point.speedup.value, False))
    limit = "by measured costs" if most.max_draft == "auto" else f"of up to {most.max_draft}"
    return cells, f"rules={most.rules}, drafts {limit}"


def _switches(point: Record | PredictedPoint) -> Method:
    """All but whether a draft that ends the text is verified, which means nothing where nothing is rolled back."""
    return dataclasses.replace(point.method, verify_eos=None)


def _at(point: Record | PredictedPoint) -> tuple[float, float] | None:
    """The cell of a BiLD point."""
    fb, rb = point.threshold.fb, point.threshold.rb
    return None if point.method.name != "bild" or fb is None or rb is None else (fb, rb)


def _draw(section: Section, cells: Grid, switches: str, theme: Theme, width: str) -> Figure:
    from matplotlib.patches import Patch

    guessed = any(not cell.measured for cell in cells.values())
    rows = len({rb for _, rb in cells})
    note = f"n = {section.first.latency.examples:,} examples; {switches}."
    legend: list[Artist] = []
    if guessed and any(cell.measured for cell in cells.values()):
        legend = [
            Patch(facecolor="none", edgecolor=theme.strong, linewidth=1.1, label="framed, bold: measured"),
            Patch(facecolor="none", edgecolor=theme.hair, linewidth=0.4, label="italic: predicted"),
        ]
    elif guessed:
        note += " All predicted: replayed and priced, not timed."
    height = min(3.4, max(1.5, 0.24 * rows + 0.3))
    words = Words(f"{TITLE}: {section.title}", section.conditions, note)
    frame = open_frame(
        theme, width, words, legend, heights=(height, height), left=0.55, right=0.15, foot=0.5, head=0.14
    )
    for axes, name, field in zip(
        frame.panels, (metric_name(section.first), "speedup over vanilla (×)"), ("quality", "speedup"), strict=True
    ):
        values = {at: getattr(cell, field) for at, cell in cells.items()}
        _panel(axes, cells, values, theme, name)
    return frame.figure


def _panel(axes: Axes, cells: Grid, values: dict[tuple[float, float], float], theme: Theme, name: str) -> None:
    import numpy as np
    from matplotlib.patches import Rectangle

    across, up = sorted({fb for fb, _ in cells}), sorted({rb for _, rb in cells})
    table = np.full((len(up), len(across)), np.nan)
    for (fb, rb), value in values.items():
        table[up.index(rb), across.index(fb)] = value
    shown = axes.pcolormesh(table, cmap="cividis", edgecolors=theme.paper, linewidth=0.4)
    low, high = float(np.nanmin(table)), float(np.nanmax(table))
    size = _number_size(axes, len(across), len(up))
    mixed = any(not cell.measured for cell in cells.values())
    for (fb, rb), value in values.items():
        x, y = across.index(fb), up.index(rb)
        measured = cells[fb, rb].measured
        if mixed and measured:
            axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, fill=False, edgecolor=theme.strong, linewidth=1))
        if size:
            bright = (value - low) / (high - low) > 0.55 if high > low else False
            axes.text(
                x + 0.5,
                y + 0.48,
                f"{value:.{1 if value >= 10 else 2}f}",
                ha="center",
                va="center",
                fontsize=size,
                fontweight="bold" if mixed and measured else "normal",
                fontstyle="normal" if measured else "italic",
                color="#111112" if bright else "#fdfdfe",
            )
    if not size:
        bar = axes.figure.colorbar(shown, ax=axes, pad=0.02, fraction=0.06)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=6.5, length=2)
    _ticks(axes, across, up)
    axes.set_title(name, fontsize=8, loc="left", pad=4, color=theme.ink)
    axes.set_xlabel("fallback threshold fb")
    axes.set_ylabel("rollback threshold rb (nats)")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def _ticks(axes: Axes, across: list[float], up: list[float]) -> None:
    """Every value where there is room, else every so many."""
    step, rise = -(-len(across) // 11), -(-len(up) // 13)
    axes.set_xticks(
        [index + 0.5 for index in range(0, len(across), step)], [number(value) for value in across[::step]], fontsize=7
    )
    labels = [number(value).replace("inf", "∞") for value in up[::rise]]
    axes.set_yticks([index + 0.5 for index in range(0, len(up), rise)], labels, fontsize=7)


def _number_size(axes: Axes, columns: int, rows: int) -> float:
    """The size of a cell's number in points, 0 where it could not be read."""
    figure = axes.figure
    box = axes.get_position()
    wide = box.width * float(figure.get_figwidth()) * 72 / columns  # type: ignore[union-attr]
    tall = box.height * float(figure.get_figheight()) * 72 / rows  # type: ignore[union-attr]
    size = min(7.5, wide / 2.9, tall / 1.5)
    return size if size >= _SMALLEST else 0.0
