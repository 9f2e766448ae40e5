"""Early exit: quality over the latency relative to vanilla, BiLD against CALM, the paper's Fig. 6 quietly behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bild.report.commands import run_command, split_exit
from bild.report.figure import Missing, Sheet
from bild.report.figures.front_words import overlay_note
from bild.report.figures.overlay import draw_quiet_curve, quiet_handle
from bild.report.figures.series import cross, dots, look_handles, plain
from bild.report.format import interval_name, metric_name, plural
from bild.report.layout import Words, open_frame
from bild.report.looks import key, looks
from bild.report.published import curve, paper
from bild.report.sections import Section
from bild.report.style import Theme
from bild.results import Interval, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Early exit: BiLD against CALM"


def early_exit_sheet(section: Section) -> Sheet | Missing | None:
    """The figure of a pair whose small model is a part of the large one; None for any other pair."""
    layers = split_exit(section.first.pair.name)[1]
    records = [record for record in section.records if record.method.name in ("bild", "calm")]
    kinds = {record.method.name for record in records}
    if layers is None and "calm" not in kinds:
        return None
    if kinds != {"bild", "calm"}:
        lacks = "calm" if "calm" not in kinds else "bild"
        return Missing(TITLE, f"no point of method={lacks}", run_command(section, f"method={lacks}"))
    words = ", ".join(
        f"{name}: {plural(sum(r.method.name == name for r in records), 'point')}" for name in sorted(kinds)
    )
    return Sheet("early-exit", TITLE, f"{words}.", lambda theme, width: _draw(section, records, theme, width))


def relative(record: Record) -> Interval:
    """Latency over that of vanilla: the speedup turned over."""
    speed = record.latency.speedup.total
    return Interval(1 / speed.value, 1 / speed.high, 1 / speed.low)


def _draw(section: Section, records: list[Record], theme: Theme, width: str) -> Figure:
    task = section.first.task.name
    shown = looks([key(record) for record in records], theme)
    theirs = split_exit(section.first.pair.name)[0] == "mt5-small" and task in paper()["fig6"]
    legend = look_handles(shown)
    note = (
        f"n = {plural(section.first.latency.examples, 'example')}. Bars: {interval_name(section.first)}. "
        "Upper left is better."
    )
    if theirs:
        note += f" {overlay_note()}"
        legend.append(quiet_handle("paper, Fig. 6 (T4)", theme))
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
    if theirs:
        quiet: tuple[tuple[str, str, Any], ...] = (("bild", "o", "-"), ("calm", "^", (0, (4, 2))))
        for name, marker, dash in quiet:
            draw_quiet_curve(axes, curve("fig6", task, name), theme, marker, dash)
    for record in records:
        look, x, score = shown[key(record)], relative(record), record.headline
        cross(axes, x, score, look.color, alphas=(0.4, 0.3))
        dots(axes, [(x.value, score.value)], look.color, look.marker, look.size, theme)
    vanilla = section.vanilla()
    if vanilla is not None:
        axes.axhline(vanilla.headline.value, color=theme.hair, linewidth=0.7, zorder=1)
        axes.plot([1.0], [vanilla.headline.value], marker="*", markersize=10, color=theme.strong, zorder=4)
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    plain(axes, theme)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("latency over that of vanilla")
    axes.set_ylabel(metric_name(section.first))
    return frame.figure
