"""Quality and speedup over two thresholds of any stop and keep rule, a cell for each setting with its number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from bild.decoding import policies as names
from bild.report.figure import Missing, Sheet, Theme
from bild.report.format import Named, group_name, metric_name, number, plural
from bild.report.layout import open_section
from bild.report.sections import Section
from bild.results import Record
from bild.results.parts import Threshold
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Over the thresholds"
_THRESHOLDS = {field.name for field in dataclasses.fields(Threshold)}
_SMALLEST = 4.6  # points: smaller numbers cannot be read, a colour bar stands in for them


AXES = {
    "fb": "fallback threshold fb",
    "rb": "rollback threshold rb (nats)",
    "alpha": "what a token may lose, alpha",
    "top": "highest rank that stands, top",
    "max_draft": "longest draft (tokens)",
}
"""What an axis may be, the first two of a point's count: the thresholds of its rules, else the draft limit."""


class Cell(NamedTuple):
    """One setting: quality, speedup, and whether it was measured."""

    quality: float
    speedup: float
    measured: bool


class HeatGrid(NamedTuple):
    """Settings that share all but two numbers: cells by these, what they are called, the rest in words."""

    cells: dict[tuple[float, float], Cell]
    axes: tuple[str, str]
    group: str

    @property
    def spans(self) -> bool:
        """Return whether there are two values of each number at least."""
        return len(self.cells) > 3 and all(len(set(values)) > 1 for values in zip(*self.cells, strict=True))

    @property
    def measured(self) -> int:
        """Return how many cells were measured."""
        return sum(cell.measured for cell in self.cells.values())


def heat_sheet(section: Section, predicted: Sequence[PredictedPoint] = ()) -> Sheet | Missing:
    """Return heat maps of the largest group of points that share all switches; Missing where these span no grid."""
    grids = grids_of(section, predicted)
    grid = max(grids, key=lambda grid: (grid.spans, grid.measured, len(grid.cells)), default=None)
    if grid is None or not grid.spans:
        command = section.command("run", "-m", "threshold.fb=0.3,0.6,0.9", "threshold.rb=1,2,4")
        return Missing(TITLE, "fewer than two values of each threshold", command)
    cells, settings = grid.cells, sum(len(each.cells) for each in grids)

    def told(at: tuple[float, float]) -> str:
        return ", ".join(f"{name} {number(value)}" for name, value in zip(grid.axes, at, strict=True))

    best = max(cells, key=lambda at: cells[at].quality)
    fast = max(cells, key=lambda at: cells[at].speedup)
    words = (
        f"{len(cells)} settings of {grid.group}. Highest {metric_name(section.first)} {cells[best].quality:.2f} at "
        f"{told(best)}; highest speedup {cells[fast].speedup:.2f} at {told(fast)}."
    )
    if others := settings - len(cells):
        words += f" {plural(others, 'setting')} with other switches not shown."
    return Sheet("heat", TITLE, words, partial(_draw, section, grid, others))


def grids_of(section: Section, predicted: Sequence[PredictedPoint] = ()) -> list[HeatGrid]:
    """Return the points that draft by the switches that they share; a predicted one that was measured is left out."""
    found: dict[object, HeatGrid] = {}
    points: list[Named] = [*section.records, *predicted]
    for point in points:
        axes = _axes(point)
        if len(axes) < 2:
            continue
        x, y = axes
        # Whether a draft that ends the text is verified means nothing without a rollback.
        limit = None if "max_draft" in axes else point.method.max_draft
        switches = dataclasses.replace(point.method, verify_eos=None, max_draft=limit)
        rest = dataclasses.replace(point.threshold, **dict.fromkeys(_THRESHOLDS & set(axes)))
        group = group_name(point.method, point.threshold)
        group = group.rpartition(", drafts ")[0] if "max_draft" in axes else group
        grid = found.setdefault((switches, rest), HeatGrid({}, (x, y), group))
        if isinstance(point, Record):
            grid.cells[axes[x], axes[y]] = Cell(point.headline.value, point.speedup.value, True)
        else:
            cell = Cell(point.quality.score, point.speedup.value, False)
            grid.cells.setdefault((axes[x], axes[y]), cell)
    return list(found.values())


