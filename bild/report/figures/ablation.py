"""Ablations: BiLD without fallback and without rollback, the paper's Fig. 5 quietly behind."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bild.report.commands import run_command
from bild.report.figure import Missing, Sheet
from bild.report.figures.front_words import overlay_note
from bild.report.figures.overlay import draw_quiet_curve, quiet_handle
from bild.report.figures.series import cross, dots, plain, speedup_axis
from bild.report.format import interval_name, metric_name, plural
from bild.report.layout import Words, open_frame
from bild.report.published import Curve, curve, kind_of_pair
from bild.report.sections import Section
from bild.report.style import Theme
from bild.results import Record
from bild.results.pareto import front

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

TITLE = "Ablations"
KINDS: dict[str, tuple[str, str, Any]] = {
    "BiLD": ("#0072B2", "o", "-"),
    "no rollback (rb = ∞)": ("#D55E00", "^", (0, (5, 1.5))),
    "no fallback (fb = 0)": ("#009E73", "s", (0, (1.5, 1.2))),
}
PAPERS = {"no rollback (rb = ∞)": "no rollback", "no fallback (fb = 0)": "no fallback"}


def ablation_sheet(section: Section) -> Sheet | Missing:
    """The three kinds as fronts of their own; Missing where nothing was ablated."""
    groups: dict[str, list[Record]] = {name: [] for name in KINDS}
    for record in section.records:
        if (name := kind(record)) is not None:
            groups[name].append(record)
    lacking = [name for name, records in groups.items() if not records]
    if len(lacking) == 3 or (groups["BiLD"] and len(lacking) == 2):
        command = run_command(section, "threshold=rollback-only,fallback-only", multirun=True)
        return Missing(TITLE, "no point without fallback (fb=0) or without rollback (rb=inf)", command)
    words = ", ".join(f"{name}: {plural(len(records), 'point')}" for name, records in groups.items())
    if lacking:
        words += f" (without {', '.join(lacking)})"
    return Sheet("ablation", TITLE, f"{words}.", lambda theme, width: _draw(section, groups, theme, width))


def kind(record: Record) -> str | None:
    """Which of KINDS a record is, if it is a BiLD point at all."""
    fb, rb = record.threshold.fb, record.threshold.rb
    if record.method.name != "bild" or fb is None or rb is None:
        return None
    names = list(KINDS)
    if math.isinf(rb):
        return names[1] if fb > 0 else None
    return names[2] if fb == 0 else names[0]


def _behind(section: Section) -> dict[str, Curve]:
    """The paper's curves, for its aligned pairs."""
    if kind_of_pair(section.first.pair.name) != "aligned":
        return {}
    task = section.first.task.name
    found = {name: curve("fig5", task, theirs) for name, theirs in PAPERS.items()}
    if any(found.values()):
        found["BiLD"] = curve("fig4", task, "aligned")
    return {name: points for name, points in found.items() if points}


def _draw(section: Section, groups: dict[str, list[Record]], theme: Theme, width: str) -> Figure:
    from matplotlib.lines import Line2D

    behind = _behind(section)
    note = (
        f"n = {plural(section.first.latency.examples, 'example')}. Lines: the front of each kind. "
        f"Bars: {interval_name(section.first)}."
    )
    legend: list[Artist] = []
    for name, (color, marker, dash) in KINDS.items():
        if groups[name]:
            color = theme.mark(color)
            legend.append(
                Line2D([], [], color=color, marker=marker, markersize=4.5, linestyle=dash, linewidth=1.2, label=name)
            )
    if behind:
        note += f" {overlay_note()}"
        legend.append(quiet_handle("the same in the paper (T4, Fig. 4 and 5)", theme))
    frame = open_frame(
        theme,
        width,
        Words(f"{TITLE}: {section.title}", section.conditions, note),
        legend,
        heights=(2.8,),
        left=0.62,
        right=0.2,
    )
    axes = frame.panels[0]
    for name, points in behind.items():
        _, marker, dash = KINDS[name]
        draw_quiet_curve(axes, points, theme, marker, dash)
    for name, records in groups.items():
        if not records:
            continue
        color, marker, dash = KINDS[name]
        color = theme.mark(color)
        for record in records:
            cross(axes, record.latency.speedup.total, record.headline, color, alphas=(0.4, 0.25), linewidth=0.6)
        at = [(record.latency.speedup.total.value, record.headline.value) for record in records]
        best = [at[index] for index in front(at)]
        axes.plot(*zip(*best, strict=True), color=color, linestyle=dash, linewidth=1.2, zorder=3)
        dots(axes, at, color, marker, 5, theme, linestyle="none")
    plain(axes, theme)
    axes.locator_params(axis="x", nbins=5 if frame.phone else 8)
    speedup_axis(axes, "speedup over vanilla" if frame.phone else "speedup over vanilla (large model, same engine)")
    axes.set_ylabel(metric_name(section.first))
    return frame.figure
