"""A sweep on the terminal: its plan, predicted and measured figures side by side, and what a search found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bild.decoding.names import differing
from bild.measure.session import command_of
from bild.metrics.bootstrap import longer_side
from bild.report.format import switches
from bild.report.table import Table, show_tables, wide_console
from bild.results.parts import Interval
from bild.results.predicted import PREDICTED, Predicted, PredictedPoint
from bild.sweep.config import SweepConfig
from bild.sweep.grid import BASELINE, GRID, PUBLISHED
from bild.sweep.plan import TREE_PASSES, Plan, Span

if TYPE_CHECKING:
    from bild.sweep.drive import Swept
    from bild.sweep.search import Answer, Found


def show_plan(plan: Plan) -> None:
    """Print what a sweep would do, what is done already, and what the rest takes."""
    out = wide_console()
    for title, lines in (("What", _what(plan)), ("Done", _done(plan)), ("Takes", _takes(plan))):
        out.print(f"[bold]{title}[/bold]")
        for line in lines:
            out.print(f"  {line}", markup=False, soft_wrap=True)


def _what(plan: Plan) -> Iterator[str]:
    config, sweep = plan.config, plan.config.sweep
    origins = Counter(point.origin for point in plan.points)
    live = "every point"
    if sweep.front >= 0:
        live = f"baselines, published settings and up to {sweep.front} of the front"
    yield f"{config.task.name} by {config.model.pair_name}, engine {config.engine.name} {config.engine.dtype}"
    titles = Counter(point.method.spec.title for point in plan.points if point.origin == GRID)
    grid = f" ({', '.join(f'{count:,} {title}' for title, count in titles.items())})" if len(titles) > 1 else ""
    yield (
        f"{len(plan.points):,} points: {origins[GRID]:,} of the grid{grid}, {origins[BASELINE]} baselines, "
        f"{origins[PUBLISHED]} published"
    )
    if bounds := sum(not point.live for point in plan.points):
        yield f"upper bounds among them (stop=oracle, predicted and never measured): {bounds:,}"
    yield f"{plan.examples:,} examples ({plan.examples_source}) in the tree, for quality and counts of every point"
    yield (
        f"live: {live}, on a sub-sample that grows until every speedup is known to ±{sweep.width:.0%}, "
        f"or {sweep.minutes:g} minutes are spent"
    )


def _done(plan: Plan) -> Iterator[str]:
    stored = plan.stored
    if not (stored.trees or stored.measured or stored.begun or stored.sweeps):
        yield f"nothing yet in {stored.folder}"
        return
    for tree in stored.trees:
        yield f"tree {tree.name}: {_amount(tree.bytes)}{', with prices' if tree.priced else ''}"
    yield f"{stored.measured} measured points, {stored.begun} begun"
    for sweep in stored.sweeps:
        measured = sum(point.measured is not None for point in sweep.points)
        state = "finished" if sweep.finished else "begun"
        yield f"sweep {sweep.hash[:10]}: {state}, {len(sweep.points):,} points, {measured} measured"


def _takes(plan: Plan) -> Iterator[str]:
    stages = plan.stages
    if stages is None:
        yield f"hours: unknown, the sizes of {plan.large} are not known here; fetch it first"
    else:
        least, most = TREE_PASSES
        yield f"one vanilla pass: {_time(stages.vanilla)} ({_time(stages.text)} a text; from {stages.source})"
        passes = f"{least:g} to {most:g} vanilla passes, by the grid and how well batches pay"
        yield f"the tree: {_time(stages.tree)} ({passes})"
        yield f"live: {_time(stages.live)}, {plan.measured} points"
        yield f"in all: {_time(stages.total)}; every point decoded live: {_time(stages.every)}"
        yield (
            f"texts of {plan.lengths.source} source and {plan.lengths.target} output tokens on average "
            f"({plan.lengths_source})"
        )
    samples = f"up to {_amount(plan.samples_bytes)} for measured examples"
    yield f"disk: about {_amount(plan.tree_bytes)} for the tree, {samples}"
    if plan.weights_bytes is not None:
        yield (
            f"memory: {_amount(plan.weights_bytes)} of weights (loaded, and laid out), "
            f"up to {_amount(plan.batch_bytes)} for a batch"
        )


def _time(span: Span) -> str:
    low, high = _duration(span.low), _duration(span.high)
    return low if low == high else f"{low} to {high}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds * 1e3:.0f} ms"


def _amount(size: float) -> str:
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size:.0f} B"


def show_swept(swept: Swept) -> None:
    """Print the points that were measured and the predicted front, then words."""
    show_tables([front_table(swept.predicted)], footer(swept))


def front_table(predicted: Predicted) -> Table:
    """Return measured points and the predicted front, from slow to fast."""
    title = f"{predicted.task}, {predicted.pair}, {predicted.engine.name} {predicted.engine.dtype}"
    headings = ("", "method", "switches", predicted.metric.name, "Δ to vanilla", "predicted", "measured", "examples")
    points = [point for point in predicted.points if point.front or point.chosen]
    rows = tuple(map(_row, sorted(points, key=lambda point: point.speedup.value)))
    # Predicted figures are never written as measured ones are.
    return Table("sweep", title, headings, rows, names=3, styles=("", "", "", "", "", "dim italic", "bold"))


def _row(point: PredictedPoint) -> tuple[str, ...]:
    agreement = point.agreement
    measured, examples = "-", ""
    if agreement is not None:
        measured = f"{_speedup(agreement.measured)}{'' if agreement.inside else ' !'}"
        examples = str(agreement.examples)
    elif point.measured is not None and point.method.name == "vanilla":
        measured = _speedup(Interval(1.0, 1.0, 1.0))
    return (
        "*" if point.front else " ",
        point.label,
        switches(point),
        f"{point.quality.score:.2f}",
        "" if point.difference is None else f"{point.difference.value:+.2f}",
        f"~{_speedup(point.speedup)}",
        measured,
        f"{examples} given up" if point.dropped else examples,
    )


def _speedup(speedup: Interval) -> str:
    return f"{speedup.value:.2f}x ±{longer_side(speedup.value, speedup.low, speedup.high):.2f}"


def footer(swept: Swept) -> list[str]:
    """Say what a reader must know, where the files are, and what to type next."""
    predicted = swept.predicted
    points = predicted.prices.points
    error = f"from {points} measured points" if points else "from calibration texts"
    lines = [
        f"* on the predicted front of {len(predicted.points)} points. {predicted.metric.name} and its difference are "
        f"exact, over {predicted.examples} examples.",
        f"~ predicted speedup over vanilla, ± sampling and {predicted.prices.speedup:.0%} error of the prices "
        f"({error}); measured: live at batch 1 beside vanilla, on {swept.examples} examples.",
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
            f"{predicted.metric.name} {best.quality.score:.2f} ({best.label}); no live run reaches them."
        )
    lines += [f"Given up: {p.label}: {p.dropped}." for p in predicted.points if p.dropped]
    if predicted.marked:
        lines.append(
            f"On {len(predicted.marked)} of {predicted.examples} examples some point has a decision within rounding: a "
            "live run may part from the tree there."
        )
    lines += [
        f"In {swept.folder}; the points beside it; the tree in {swept.tree}",
        f"Next: python -m bild.report {swept.folder.parent.parent} --out report/{predicted.task}",
        f'      bild.open_tree("{swept.tree}").replay(fb=0.47, rb=2.6)',
    ]
    return lines


def show_answer(answer: Answer, config: SweepConfig) -> None:
    """Print what a search found, chosen and reported apart, and as the paper does it; the command that runs it, too."""
    first, second = answer.halves
    title = f"{answer.goal}: {answer.tried} settings replayed"
    if answer.goal.wanted == "front":
        told = f"{title}; chosen on {first} examples, reported on {second} others; predicted"
        commands = [f"{found.point.label}: {run_command(found, config)}" for found in answer.front]
        show_tables([_front(answer, told)], commands)
    elif answer.split is None:
        show_tables([], [title, "  No setting keeps to that."])
    else:
        lines = _found(f"chosen on {first} examples, reported on {second} others", answer.split, answer.metric, config)
        if answer.same is not None:
            how = f"chosen and reported on all {first + second}, as the paper does"
            lines += _found(how, answer.same, answer.metric, config)
        show_tables([], [title, *lines])


def _found(how: str, found: Found, metric: str, config: SweepConfig) -> list[str]:
    own, reported = found.chosen_on, found.reported_on
    where_chosen = f"; where it was chosen {own.score:.2f} ({own.difference:+.2f}), ~{own.speedup:.2f}x"
    return [
        f"  {how}: {_name(found)}",
        f"    reported {metric} {reported.score:.2f} ({reported.difference:+.2f}), ~{reported.speedup:.2f}x"
        + ("" if own == reported else where_chosen),
        f"    {run_command(found, config)}",
    ]


def run_command(found: Found, config: SweepConfig) -> str:
    """Return the command that measures a found setting, with all its switches."""
    return command_of(config, *found.point.recorded(), config.task.samples)


def _name(found: Found) -> str:
    """Return the label of a setting, and the switches that are not its preset's."""
    other = differing(*found.point.setting)
    return ", ".join([found.point.label, *(f"{name}={value}" for name, value in sorted(other.items()))])


def _front(answer: Answer, title: str) -> Table:
    headings = ("setting", answer.metric, "Δ to vanilla", "speedup", "where chosen")
    rows = tuple(
        (
            _name(found),
            f"{found.reported_on.score:.2f}",
            f"{found.reported_on.difference:+.2f}",
            f"~{found.reported_on.speedup:.2f}x",
            f"{found.chosen_on.difference:+.2f}, ~{found.chosen_on.speedup:.2f}x",
        )
        for found in answer.front
    )
    return Table("front", title, headings, rows)
