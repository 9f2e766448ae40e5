"""A sweep on the terminal: predicted and measured figures side by side, and what a search found and confirmed."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bild.config import METHODS
from bild.measure.session import command_of
from bild.metrics.claims import verdict
from bild.metrics.speedup import width_of
from bild.report.figures.methods import methods_table
from bild.report.format import half, own_switches, setting_of, switches, switches_words
from bild.report.sections import make_section
from bild.report.table import Column, Table, show_tables
from bild.results.interval import Interval
from bild.results.predicted import PREDICTED, Judgement, Predicted, PredictedPoint
from bild.sweep.grid import once

if TYPE_CHECKING:
    from bild.results import Record
    from bild.sweep.drive import Swept
    from bild.sweep.find import Confirmation, Outcome
    from bild.sweep.grid import SweptPoint
    from bild.sweep.measure_front import Reached
    from bild.sweep.search import Found


def show_swept(swept: Swept, margin: float, more: Sequence[str] = ()) -> None:
    """Print the points that were measured and the predicted front, then words."""
    show_tables([front_table(swept.predicted, margin)], [*footer(swept, margin), *more])


def front_table(predicted: Predicted, margin: float) -> Table:
    """Return measured points and the predicted front, from slow to fast, each with its verdict at a margin."""

    def within(point: PredictedPoint) -> str:
        found, judged = point.difference, point.method.name != "vanilla"
        return verdict(found, margin, predicted.examples).kind if found is not None and judged else ""

    def timed(point: PredictedPoint) -> str:
        count = "" if point.agreement is None else str(point.agreement.examples)
        return f"{count} given up" if point.dropped else count

    # Predicted figures are never written as measured ones are.
    columns = (
        Column("", "front", of=lambda p: "*" if p.front else " "),
        Column("method", "label", of=lambda p: p.label),
        Column("switches", "switches", rank=5, of=switches),
        Column(
            f"{predicted.metric.name}\nn={predicted.examples:,}",
            "quality",
            rank=3,
            of=lambda p: f"{p.quality.score:.2f}",
        ),
        Column(
            "Δ to\nvanilla", "difference", of=lambda p: "" if p.difference is None else f"{p.difference.value:+.2f}"
        ),
        Column(f"within\n{margin:g}", "within", rank=2, of=within),
        Column("predicted", "predicted", rank=1, style="dim italic", of=lambda p: f"~{_speedup(p.speedup)}"),
        Column("measured", "measured", style="bold", of=_told_measured),
        Column("timed", "timed", rank=4, of=timed),
    )
    title = f"{predicted.task}, {predicted.pair}, {predicted.engine.name} {predicted.engine.dtype}"
    points = [point for point in predicted.points if point.front or point.chosen]
    return Table.of("sweep", title, columns, sorted(points, key=lambda point: point.speedup.value), names=3)


def _told_measured(point: PredictedPoint) -> str:
    found = point.agreement
    if found is not None:
        return f"{_speedup(found.measured)}{'' if found.inside else ' !'}"
    itself = point.measured is not None and point.method.name == "vanilla"
    return _speedup(Interval(1.0, 1.0, 1.0)) if itself else "-"


def _speedup(speedup: Interval) -> str:
    wide = half(speedup) > speedup.value / 2  # far from symmetrical: the longer side says too little
    return f"{speedup.value:.2f}x " + (f"[{speedup.low:.2f}, {speedup.high:.2f}]" if wide else f"±{half(speedup):.2f}")


def footer(swept: Swept, margin: float) -> list[str]:
    """Say what a reader must know, where the files are, and what to type next."""
    predicted = swept.predicted
    metric, examples = predicted.metric.name, predicted.examples
    lines = [
        f"* on the predicted front of {len(predicted.points)} points. {metric} and its difference are exact, over "
        f"{examples:,} examples; each verdict is for a point named beforehand: confirm one picked from this table on "
        f"other examples (sweep.find=speedup sweep.margin={margin:g}).",
        f"~ predicted speedup over vanilla, by prices settled beside the measurement, ± sampling and "
        f"{predicted.prices.speedup:.0%} error; measured: live at batch 1 beside vanilla, on {swept.examples} of them.",
        *_judged(predicted),
        *(() if swept.reached is None else [_reached(swept.reached)]),
    ]
    for point in predicted.points:
        if (a := point.agreement) is not None and not a.inside:
            lines.append(
                f"! {point.label}: predicted {a.predicted:.2f}x, measured {a.measured.value:.2f}x "
                f"({a.measured.low:.2f} to {a.measured.high:.2f}) on the same examples: trust the measurement."
            )
    bounds = [p for p in predicted.points if p.method.stop == "oracle"]
    if bounds:
        best = max(bounds, key=lambda p: p.speedup.value)
        lines.append(
            f"Upper bounds (stop=oracle; in {PREDICTED} alone): {len(bounds)}, up to ~{best.speedup.value:.2f}x at "
            f"{metric} {best.quality.score:.2f} ({best.label}); no live run reaches them."
        )
    lines += [f"Given up: {p.label}: {p.dropped}." for p in predicted.points if p.dropped]
    if predicted.marked:
        lines.append(
            f"On {len(predicted.marked)} of {examples} examples some point has a decision within rounding: those of "
            f"measured points were decoded live, but for {swept.open_texts} texts; the others are as replayed."
        )
    lines += [
        f"In {swept.folder}; the points beside it; the tree in {swept.tree}",
        f"Next: {shlex.join(['bild', 'report', str(swept.folder.parent.parent), '--out', f'report/{predicted.task}'])}",
        f"      bild.open_tree({str(swept.tree)!r}).replay({replay_options(predicted)})",
    ]
    return lines


def replay_options(predicted: Predicted) -> str:
    """Write the fastest setting of the predicted front that is in the tree, as `Tree.replay` takes it."""
    known = [point for point in predicted.points if point.front and setting_of(point) and point.method.name != "small"]
    best = max(known or predicted.points, key=lambda point: point.speedup.value)
    given = {name: value for name, value in asdict(best.threshold).items() if value is not None}
    options = {"method": best.method.name} | given | own_switches(best)
    written = {name: 'float("inf")' if value == math.inf else repr(value) for name, value in options.items()}
    return ", ".join(f"{name}={value}" for name, value in written.items())


def _reached(reached: Reached) -> str:
    """Say how well the speedups are known, and whether examples or sessions would make them known better."""
    known = f"Speedups are {f'known to ±{reached.width:.1%}' if reached.width < 1 else 'hardly known'}"
    if reached.between is None:
        return f"{known} within 1 session; what sessions differ by is not in that (measure.sessions=5)."
    if not reached.between:
        return f"{known}, over {reached.sessions} sessions, which differ by no more than their examples do."
    left = width_of(reached.sessions, reached.between)
    differ = f"{reached.sessions} sessions that differ by {reached.between:.1%}"
    return f"{known}, over {differ}: any number of examples leaves ±{left:.1%}."


def _judged(predicted: Predicted) -> Iterator[str]:
    before, settled = predicted.judgement(), predicted.judgement(settled=True)
    if before is not None and predicted.before is not None:
        after = "" if settled is None else f"; settled {_off(settled)}"
        yield (
            f"Predicted before the measurement: speedups {_off(before)}; stated error "
            f"{predicted.before.speedup:.0%}{after}. {len([p for p in predicted.points if p.agreement])} points."
        )


def _off(judged: Judgement) -> str:
    """Tell what all predictions share from how they scatter."""
    way = "too high" if judged.bias > 0 else "too low"
    return f"{abs(judged.bias):.1%} {way} on average, with a scatter of {judged.scatter:.1%}"


def show_outcome(outcome: Outcome) -> None:
    """Print what a search found where it was chosen and where it was confirmed, and the commands that run it."""
    answer = outcome.answer
    title = f"{answer.goal}: {answer.tried:,} settings replayed on {answer.examples:,} examples of {outcome.split}"
    if not answer.chosen:
        show_tables([], [title, "  No setting keeps to that.", *_by_point(outcome)])
        return
    lines, many = [title], answer.goal.wanted in ("front", "methods")
    if not many:
        (found,) = answer.chosen
        lines.append(f"  chosen there: {_name(found.point)}: {_estimate(outcome, found)}")
    if answer.optimism is not None:
        seen = answer.optimism
        broken = "" if answer.goal.wanted == "quality" else f", below the margin in {seen.broken:.0%} of them"
        lines.append(
            f"  its optimism: chosen so on {seen.halvings} random halves, {seen.difference:+.2f} there and "
            f"{seen.elsewhere:+.2f} on the other halves{broken}"
        )
    lines += _by_point(outcome)
    tables = [_chosen(outcome)] if many else []
    if outcome.confirmation is not None:
        if answer.goal.wanted == "methods":
            tables += _methods(outcome.confirmation)
        lines += _confirmed(outcome, outcome.confirmation)
    else:
        lines += [f"  {run_command(outcome, found.point)}" for found in answer.chosen]
    show_tables(tables, lines)


def _estimate(outcome: Outcome, found: Found) -> str:
    own, metric = found.estimate, outcome.answer.metric
    gain = own.difference
    return f"{metric} {own.score:.2f} ({gain.value:+.2f}, lower end {gain.lower:+.2f}), ~{own.speedup:.2f}x"


def _by_point(outcome: Outcome) -> list[str]:
    found = outcome.answer.by_point
    if found is None:
        return []
    told = f"{_name(found.point)}: {_estimate(outcome, found)}"
    return [f"  by point estimate on the same examples, as the paper chose: {told}"]


def _confirmed(outcome: Outcome, confirmation: Confirmation) -> Iterator[str]:
    if outcome.answer.goal.wanted == "methods":  # the table tells the rest
        for point in once([each.found.point for each in confirmation.points]):
            yield f"  {_name(point)}: {run_command(outcome, point)}"
    for each in confirmation.points if outcome.answer.goal.wanted != "methods" else ():
        measured = _measured(each.measured.record)
        yield f"  on {confirmation.split}, where it was not chosen: {_name(each.found.point)}: {measured}"
        yield f"    {each.verdict}{'' if len(confirmation.points) == 1 else f' ({each.verdict.rule})'}"
        yield f"    {run_command(outcome, each.found.point)}"
    yield from (f"  not measured: {words}" for words in confirmation.failed)
    number = len(confirmation.earlier) + 1
    if number == 1:
        yield f"  The first confirmation of this pair on {confirmation.split}."
    else:
        before = "; ".join(f"{', '.join(look.labels)} on {look.created[:10]}" for look in confirmation.earlier)
        yield (
            f"  Confirmation {number} of this pair on {confirmation.split} (before: {before}): each further look makes "
            "it likelier that one is shown by luck; only the first keeps to its 95 %."
        )


def _measured(record: Record) -> str:
    difference, latency = record.headline_difference, record.latency
    gain = "" if difference is None else f" ({difference.value:+.2f}, lower end {difference.lower:+.2f})"
    sessions = f"{record.sessions} session{'s' * (record.sessions != 1)}"
    slower = ""
    if latency.library is not None and latency.library.speedup.value < 1:
        slower = f", slower than the library's generate() ({latency.library.speedup.value:.2f}x)"
    return (
        f"{record.quality.headline} {record.headline.value:.2f}{gain} on {record.quality.examples:,} examples, "
        f"{_speedup(record.speedup)} on {latency.examples} timed in {sessions}{slower}"
    )


def run_command(outcome: Outcome, point: SweptPoint) -> str:
    """Return the command that measures a setting, with all its switches."""
    return command_of(outcome.config, *point.recorded(), outcome.config.task.samples, here=True)


def _name(point: SweptPoint) -> str:
    """Return the label of a setting, and the switches that are not its preset's."""
    return ", ".join(filter(None, [point.label, switches_words(*point.setting)]))


