"""BiLD against its ablations and against early exit by CALM, the paper's Fig. 5 and Fig. 6 quietly behind; quality by
the share of the large model's tokens, as its Fig. 2; and how far predictions can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bild.report import layout
from bild.report.figure import Missing, Sheet, Theme, looks
from bild.report.format import interval_name, legend, metric_name, plural, split_exit, switches_note
from bild.report.labels import halo
from bild.report.paper import Curve, curve, kind_of_pair, overlay_note, paper, table1
from bild.report.predictions import Foreseen, foreseen, judged
from bild.report.sections import Section
from bild.results import Interval, Record
from bild.results.predicted import PredictedPoint
from bild.results.reading import front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

ABLATION, EXIT = "Ablations", "Early exit: BiLD against CALM"
ENGAGEMENT = "Quality by the share of the large model's tokens"
PREDICTED = "Measured against predicted"
BAND = 0.1
"""Off by less than this share, a prediction lies in the band of the figure."""
KINDS: dict[str, tuple[str, str, Any]] = {
    "BiLD": ("#0072B2", "o", "-"),
    "no rollback (rb = ∞)": ("#D55E00", "^", (0, (5, 1.5))),
    "no fallback (fb = 0)": ("#009E73", "s", (0, (1.5, 1.2))),
}
PAPERS = {"no rollback (rb = ∞)": "no rollback", "no fallback (fb = 0)": "no fallback"}
CALMS: dict[str, tuple[str, Any]] = {"bild": ("o", "-"), "calm": ("^", (0, (4, 2)))}


def ablation_sheet(section: Section) -> Sheet | Missing:
    """Return the three kinds as fronts of their own; Missing where nothing was ablated."""
    groups: dict[str, list[Record]] = {name: [] for name in KINDS}
    for record in section.records:
        if (name := kind(record)) is not None:
            groups[name].append(record)
    lacking = [name for name, records in groups.items() if not records]
    if not any(groups[name] for name in PAPERS):
        command = section.command("run", "-m", "threshold=rollback-only,fallback-only")
        return Missing(ABLATION, "no point without fallback (fb=0) or without rollback (rb=inf)", command)
    words = ", ".join(f"{name}: {plural(len(records), 'point')}" for name, records in groups.items())
    words += f" (without {', '.join(lacking)})." if lacking else "."
    return Sheet("ablation", ABLATION, words, partial(_draw_ablation, section, groups))


def kind(record: Record | PredictedPoint) -> str | None:
    """Return which of KINDS a point is, if it is one of BiLD at all."""
    fb, rb = record.threshold.fb, record.threshold.rb
    if record.method.name != "bild" or fb is None or rb is None:
        return None
    full, no_rollback, no_fallback = KINDS
    if math.isinf(rb):
        return no_rollback if fb > 0 else None
    return no_fallback if fb == 0 else full


def _behind(section: Section) -> dict[str, Curve]:
    """Return the paper's curves, less its vanilla, for its aligned pairs."""
    if kind_of_pair(section.first.pair.name) != "aligned":
        return {}
    task = section.first.task.name
    found = {name: curve("fig5", task, theirs) for name, theirs in PAPERS.items()}
    if any(found.values()):
        found["BiLD"] = curve("fig4", task, "aligned")
    rows = table1(task)
    return {name: tuple((x, y - rows[0].score) for x, y in points) for name, points in found.items() if points}


def _open(
    section: Section, title: str, notes: list[str], handles: list[Line2D], theme: Theme, width: str
) -> layout.Frame:
    notes = [f"n = {section.size}. Bars: {interval_name(section.first)}.", *notes]
    frame = layout.open_section(section, title, notes, handles, theme, width, heights=(2.8,), left=0.62, right=0.55)
    layout.plain(frame.panels[0], theme, "x")
    return frame


def _exactly(point: tuple[float, float]) -> tuple[Interval, Interval]:
    return layout.exactly(point[0]), layout.exactly(point[1])


def _draw_ablation(section: Section, groups: dict[str, list[Record]], theme: Theme, width: str) -> Figure:
    behind = _behind(section)
    handles = [
        layout.handle(name, theme.mark(color), marker=marker, markersize=4.5, linestyle=dash, linewidth=1.2)
        for name, (color, marker, dash) in KINDS.items()
        if groups[name]
    ]
    if behind:
        handles.append(layout.quiet_handle("the same in the paper (T4, Fig. 4 and 5)", theme))
    records = [record for group in groups.values() for record in group]
    notes = [
        "Of BiLD alone (stop=unsure, keep=nll). Lines: the front of each kind.",
        switches_note(records),
        overlay_note() if behind else "",
    ]
    frame = _open(section, ABLATION, notes, handles, theme, width)
    axes = frame.panels[0]
    for name, points in behind.items():
        layout.quiet_curve(axes, points, theme, *KINDS[name][1:])
    for name, group in groups.items():
        color, marker, dash = theme.mark(KINDS[name][0]), *KINDS[name][1:]
        for record in group:
            layout.cross(axes, record.speedup, section.difference(record), color)
        at = [section.at(record) for record in group]
        if at:
            best = [at[index] for index in front(at)]
            axes.plot(*zip(*best, strict=True), color=color, linestyle=dash, linewidth=1.2, zorder=3)
            layout.dots(axes, at, color, marker, 5, theme)
    quiet = [*(point for points in behind.values() for point in points), (1.0, 0.0)]
    spans = [*((record.speedup, section.difference(record)) for record in records), *map(_exactly, quiet)]
    layout.span_axes(axes, spans, (0.5, 1.0))
    axes.locator_params(axis="x", nbins=5 if frame.phone else 8)
    layout.open_differences(axes, section, theme)
    layout.long_speedup_axis(frame)
    return frame.figure


