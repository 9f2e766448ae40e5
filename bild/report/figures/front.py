"""Speedup against quality: every measured point with both of its intervals and the region that holds them jointly.

Predicted points are hollow; the paper's and the reproduction's stand quietly behind. Equal records give equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bild.report.figure import Sheet
from bild.report.figures.front_labels import FAINT, draw_labels, front_legend
from bild.report.figures.front_region import draw_region, line_of, reach_of, speed_of, with_region
from bild.report.figures.front_words import front_caption, front_words
from bild.report.figures.library import draw_library, library_position
from bild.report.figures.overlay import draw_overlay
from bild.report.figures.series import speedup_axis
from bild.report.format import metric_name
from bild.report.labels import Box, extent, halo
from bild.report.layout import Frame, open_frame
from bild.report.looks import FRONT_COLOR, Look, key, looks
from bild.report.predictions import not_measured
from bild.report.published import Overlay, overlay
from bild.report.sections import Section, make_section
from bild.report.style import Theme
from bild.results import Interval, Record, Score
from bild.results.pareto import ONE_POINT, picks
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(records: Sequence[Record], theme: str = "light", width: str = "print") -> Figure:
    """The figure of records that may be compared; BildError naming what differs where they may not."""
    return front_sheet(make_section(records)).draw(theme, width)


def save(records: Sequence[Record], out: Path, stem: str = "pareto") -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg` to the folder `out`, and return their paths. BildError as in `draw`."""
    sheet = front_sheet(make_section(records), stem=stem)
    return sheet.save(Path(out), (("", "light", "print", ("png", "svg")),))


def front_sheet(section: Section, predicted: Sequence[PredictedPoint] = (), stem: str = "pareto") -> Sheet:
    """The front of a section; a predicted point that was measured too is shown as measured only."""
    predicted = not_measured(section, predicted)
    title = f"Speedup against quality: {section.title}"
    return Sheet(
        stem,
        title,
        front_caption(section, predicted, overlay(section.first)),
        lambda theme, width: _draw(section, predicted, theme, width),
    )


def _draw(section: Section, predicted: Sequence[PredictedPoint], theme: Theme, width: str) -> Figure:
    behind = overlay(section.first)
    shown = looks({*map(key, section.records), *map(key, predicted)}, theme)
    # The words must know how many labels found no place, and the frame must know the words: so draw twice if need be.
    unplaced = 0
    for _ in range(2):
        words = front_words(section, predicted, behind, unplaced)
        legend = front_legend(section, predicted, shown, behind, theme)
        frame = open_frame(theme, width, words, legend, heights=(3.1,), left=0.62, right=0.2)
        found = _fill(frame, section, predicted, shown, behind)
        if found == unplaced:
            break
        unplaced = found
    return frame.figure


def _fill(
    frame: Frame,
    section: Section,
    predicted: Sequence[PredictedPoint],
    shown: dict[str, Look],
    behind: Overlay | None,
) -> int:
    axes, theme = frame.panels[0], frame.theme
    _set_limits(axes, section, predicted, behind, theme, frame.phone)
    _draw_predicted(axes, predicted, shown, theme)
    _draw_points(axes, section, shown, theme)
    hairs = _draw_lines(axes, section, theme)
    if behind is not None:
        draw_overlay(axes, behind, theme)
    _ring_picks(axes, section, theme)
    notes = draw_library(axes, section.records, theme)
    speedup_axis(axes, "speedup over vanilla" if frame.phone else "speedup over vanilla (large model, same engine)")
    axes.set_ylabel(metric_name(section.first))
    return draw_labels(frame, section, shown, notes, hairs)


def _bars(spans: Sequence[Interval | Score]) -> list[list[float]]:
    """Error bars below and above; a bootstrap interval need not hold its own estimate."""
    below = [max(0.0, span.value - span.low) for span in spans]
    return [below, [max(0.0, span.high - span.value) for span in spans]]


def _draw_points(axes: Axes, section: Section, shown: dict[str, Look], theme: Theme) -> None:
    faint = max(0.12, min(0.35, 12 / len(section.records)))
    for name, look in shown.items():
        records = [record for record in section.records if key(record) == name]
        if not records:
            continue
        speeds, scores = [speed_of(record) for record in records], [record.headline for record in records]
        x, y = [speed.value for speed in speeds], [score.value for score in scores]
        axes.errorbar(
            x, y, xerr=_bars(speeds), yerr=_bars(scores), fmt="none", ecolor=look.color, elinewidth=0.7, alpha=faint
        )
        axes.plot(
            x,
            y,
            linestyle="none",
            marker=look.marker,
            markersize=look.size,
            color=look.color,
            markeredgecolor=theme.paper,
            markeredgewidth=0.6,
            zorder=5,
            label=look.name,
        )
    for record in with_region(section):
        draw_region(axes, record, shown[key(record)].color)