def _methods(confirmation: Confirmation) -> Iterator[Table]:
    points = {each.measured.record.hash: each.measured for each in confirmation.points}
    if points:
        records = [point.record for point in points.values()]
        section = make_section(records, {name: point.path for name, point in points.items()})
        if (table := methods_table(section)) is not None:
            yield table


def _chosen(outcome: Outcome) -> Table:
    """Return the settings that were chosen, as they were predicted there: a front, or the methods by margins."""
    answer = outcome.answer
    methods = answer.goal.wanted == "methods"
    quality = (answer.metric, "Δ to\nvanilla", "lower\nend", "speedup")
    headings = ("setting", "switches", *quality, *(("within",) if methods else ()))
    rows = tuple(
        (
            found.point.label,
            switches_words(*found.point.setting),
            f"{found.estimate.score:.2f}",
            f"{found.estimate.difference.value:+.2f}",
            f"{found.estimate.difference.lower:+.2f}",
            f"~{found.estimate.speedup:.2f}x",
            *((f"{found.bound:g}",) if methods else ()),
        )
        for found in answer.chosen
    )
    rows += tuple((METHODS[name].title, "", *("–" * 4), f"{margin:g}") for name, margin in answer.none)
    title = f"{'The fastest of each method' if methods else 'The front'} on {outcome.split}, predicted"
    ranks = (0, 2, 1, 0, 0, 0, 0)[: len(headings)]
    return Table("chosen", title, headings, rows, names=2, ranks=ranks)
