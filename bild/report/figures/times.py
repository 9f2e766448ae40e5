"""Where the time goes, how it spreads over the examples, and the operations and bytes behind it.

Shares and ratios to the paired vanilla, since points may have been timed in different runs, at different paces.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bild.report import layout
from bild.report.figure import Missing, Sheet, Theme
from bild.report.format import labels, plural, significant, switches_note
from bild.report.labels import text_inches
from bild.report.sections import Section
from bild.results import Record
from bild.results.reading import ANCHORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASES, LATENCY = "Where the time goes", "Latency per example"
WORK = "Operations, memory and time beside vanilla"
MOST_BARS, MOST_LINES, MOST_WORKS = 16, 4, 6
WORKS = (("FLOPs", "#0072B2"), ("bytes read", "#E69F00"), ("latency", "#8C8C8D"))
PARTS = (
    ("encoders", "#8C8C8D"),
    ("small steps", "#E69F00"),
    ("large passes", "#0072B2"),
    ("rest (policy, driver)", "#CC79A7"),
)


def phases_sheet(section: Section) -> Sheet:
    """Return stacked bars: the anchors, then the points that stand for the section."""
    anchors = [record for record in section.records if record.method.name in ANCHORS]
    shown = [*anchors, *section.telling(MOST_BARS - len(anchors))]
    words = "; ".join(
        f"{name}: "
        + ", ".join(f"{part} {100 * value:.0f} %" for (part, _), value in zip(PARTS, shares(record), strict=True))
        for name, record in list(zip(labels(shown), shown, strict=True))[:4]
    )
    words = f"Share of the time. {words}."
    return Sheet("phases", PHASES, words, partial(_draw_phases, section, shown))


def shares(record: Record) -> list[float]:
    """Return the parts of a record's time, in the order of PARTS; they sum to 1."""
    phases = record.latency.phases
    parts = [phases.encode_large + phases.encode_small, phases.small, phases.large, phases.rest]
    total = sum(parts)
    return [part / total if total else 0.0 for part in parts]


def _draw_phases(section: Section, records: Sequence[Record], theme: Theme, width: str) -> Figure:
    left_out = len(section.records) - len(records)
    notes = [
        f"n = {section.size}, batch size 1. Total times over those of vanilla on the same engine and examples, paired. "
        "In brackets: ms per token.",
        f"{plural(left_out, 'slower point')} off the front not shown." if left_out else "",
        switches_note(records),
    ]
    frame = _open_bars(section, PHASES, notes, PARTS, records, theme, width, tall=0.2, right=0.15)
    frame.panels[0].set_xlabel("time over that of vanilla")
    axes = frame.panels[0]
    longest = max(1 / record.speedup.value for record in records)
    for at, record in enumerate(records):
        begin, whole = 0.0, 1 / record.speedup.value
        for share, (_, color) in zip(shares(record), PARTS, strict=True):
            part = share * whole
            axes.barh(at, part, left=begin, height=0.7, color=theme.mark(color), edgecolor=theme.paper, linewidth=0.4)
            begin += part
        _beside(axes, f"{whole:.2f} ({significant(record.latency.ms_per_token)})", (begin, at), theme)
    axes.set_xlim(0, longest * (1.4 if frame.phone else 1.15))
    return frame.figure


def _open_bars(
    section: Section,
    title: str,
    notes: Sequence[str],
    parts: Sequence[tuple[str, str]],
    records: Sequence[Record],
    theme: Theme,
    width: str,
    *,
    tall: float,
    right: float,
) -> layout.Frame:
    """Open a panel of bars with the name of a record before each, and a line at vanilla's."""
    from matplotlib.patches import Patch

    names = labels(records)
    handles = [Patch(facecolor=theme.mark(color), label=name) for name, color in parts]
    sizes = {"heights": (tall * len(records) + 0.15,), "right": right, "foot": 0.42}
    sizes["left"] = min(1.9, 0.12 + max(text_inches(name, 7.0) for name in names)) + 0.05
    frame = layout.open_section(section, title, notes, handles, theme, width, **sizes)
    axes = frame.panels[0]
    axes.set_yticks(range(len(records)), names, fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(records) - 0.45, -0.55)
    layout.plain(axes, theme, "x")
    axes.axvline(1.0, color=theme.edge, linewidth=0.7, zorder=1.5)  # over the bars
    return frame


def _beside(axes: Axes, text: str, end: tuple[float, float], theme: Theme) -> None:
    """Write a number behind the end of a bar."""
    layout.note(axes, text, end, (3, 0), {"va": "center", "fontsize": 6.5, "color": theme.soft}, theme)


class Times(NamedTuple):
    """Milliseconds per example of a record and of its paired baseline, in the same order."""

    record: Record
    own: list[float]
    base: list[float]

    @property
    def ratios(self) -> list[float]:
        """Return the speedup of each example."""
        return [base / own for own, base in zip(self.own, self.base, strict=True)]

    @property
    def slower(self) -> float:
        """Return the share of examples on which the method was slower than vanilla."""
        return sum(ratio < 1 for ratio in self.ratios) / len(self.own)