def _draw_predicted(axes: Axes, predicted: Sequence[PredictedPoint], shown: dict[str, Look], theme: Theme) -> None:
    for name, look in shown.items():
        found = [each for each in predicted if key(each) == name]
        if found:
            axes.plot(
                [each.speedup.value for each in found],
                [each.quality.score for each in found],
                linestyle="none",
                marker=look.marker,
                markersize=0.72 * look.size,
                markerfacecolor="none",
                markeredgecolor=look.color,
                markeredgewidth=0.7,
                alpha=0.75 if len(found) < 100 else 0.5,
                zorder=3,
                label=f"{look.name}, predicted",
            )


def _set_limits(
    axes: Axes, section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None, theme: Theme, phone: bool
) -> None:
    speeds = [speed_of(record) for record in section.records]
    scores = [record.headline for record in section.records]
    x = [1.0, *(end for speed in speeds for end in (speed.low, speed.high))]
    y = [end for score in scores for end in (score.low, score.value, score.high)]
    for record in with_region(section):
        assert record.joint is not None
        across, along = reach_of(record) * record.joint.speedup_sd, reach_of(record) * record.joint.quality_sd
        x += [speed_of(record).value - across, speed_of(record).value + across]
        y += [record.headline.value - along, record.headline.value + along]
    x += [each.speedup.value for each in predicted]
    y += [each.quality.score for each in predicted]
    if behind is not None:
        x += [point[0] for point in behind.points]
        y += [point[1] for point in behind.points]
    slow, fast, low, high = min(x), max(x), min(y), max(y)
    wide, tall = max(fast - slow, 0.2), max(high - low, 0.5)
    library = library_position(section.records)
    if library is not None and slow - wide / 4 <= library < slow:  # near enough to be shown in its place
        slow = library
    axes.set_xlim(slow - 0.07 * wide, fast + 0.07 * wide)
    axes.set_ylim(low - 0.1 * tall, high + 0.08 * tall)  # room for the library's mark at the foot
    axes.locator_params(axis="y", nbins=8)
    axes.locator_params(axis="x", nbins=5 if phone else 8)
    axes.grid(True, color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)


def _vanilla_quality(section: Section) -> float | None:
    vanilla, difference = section.vanilla(), section.first.headline_difference
    if vanilla is not None:
        return vanilla.headline.value
    return None if difference is None else section.first.headline.value - difference.value


def _draw_lines(axes: Axes, section: Section, theme: Theme) -> list[Box]:
    """Vanilla's quality (no loss), a point below it, vanilla's speed, and the front. Returns the hair lines' boxes."""
    frame, quality = axes.get_window_extent(), _vanilla_quality(section)
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    x, _ = axes.transData.transform((1.0, quality or 0.0))
    boxes = [Box(x - 1, frame.y0, x + 1, frame.y1)]
    bottom = axes.get_ylim()[0]
    for level, name in ((quality, "no loss"), (None if quality is None else quality - ONE_POINT, "−1 point")):
        if level is None or level <= bottom:
            continue
        axes.axhline(
            level, color=theme.hair, linewidth=0.7, linestyle="-" if level == quality else (0, (4, 3)), zorder=1
        )
        _, y = axes.transData.transform((1.0, level))
        boxes.append(Box(frame.x0, y - 1, frame.x1, y + 1))
        note = axes.text(
            0.995,
            level,
            name,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            fontsize=6.5,
            color=theme.quiet,
            path_effects=halo(theme.paper),
        )
        boxes.append(extent(note))
    best = line_of(section)
    axes.plot(
        *zip(*best, strict=True),
        color=theme.mark(FRONT_COLOR),
        alpha=FAINT,
        linewidth=1.4,
        zorder=2,
        label="Pareto front",
    )
    return boxes


def _ring_picks(axes: Axes, section: Section, theme: Theme) -> None:
    """The paper's two picks: a ring at no loss, a box at a loss of a point at most."""
    chosen = picks(section.records)
    for record, marker, size in ((chosen.no_loss, "o", 11.5), (chosen.one_point, "s", 11.5)):
        if record is not None:
            axes.scatter(
                [speed_of(record).value],
                [record.headline.value],
                s=size**2,
                marker=marker,
                facecolors="none",
                edgecolors=theme.strong,
                linewidths=0.9,
                zorder=4.5,
            )