def early_exit_sheet(section: Section) -> Sheet | Missing | None:
    """Return the figure of a pair whose small model is a part of the large one; None for any other pair."""
    records = [record for record in section.records if record.method.name in CALMS]
    kinds = {record.method.name for record in records}
    if split_exit(section.first.pair.name)[1] is None and "calm" not in kinds:
        return None
    if lacks := sorted(set(CALMS) - kinds, reverse=True):
        return Missing(EXIT, f"no point of method={lacks[0]}", section.command("run", f"method={lacks[0]}"))
    counts = {legend(record): sum(legend(other) == legend(record) for other in records) for record in records}
    words = ", ".join(f"{name}: {plural(count, 'point')}" for name, count in sorted(counts.items()))
    return Sheet("early-exit", EXIT, f"{words}.", partial(_draw_exit, section, records))


def relative(record: Record) -> Interval:
    """Return the latency over that of vanilla: the speedup turned over."""
    speed = record.speedup
    return Interval(1 / speed.value, 1 / speed.high, 1 / speed.low)


def _draw_exit(section: Section, records: list[Record], theme: Theme, width: str) -> Figure:
    task, vanilla = section.first.task.name, section.vanilla()
    shown = looks(map(legend, records), theme)
    theirs = split_exit(section.first.pair.name)[0] == "mt5-small" and task in paper()["fig6"]
    handles = layout.look_handles(shown) + ([layout.quiet_handle("paper, Fig. 6 (T4)", theme)] if theirs else [])
    notes = ["Upper left is better.", switches_note(records), overlay_note() if theirs else ""]
    frame = _open(section, EXIT, notes, handles, theme, width)
    axes = frame.panels[0]
    quiet = [(1.0, section.base)]
    for name, (marker, dash) in CALMS.items() if theirs else ():
        layout.quiet_curve(axes, curve("fig6", task, name), theme, marker, dash)
        quiet += curve("fig6", task, name)
    layout.span_axes(axes, [*((relative(r), r.headline) for r in records), *map(_exactly, quiet)], (0.5, 1.0))
    for record in records:
        look, x, score = shown[legend(record)], relative(record), record.headline
        layout.cross(axes, x, score, look.color)
        layout.dots(axes, [(x.value, score.value)], look.color, look.marker, look.size, theme)
    if vanilla is not None:
        axes.axhline(vanilla.headline.value, color=theme.hair, linewidth=0.7, zorder=1)
        layout.dots(axes, [(1.0, vanilla.headline.value)], theme.strong, "*", 10, theme)
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("latency over that of vanilla")
    axes.set_ylabel(metric_name(section.first))
    return frame.figure


def engagement(points: Iterable[PredictedPoint], limit: int) -> list[tuple[float, float]]:
    """Return (share of tokens that the large model replaced, quality) of points whose small model writes whole texts.

    Such a point falls back nowhere, and its drafts may be as long as a text of `limit` tokens: a rollback is a token
    replaced (paper, Fig. 2).
    """
    whole = [
        (point.counts.rollback_rate, point.quality.score)
        for point in points
        if point.method.name == "bild"
        and (point.threshold.fb, point.method.first) == (0.0, "small")
        and isinstance(point.method.max_draft, int)
        and point.method.max_draft >= limit - 1
    ]
    return sorted(whole)


def engagement_sheet(section: Section, predicted: Sequence[PredictedPoint]) -> Sheet | None:
    """Return the quality of texts by the small model of which the large one replaced a share; None without any."""
    found = engagement(predicted, section.first.task.target_limit)
    if len(found) < 2:
        return None
    words = "; ".join(f"{100 * share:.1f} %: {score:.2f}" for share, score in found) + "."
    return Sheet("engagement", ENGAGEMENT, words, partial(_draw_engagement, section, found))


