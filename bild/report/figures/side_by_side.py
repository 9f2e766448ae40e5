"""Two fronts beside each other, each on axes of its own: points of two machines are never on one front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bild.report.figures.series import plain
from bild.report.frame import Words, open_frame
from bild.report.looks import FRONT_COLOR, key, looks
from bild.report.sections import Section
from bild.report.sheets import Sheet
from bild.report.themes import Theme
from bild.report.wording import interval_name, metric_name, plural

if TYPE_CHECKING:
    from matplotlib.artist import Artist
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
    legend: list[Artist] = [
        Line2D([], [], color=look.color, marker=look.marker, markersize=5, linestyle="none", label=look.name)
        for look in shown.values()
    ]
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
        axes.plot([speed.low, speed.high], [score.value] * 2, color=look.color, linewidth=0.7, alpha=0.35)
        axes.plot([speed.value] * 2, [score.low, score.high], color=look.color, linewidth=0.7, alpha=0.25)
        axes.plot(
            [speed.value],
            [score.value],
            marker=look.marker,
            markersize=0.9 * look.size,
            color=look.color,
            markeredgecolor=theme.paper,
            markeredgewidth=0.5,
            zorder=4,
        )
    best = [section.records[index] for index in section.on_front()]
    line = sorted((record.latency.speedup.total.value, record.headline.value) for record in best)
    axes.plot(*zip(*line, strict=True), color=theme.mark(FRONT_COLOR), alpha=0.6, linewidth=1.4, zorder=2)
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    plain(axes, theme)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("speedup over vanilla")
    axes.set_ylabel(metric_name(section.first))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")


def _share_limits(panels: list[Axes]) -> None:
    x = [end for axes in panels for end in axes.get_xlim()]
    y = [end for axes in panels for end in axes.get_ylim()]
    for axes in panels:
        axes.set_xlim(min(x), max(x))
        axes.set_ylim(min(y), max(y))
