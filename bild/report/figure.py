"""The figure of a section: speedup against quality, every measured point with both of its intervals.

The same records give the same bytes, as PNG and as SVG.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bild.errors import BildError
from bild.report.labels import Box, Label, extent, halo, place
from bild.report.looks import FRONT_COLOR, HAIR, QUIET, STYLE, Look, caption, key, looks
from bild.report.sections import Section, make_section
from bild.report.wording import interval_name, metric_name, plural
from bild.results import Interval, Record, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SIZE = (7.0, 4.9)  # inches: the text width of a page
DPI = 200
_LEFT, _RIGHT = 0.1, 0.965  # of the figure's width


def draw(records: Sequence[Record]) -> Figure:
    """The figure of records that may be compared; BildError naming what differs where they may not."""
    import matplotlib  # takes most of a second: only where a figure is drawn
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    section = make_section(records)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, dpi=DPI)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((_LEFT, 0.2, _RIGHT - _LEFT, 0.635))
        shown = looks(section.records)
        _draw_points(axes, section, shown)
        _set_limits(axes, section)
        hairs = _draw_lines(axes, section)
        library = _draw_library(axes, section)
        unplaced = _draw_labels(axes, section, shown, library, hairs)
        _draw_words(figure, axes, section, unplaced)
    return figure


def save(records: Sequence[Record], out: Path, stem: str = "pareto") -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg` to the folder `out`, and return their paths. BildError as in `draw`."""
    import matplotlib

    figure = draw(records)
    paths = [out / f"{stem}.png", out / f"{stem}.svg"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            figure.savefig(paths[0], dpi=DPI, metadata={"Software": None})
            figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    except OSError as error:
        raise BildError(f"The figure cannot be written to {out} ({error.strerror}): choose another --out.") from None
    return paths


def library_position(records: Sequence[Record]) -> float | None:
    """The library's generate() on the speedup axis: same-engine vanilla's time over its, or None without a timing.

    Vanilla's own record compares the two on the same examples; without it, times per token have to do.
    """
    timed = [(record, record.latency.library) for record in records if record.latency.library]
    for record, library in timed:
        if record.method.name == "vanilla" and library:
            return 1 / library.speedup.value
    for record, library in timed:
        if library:
            return record.latency.baseline.ms_per_token / library.ms_per_token
    return None


def _speed(record: Record) -> Interval:
    return record.latency.speedup.total


def _bars(spans: Sequence[Interval | Score]) -> list[list[float]]:
    """Error bars below and above; a bootstrap interval need not hold its own estimate."""
    below = [max(0.0, span.value - span.low) for span in spans]
    return [below, [max(0.0, span.high - span.value) for span in spans]]


def _draw_points(axes: Axes, section: Section, shown: dict[str, Look]) -> None:
    for name, look in shown.items():
        records = [record for record in section.records if key(record) == name]
        speeds, scores = [_speed(record) for record in records], [record.headline for record in records]
        x, y = [speed.value for speed in speeds], [score.value for score in scores]
        axes.errorbar(
            x, y, xerr=_bars(speeds), yerr=_bars(scores), fmt="none", ecolor=look.color, elinewidth=0.7, alpha=0.35
        )
        axes.plot(
            x,
            y,
            linestyle="none",
            marker=look.marker,
            markersize=look.size,
            color=look.color,
            markeredgecolor="white",
            markeredgewidth=0.6,
            zorder=5,
            label=look.name,
        )


def _set_limits(axes: Axes, section: Section) -> None:
    speeds = [_speed(record) for record in section.records]
    scores = [record.headline for record in section.records]
    slow, fast = min(1.0, *(speed.low for speed in speeds)), max(1.0, *(speed.high for speed in speeds))
    low, high = (
        min(min(score.low, score.value) for score in scores),
        max(max(score.high, score.value) for score in scores),
    )
    wide, tall = max(fast - slow, 0.2), max(high - low, 0.5)
    library = library_position(section.records)
    if library is not None and slow - wide / 4 <= library < slow:  # near enough to be shown in its place
        slow = library
    axes.set_xlim(slow - 0.07 * wide, fast + 0.07 * wide)
    axes.set_ylim(low - 0.1 * tall, high + 0.08 * tall)  # room for the library's mark at the foot
    axes.locator_params(axis="y", nbins=9)
    axes.grid(True, color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)


def _vanilla_quality(section: Section) -> float | None:
    vanilla, difference = section.vanilla(), section.first.headline_difference
    if vanilla is not None:
        return vanilla.headline.value
    return None if difference is None else section.first.headline.value - difference.value


def _draw_lines(axes: Axes, section: Section) -> list[Box]:
    """Vanilla's quality and speed as hair lines, and the Pareto front. Returns the boxes of the hair lines."""
    frame, quality = axes.get_window_extent(), _vanilla_quality(section)
    axes.axvline(1.0, color=HAIR, linewidth=0.7, zorder=1)
    x, y = axes.transData.transform((1.0, quality or 0.0))
    boxes = [Box(x - 1, frame.y0, x + 1, frame.y1)]
    if quality is not None:
        axes.axhline(quality, color=HAIR, linewidth=0.7, zorder=1)
        boxes.append(Box(frame.x0, y - 1, frame.x1, y + 1))
    best = _front(section)
    axes.plot(*zip(*best, strict=True), color=FRONT_COLOR, alpha=0.35, linewidth=1.4, zorder=2, label="Pareto front")
    return boxes


def _front(section: Section) -> list[tuple[float, float]]:
    chosen = [section.records[index] for index in section.on_front()]
    return sorted((_speed(record).value, record.headline.value) for record in chosen)


def _draw_library(axes: Axes, section: Section) -> list[Box]:
    """The library's generate() as a quiet mark on the axis, or an arrow at its end where it lies outside."""
    position = library_position(section.records)
    if position is None:
        return []
    left, right = axes.get_xlim()
    x = min(max(position, left), right)
    marker = "^" if x == position else "<" if position < left else ">"
    foot = axes.get_xaxis_transform()
    axes.plot([x], [0], transform=foot, marker=marker, markersize=5, color=QUIET, clip_on=False, zorder=5)
    on_left = x < (left + right) / 2
    note = axes.annotate(
        f"library generate(): {position:.2f}×",
        (x, 0),
        xycoords=foot,
        xytext=(7 if on_left else -7, 5),
        textcoords="offset points",
        ha="left" if on_left else "right",
        va="bottom",
        fontsize=7,
        color=QUIET,
        path_effects=halo(),
    )
    return [extent(note)]


def _draw_labels(axes: Axes, section: Section, shown: dict[str, Look], taken: list[Box], soft: list[Box]) -> int:
    """Name the points, those on the front first. Returns how many found no place."""
    scale = axes.figure.dpi / 72
    for record in section.records:
        speed, score = _speed(record), record.headline
        x, y = axes.transData.transform((speed.value, score.value))
        radius = shown[key(record)].size * scale / 2
        taken = [*taken, Box(x - radius, y - radius, x + radius, y + radius)]
        (x0, y0), (x1, y1) = axes.transData.transform([(speed.low, score.low), (speed.high, score.high)])
        soft = [*soft, Box(x0, y - 1, x1, y + 1), Box(x - 1, y0, x + 1, y1)]
    front = section.on_front()
    order = sorted(range(len(section.records)), key=lambda index: (index not in front, index))
    drafts = Counter(record.method.max_draft for record in section.records if record.method.name == "bild")
    usual = drafts.most_common(1)[0][0] if drafts else None
    labels = [
        Label(_speed(record).value, record.headline.value, caption(record, usual), shown[key(record)].ink)
        for record in (section.records[index] for index in order)
    ]
    lines = axes.transData.transform(_front(section)).tolist()
    return len(place(axes, labels, taken, soft, lines)[1])


def _draw_words(figure: Figure, axes: Axes, section: Section, unplaced: int) -> None:
    first = section.first
    axes.set_xlabel("speedup over vanilla decoding by the large model on the same engine")
    axes.set_ylabel(metric_name(first))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    _fit(figure.text(_LEFT, 0.955, section.title, fontsize=10.5, fontweight="bold", va="center"))
    _fit(figure.text(_LEFT, 0.91, section.conditions, fontsize=8, color="#444444", va="center"))
    _draw_legend(figure, axes)
    words = (
        f"n = {plural(first.latency.examples, 'example')}, batch size 1. Bars: {interval_name(first)}. "
        "Speedup is the ratio of total times, encoders included; upper right is better."
    )
    if unplaced:
        words += f" {plural(unplaced, 'point')} without a label: see the table."
    lines = textwrap.fill(words, 114)
    figure.text(_LEFT, 0.085, lines, fontsize=7, color="#444444", va="top", linespacing=1.4)


def _draw_legend(figure: Figure, axes: Axes) -> None:
    """The legend in one row above the plot, where it covers no point; smaller where it would be too wide."""
    entries = len(axes.get_legend_handles_labels()[1])
    for size in (7.5, 7.0, 6.5, 6.0, 5.5, 5.0):
        legend = figure.legend(
            loc="center left",
            bbox_to_anchor=(_LEFT - 0.01, 0.865),
            ncols=entries,
            frameon=False,
            fontsize=size,
            handletextpad=0.3,
            columnspacing=1.3,
        )
        box = legend.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
        if box.x1 <= figure.bbox.width or size == 5.0:
            break
        legend.remove()


def _fit(text: Text) -> None:
    """Make a line of text small enough for the plot's width."""
    figure = text.figure
    assert figure is not None
    while extent(text).x1 > _RIGHT * figure.bbox.width and float(text.get_fontsize()) > 4:
        text.set_fontsize(float(text.get_fontsize()) - 0.25)
