"""Latency per example against vanilla: the distribution of times, and of the speedups one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bild.report.commands import run_command
from bild.report.evidence import samples_of, telling
from bild.report.figures.series import Series, draw_line, handles, plain, series, speedup_axis
from bild.report.frame import Words, open_frame
from bild.report.sections import Section
from bild.report.sheets import Missing, Sheet
from bild.report.themes import Theme
from bild.report.wording import plural
from bild.results import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Latency per example"
MOST = 4


class Times(NamedTuple):
    """Milliseconds per example of a record and of its paired baseline, in the same order."""

    record: Record
    own: list[float]
    base: list[float]

    @property
    def ratios(self) -> list[float]:
        """The speedup of each example."""
        return [base / own for own, base in zip(self.own, self.base, strict=True)]

    @property
    def slower(self) -> float:
        """The share of examples on which the method was slower than vanilla."""
        return sum(ratio < 1 for ratio in self.ratios) / len(self.own)


def latency_sheet(section: Section) -> Sheet | Missing:
    """Cumulative distributions of at most four points and vanilla; Missing where no examples can be read."""
    shown = [times for record in telling(section, MOST) if (times := times_of(section, record))]
    if not shown:
        return Missing(TITLE, "no point but the anchors has its examples", run_command(section, "method=bild"))
    told = "; ".join(f"{times.record.label}: slower than vanilla in {100 * times.slower:.0f} %" for times in shown)
    return Sheet(
        "latency", TITLE, f"Of the examples, {told}.", lambda theme, width: _draw(section, shown, theme, width)
    )


def times_of(section: Section, record: Record) -> Times | None:
    """The times of a record's examples, or None."""
    samples = samples_of(section, record)
    if not samples:
        return None
    own = [1e3 * sample.seconds for sample in samples]
    base = [1e3 * sample.baseline_seconds for sample in samples]
    return Times(record, own, base) if all(own) and all(base) else None


def _draw(section: Section, shown: list[Times], theme: Theme, width: str) -> Figure:
    found = series([times.record for times in shown], theme)
    vanilla = Series("vanilla", theme.strong, "-", "*")
    note = (
        f"n = {plural(section.first.latency.examples, 'example')}, end to end, batch size 1. Vanilla's times are those "
        f"paired with {found[0].name}. Speedups are paired; points timed in different runs compare by them. "
        "Left of 1×: slower."
    )
    frame = open_frame(
        theme,
        width,
        Words(f"{TITLE}: {section.title}", section.conditions, note),
        handles([vanilla, *found]),
        heights=(2.3, 2.3),
        left=0.58,
        foot=0.45,
    )
    left, right = frame.panels
    _steps(left, shown[0].base, vanilla)
    for look, times in zip(found, shown, strict=True):
        _steps(left, times.own, look)
        _steps(right, times.ratios, look)
    right.axvline(1.0, color=theme.strong, linewidth=0.8)
    every = [ms for times in shown for ms in (*times.own, *times.base)]
    left.set_xlim(*_span(every))
    right.set_xlim(*_span([ratio for times in shown for ratio in times.ratios] + [1.0]))
    left.set_xlabel("ms per example")
    speedup_axis(right, "speedup of the single example")
    for axes in frame.panels:
        axes.set_ylim(0, 100)
        axes.set_ylabel("examples up to here (%)")
        axes.locator_params(axis="x", nbins=6)
        plain(axes, theme)
    return frame.figure


def _span(values: list[float]) -> tuple[float, float]:
    """The middle 99 % and some air, so that a single outlier does not squeeze the rest."""
    ordered = sorted(values)
    cut = int(0.005 * len(ordered))
    low, high = ordered[cut], ordered[len(ordered) - 1 - cut]
    air = 0.04 * (high - low or high or 1.0)
    return max(0.0, low - air), high + air


def _steps(axes: Axes, values: list[float], look: Series) -> None:
    ordered = sorted(values)
    heights = [100 * (index + 1) / len(ordered) for index in range(len(ordered))]
    draw_line(axes, [ordered[0], *ordered], [0.0, *heights], look, drawstyle="steps-post")