def latency_sheet(section: Section) -> Sheet | Missing:
    """Return cumulative distributions of at most four points and vanilla; Missing where no examples can be read."""
    shown = [times for record in section.telling(MOST_LINES) if (times := times_of(section, record))]
    if not shown:
        return Missing(LATENCY, "no point but the anchors has its examples", section.command("run", "method=bild"))
    names = labels([times.record for times in shown])
    told = "; ".join(
        f"{name}: slower than vanilla in {100 * times.slower:.0f} %" for name, times in zip(names, shown, strict=True)
    )
    words = f"Of the examples, {told}."
    return Sheet("latency", LATENCY, words, partial(_draw_latency, section, shown))


def times_of(section: Section, record: Record) -> Times | None:
    """Return the times of a record's examples, or None."""
    samples = section.samples(record) or []
    own = [1e3 * sample.seconds for sample in samples]
    base = [1e3 * sample.baseline_seconds for sample in samples]
    return Times(record, own, base) if own and all(own) and all(base) else None


def _draw_latency(section: Section, shown: list[Times], theme: Theme, width: str) -> Figure:
    records = [times.record for times in shown]
    found, vanilla = layout.series(records, theme), layout.Series("vanilla", theme.strong, "-", "*")
    note = (
        f"n = {section.size}, end to end, batch size 1. Vanilla's times are those paired with {found[0].name}. "
        "Speedups are paired; points timed in different runs compare by them. Left of 1×: slower."
    )
    notes, handles = [note, switches_note(records)], layout.series_handles([vanilla, *found])
    frame = layout.open_section(section, LATENCY, notes, handles, theme, width, heights=(2.3, 2.3), foot=0.45)
    left, right = frame.panels
    _steps(left, shown[0].base, vanilla)
    for look, times in zip(found, shown, strict=True):
        _steps(left, times.own, look)
        _steps(right, times.ratios, look)
    right.axvline(1.0, color=theme.strong, linewidth=0.8)
    left.set_xlim(*_span([ms for times in shown for ms in (*times.own, *times.base)]))
    right.set_xlim(*_span([ratio for times in shown for ratio in times.ratios] + [1.0]))
    for axes, name in ((left, "ms per example"), (right, "speedup of the single example")):
        axes.set_ylim(0, 100.8)
        layout.axis_names(axes, name, "examples up to here (%)", theme)
    layout.speedup_axis(right, "speedup of the single example")
    return frame.figure


def _span(values: list[float]) -> tuple[float, float]:
    """Return the middle 99 % and some air, so that a single outlier does not squeeze the rest."""
    ordered = sorted(values)
    cut = int(0.005 * len(ordered))
    low, high = ordered[cut], ordered[len(ordered) - 1 - cut]
    air = 0.04 * (high - low or high or 1.0)
    return max(0.0, low - air), high + air


def _steps(axes: Axes, values: list[float], look: layout.Series) -> None:
    ordered = sorted(values)
    heights = [100 * (index + 1) / len(ordered) for index in range(len(ordered))]
    layout.draw_line(axes, [ordered[0], *ordered], [0.0, *heights], look, drawstyle="steps-post")


def work_sheet(section: Section) -> Sheet | Missing:
    """Return bars of FLOPs, bytes and time over vanilla's, as the paper's Fig. 8; Missing where nothing was counted."""
    shown = section.telling(MOST_WORKS, lambda record: record.work is not None and record.method.name != "vanilla")
    if not shown:
        return Missing(WORK, "no point has its passes counted", section.command("run", "method=bild"))
    told = "; ".join(
        f"{name}: " + ", ".join(f"{part} {value:.2f}" for value, (part, _) in zip(over(record), WORKS, strict=True))
        for name, record in list(zip(labels(shown), shown, strict=True))[:3]
    )
    return Sheet("work", WORK, f"Over those of vanilla. {told}.", partial(_draw_work, section, shown))


def over(record: Record) -> tuple[float, float, float]:
    """Return (FLOPs, bytes, time) over those of vanilla decoding of the same examples."""
    assert record.work is not None
    return *record.work.ratios, 1 / record.speedup.value


def _draw_work(section: Section, records: Sequence[Record], theme: Theme, width: str) -> Figure:
    note = (
        f"n = {section.size}. Counted from the shapes of all passes, encoders included; multiplying and adding "
        "are two operations, and weights, keys and values are read once a pass."
    )
    notes = [note, switches_note(records)]
    frame = _open_bars(section, WORK, notes, WORKS, records, theme, width, tall=0.46, right=0.3)
    axes = frame.panels[0]
    axes.set_xlabel("over vanilla's")
    for at, record in enumerate(records):
        for place, (value, (_, color)) in enumerate(zip(over(record), WORKS, strict=True)):
            y = at + 0.27 * (place - 1)
            axes.barh(y, value, height=0.25, color=theme.mark(color), edgecolor=theme.paper, linewidth=0.4)
            _beside(axes, f"{value:.2f}", (value, y), theme)
    return frame.figure
