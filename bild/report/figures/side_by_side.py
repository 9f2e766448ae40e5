"""Two fronts beside each other, each on axes of its own: points of two machines are never on one front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bild.report.figure import Sheet
from bild.report.figures.series import cross, dots, look_handles, plain, speedup_axis
from bild.report.format import interval_name, metric_name, plural
from bild.report.layout import Words, open_frame
from bild.report.looks import FRONT_COLOR, key, looks
from bild.report.sections import Section
from bild.report.style import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def side_sheet(left: Section, right: Section, stem: str) -> Sheet:
    """The fronts of two like sections."""
    both = [f"{plural(len(section.records), 'point')} on {section.conditions}" for section in (left, right)]
    words = f"{'; '.join(both)}."
    title = f"Side by side: {left.title}"
    return Sheet(stem, title, words, lambda theme, width: _draw(left, right, title, theme, width))


def _draw(left: Section, right: Section, title: str, theme: Theme, width: str) -> Figure:
    from matplotlib.lines import Line2D

    shown = looks([key(record) for section in (left, right) for record in section.records], theme)
    legend = look_handles(shown)
    legend.append(Line2D([], [], color=theme.mark(FRONT_COLOR), alpha=0.6, linewidth=1.4, label="Pareto front"))
    names = ("Upper", "Lower") if width == "phone" else ("Left", "Right")
    conditions = f"{names[0]}: {left.conditions}\n{names[1]}: {right.conditions}"
    note = (
        f"n = {plural(left.first.latency.examples, 'example')} on both. Each speedup is over vanilla on its own side. "
        f"Bars: {interval_name(left.first)}. Same axes, separate fronts."
    )
    frame = open_frame(theme, width, Words(title, conditions, note), legend, heights=(2.6, 2.6), left=0.62, right=0.2)
    for axes, section in zip(frame.panels, (left, right), strict=True):
        _panel(axes, section, theme)
    _share_limits(frame.panels)
    return frame.figure


def _panel(axes: Axes, section: Section, theme: Theme) -> None:
    shown = looks([key(record) for record in section.records], theme)
    for record in section.records:
        look, speed, score = shown[key(record)], record.latency.speedup.total, record.headline
        cross(axes, speed, score, look.color, alphas=(0.35, 0.25))
        dots(axes, [(speed.value, score.value)], look.color, look.marker, 0.9 * look.size, theme)
    best = [section.records[index] for index in section.on_front()]
    line = sorted((record.latency.speedup.total.value, record.headline.value) for record in best)
    axes.plot(*zip(*line, strict=True), color=theme.mark(FRONT_COLOR), alpha=0.6, linewidth=1.4, zorder=2)
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    plain(axes, theme)
    axes.locator_params(axis="x", nbins=5)
    speedup_axis(axes)
    axes.set_ylabel(metric_name(section.first))


def _share_limits(panels: list[Axes]) -> None:
    x = [end for axes in panels for end in axes.get_xlim()]
    y = [end for axes in panels for end in axes.get_ylim()]
    for axes in panels:
        axes.set_xlim(min(x), max(x))
        axes.set_ylim(min(y), max(y))