def _draw_engagement(section: Section, found: list[tuple[float, float]], theme: Theme, width: str) -> Figure:
    color = theme.mark("#0072B2")
    note = (
        f"n = {section.first.quality.examples:,} examples, exact by replay. The small model writes; tokens that "
        "the large one holds least likely are replaced by its own, and the small model goes on (paper, Fig. 2)."
    )
    handles = [layout.handle("small model with replaced tokens", color, marker="o", markersize=4.5, linestyle="-")]
    handles.append(layout.handle("the large model alone", theme.strong, linestyle="-", linewidth=0.8))
    frame = layout.open_section(
        section, ENGAGEMENT, [note], handles, theme, width, heights=(2.4,), left=0.62, right=0.2
    )
    axes = frame.panels[0]
    layout.plain(axes, theme)
    axes.plot([100 * share for share, _ in found], [score for _, score in found], color=color, linewidth=1.2)
    layout.dots(axes, [(100 * share, score) for share, score in found], color, "o", 5, theme)
    axes.axhline(section.base, color=theme.strong, linewidth=0.8, zorder=1)
    axes.set_xlabel("tokens replaced by the large model (%)")
    axes.set_ylabel(metric_name(section.first))
    return frame.figure


def predicted_sheet(section: Section, predicted: Sequence[PredictedPoint]) -> Sheet | Missing:
    """Return every point that was both predicted and measured, but for vanilla; Missing where there is none."""
    both = foreseen(section, predicted)
    if not both:
        why = "no predicted point was measured" if predicted else "no sweep of just these examples has predicted points"
        return Missing(PREDICTED, why, section.command("sweep"))
    return Sheet("predicted", PREDICTED, judged(both), partial(_draw_predicted, section, both))


def _draw_predicted(section: Section, both: Sequence[Foreseen], theme: Theme, width: str) -> Figure:
    from matplotlib.patches import Patch

    shown = looks((legend(record) for record, _, _ in both), theme)
    handles = [*layout.look_handles(shown), Patch(facecolor=theme.hair, alpha=0.4, label="within 10 %")]
    if any(agreement.settled is not None for _, _, agreement in both):
        handles.append(layout.handle("settled", theme.quiet, marker="x", markersize=4))
    notes = [judged(both), f"n = {section.timed} timed.", switches_note([record for record, _, _ in both])]
    frame = layout.open_section(
        section, PREDICTED, notes, handles, theme, width, heights=(2.6, 2.6), left=0.62, right=0.2
    )
    speeds = [(agreement.predicted, agreement.measured, agreement.settled) for _, _, agreement in both]
    _draw_foreseen(frame.panels[0], both, speeds, theme, "predicted speedup", "measured speedup")
    layout.speedup_axis(frame.panels[0], "predicted speedup")
    same = [pair for pair in both if pair[1].agreement or pair[0].latency.examples == pair[0].quality.examples]
    times = [
        (
            1e3 * agreement.predicted_seconds,
            _scaled(record.latency.ms_per_example, 1e3 * agreement.measured_seconds),
            agreement.settled_seconds and 1e3 * agreement.settled_seconds,
        )
        for record, _, agreement in same
    ]
    _draw_foreseen(frame.panels[1], same, times, theme, "predicted ms per example", "measured ms per example")
    return frame.figure


def _draw_foreseen(
    axes: Axes,
    both: Sequence[Foreseen],
    spans: Sequence[tuple[float, Interval, float | None]],
    theme: Theme,
    across: str,
    up: str,
) -> None:
    """Draw what was predicted, across, against what was measured, with the width that the prediction gave itself."""
    shown = looks((legend(record) for record, _, _ in both), theme)
    guesses = [
        _scaled(point.before.speedup if point.before else point.speedup, guess)
        for (_, point, _), (guess, _, _) in zip(both, spans, strict=True)
    ]
    low, high = layout.span([*guesses, *(own for _, own, _ in spans)] or [Interval(1.0, 1.0, 1.0)], 0.5)
    low, high = 0.93 * low, 1.05 * high
    below, above = ([low * edge, high * edge] for edge in (1 - BAND, 1 + BAND))
    axes.fill_between([low, high], below, above, color=theme.hair, alpha=0.3, linewidth=0)
    axes.plot([low, high], [low, high], color=theme.edge, linewidth=0.8)
    for (record, _, agreement), guess, (_, own, settled) in zip(both, guesses, spans, strict=True):
        look = shown[legend(record)]
        layout.cross(axes, guess, own, look.color, 0.5)
        layout.dots(axes, [(guess.value, own.value)], look.color, look.marker, 0.8 * look.size, theme, zorder=2)
        if settled is not None:
            layout.dots(
                axes, [(settled, own.value)], theme.quiet, "x", 3.5, theme, zorder=2.5, markeredgecolor=theme.quiet
            )
        if not agreement.inside:
            axes.text(1.01 * guess.value, own.value, "!", fontsize=9, color=look.ink, path_effects=halo(theme.paper))
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    layout.axis_names(axes, across, up, theme)


def _scaled(interval: Interval, value: float) -> Interval:
    """Return an interval of the same relative width around another value."""
    return Interval(value, value * interval.low / interval.value, value * interval.high / interval.value)
