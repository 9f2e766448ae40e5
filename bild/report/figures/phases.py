"""Where the time goes: encoders, small steps, large passes and the rest, as shares of the paired vanilla's time.

Shares and not milliseconds, since points may have been timed in different runs, at different paces of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bild.report.evidence import telling
from bild.report.figure import Sheet
from bild.report.format import plural, significant
from bild.report.layout import Words, open_frame, text_inches
from bild.report.looks import long_names
from bild.report.sections import Section
from bild.report.style import Theme
from bild.results import Record
from bild.results.pareto import ANCHORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Where the time goes"
MOST = 16
PARTS = (
    ("encoders", "#8C8C8D"),
    ("small steps", "#E69F00"),
    ("large passes", "#0072B2"),
    ("rest (policy, driver)", "#CC79A7"),
)


def phases_sheet(section: Section) -> Sheet:
    """Stacked bars: the anchors, then the points that stand for the section."""
    anchors = [record for record in section.records if record.method.name in ANCHORS]
    shown = [*anchors, *telling(section, MOST - len(anchors))]
    words = "; ".join(
        f"{name}: "
        + ", ".join(f"{part} {100 * value:.0f} %" for (part, _), value in zip(PARTS, shares(r), strict=True))
        for name, r in list(zip(long_names(shown), shown, strict=True))[:4]
    )
    return Sheet(
        "phases", TITLE, f"Share of the time. {words}.", lambda theme, width: _draw(section, shown, theme, width)
    )


def shares(record: Record) -> list[float]:
    """The parts of a record's time, in the order of PARTS; they sum to 1."""
    phases = record.latency.phases
    parts = [phases.encode_large + phases.encode_small, phases.small, phases.large, phases.rest]
    total = sum(parts)
    return [part / total if total else 0.0 for part in parts]


def _draw(section: Section, records: Sequence[Record], theme: Theme, width: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Bare
    from matplotlib.patches import Patch

    probe = Bare()
    FigureCanvasAgg(probe)
    names = long_names(records)
    left = min(1.9, 0.12 + max(text_inches(probe, name, 7.0) for name in names)) + 0.05
    left_out = len(section.records) - len(records)
    note = (
        f"n = {plural(section.first.latency.examples, 'example')}, batch size 1. Total times over those of vanilla on "
        "the same engine and examples, paired. In brackets: ms per token."
    )
    if left_out:
        note += f" {plural(left_out, 'slower point')} off the front not shown."
    frame = open_frame(
        theme,
        width,
        Words(f"{TITLE}: {section.title}", section.conditions, note),
        [Patch(facecolor=theme.mark(color), label=name) for name, color in PARTS],
        heights=(0.2 * len(records) + 0.15,),
        left=left,
        right=0.15,
        foot=0.42,
    )
    axes = frame.panels[0]
    longest = max(1 / record.latency.speedup.total.value for record in records)
    for at, record in enumerate(records):
        begin, whole = 0.0, 1 / record.latency.speedup.total.value
        for share, (_, color) in zip(shares(record), PARTS, strict=True):
            part = share * whole
            axes.barh(at, part, left=begin, height=0.7, color=theme.mark(color), edgecolor=theme.paper, linewidth=0.4)
            begin += part
        axes.annotate(
            f"{whole:.2f} ({significant(record.latency.ms_per_token)})",
            (begin, at),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
            color=theme.soft,
        )
    axes.set_yticks(range(len(records)), names, fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(records) - 0.45, -0.55)
    axes.set_xlim(0, longest * (1.4 if frame.phone else 1.15))
    axes.grid(True, axis="x", color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axvline(1.0, color=theme.edge, linewidth=0.7)
    axes.set_xlabel("time over that of vanilla")
    return frame.figure