def _axes(point: Named) -> dict[str, float]:
    """Return the two numbers of a point that drafts; fewer where it does not have two."""
    switches, values = names.told(point.method, point.threshold)
    limit = switches.get("max_draft")
    values |= {"max_draft": limit} if isinstance(limit, int) else {}
    found = {name: values[name] for name in AXES if name in values} if "stop" in switches else {}
    return dict(list(found.items())[:2])


def _draw(section: Section, grid: HeatGrid, others: int, theme: Theme, width: str) -> Figure:
    from matplotlib.patches import Patch

    cells, measured = grid.cells, grid.measured
    note = f"n = {section.size}; {grid.group}."
    note += f" {plural(others, 'setting')} with other switches not shown." if others else ""
    legend: list[Artist] = []
    if 0 < measured < len(cells):
        legend = [
            Patch(facecolor="none", edgecolor=theme.strong, linewidth=1.1, label="framed, bold: measured"),
            Patch(facecolor="none", edgecolor=theme.hair, linewidth=0.4, label="italic: predicted"),
        ]
    elif not measured:
        note += " All predicted: replayed and priced, not timed."
    height = min(3.4, max(1.5, 0.24 * len({y for _, y in cells}) + 0.3))
    sizes: dict[str, Any] = {"heights": (height, height), "left": 0.55, "right": 0.15, "head": 0.14}
    frame = open_section(section, TITLE, [note], legend, theme, width, **sizes)
    titles = (f"{metric_name(section.first)} (vanilla {section.base:.1f})", "speedup over vanilla (×)")
    for axes, name, field in zip(frame.panels, titles, ("quality", "speedup"), strict=True):
        _panel(axes, grid, {at: getattr(cell, field) for at, cell in cells.items()}, theme, name)
    return frame.figure


def _panel(axes: Axes, grid: HeatGrid, values: dict[tuple[float, float], float], theme: Theme, name: str) -> None:
    import numpy as np
    from matplotlib.patches import Rectangle

    cells = grid.cells
    across, up = sorted({fb for fb, _ in cells}), sorted({rb for _, rb in cells})
    table = np.full((len(up), len(across)), np.nan)
    for (fb, rb), value in values.items():
        table[up.index(rb), across.index(fb)] = value
    shown = axes.pcolormesh(table, cmap="cividis", edgecolors=theme.paper, linewidth=0.4)
    low, high = float(np.nanmin(table)), float(np.nanmax(table))
    size = _number_size(axes, len(across), len(up))
    mixed = grid.measured < len(cells)
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
    axes.set_xlabel(AXES[grid.axes[0]])
    axes.set_ylabel(AXES[grid.axes[1]])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def _ticks(axes: Axes, across: list[float], up: list[float]) -> None:
    """Name every value where there is room, else every so many."""
    for values, most, put in ((across, 11, axes.set_xticks), (up, 13, axes.set_yticks)):
        step = -(-len(values) // most)
        middles = [index + 0.5 for index in range(0, len(values), step)]
        put(middles, [number(value) for value in values[::step]], fontsize=7)


def _number_size(axes: Axes, columns: int, rows: int) -> float:
    """Return the size of a cell's number in points, 0 where it could not be read."""
    figure = axes.figure
    box = axes.get_position()
    wide = box.width * float(figure.get_figwidth()) * 72 / columns  # type: ignore[union-attr]
    tall = box.height * float(figure.get_figheight()) * 72 / rows  # type: ignore[union-attr]
    size = min(7.5, wide / 2.9, tall / 1.5)
    return size if size >= _SMALLEST else 0.0
