"""A sweep on the terminal: predicted and measured side by side, where the files are, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from bild.metrics.bootstrap import longer_side
from bild.report.table import wide_console
from bild.results.parts import Interval
from bild.results.predicted import Predicted, PredictedPoint
from bild.sweep.search import Answer, Found

if TYPE_CHECKING:
    from rich.console import Console

    from bild.sweep.drive import Swept
    from bild.sweep.plan import Plan


def show_plan(plan: Plan) -> None:
    """What is done, what is to do, and what it takes."""
    out = wide_console()
    for title, lines in plan.sections():
        out.print(Text(title, style="bold"))
        for line in lines:
            out.print(f"  {line}", markup=False, soft_wrap=True)


def show_swept(swept: Swept) -> None:
    """The points that were measured and the predicted front, then words."""
    predicted = swept.predicted
    out = wide_console()
    out.print(front_table(predicted))
    for line in footer(swept):
        out.print(line, markup=False, soft_wrap=True)


def front_table(predicted: Predicted) -> Table:
    """Measured points and the predicted front, from slow to fast."""
    title = f"{predicted.task}, {predicted.pair}, {predicted.engine.name} {predicted.engine.dtype}"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown.add_column("", width=1)
    shown.add_column("method", overflow="fold")  # the only one that gives way: no figure is cut
    for heading in (predicted.metric.name, "Δ to vanilla", "predicted", "measured", "examples"):
        shown.add_column(heading, justify="right", no_wrap=True)
    rows = [point for point in predicted.points if point.front or point.chosen]
    for point in sorted(rows, key=lambda p: p.speedup.value):
        shown.add_row(*_row(point))
    return shown


def _row(point: PredictedPoint) -> tuple[Text, ...]:
    mark = "*" if point.front else " "
    difference = "" if point.difference is None else f"{point.difference.value:+.2f}"
    agreement = point.agreement
    off = agreement is not None and not agreement.inside
    live = agreement.measured if agreement is not None else Interval(1.0, 1.0, 1.0)
    known = agreement is not None or (point.measured is not None and point.method.name == "vanilla")
    measured = (
        f"{live.value:.2f}x ±{longer_side(live.value, live.low, live.high):.2f}{' !' if off else ''}" if known else "-"
    )
    speedup = point.speedup
    count = "" if agreement is None else str(agreement.examples)
    return (
        Text(mark),
        Text(point.label),
        Text(f"{point.quality.score:.2f}"),
        Text(difference),
        # Predicted figures are never written as measured ones are.
        Text(f"~{speedup.value:.2f}x ±{longer_side(speedup.value, speedup.low, speedup.high):.2f}", style="dim italic"),
        Text(measured, style="bold" if known and point.dropped is None else "dim"),
        Text(count + (" given up" if point.dropped else "")),
    )


def footer(swept: Swept) -> list[str]:
    """What a reader must know, where the files are, and what to type next."""
    predicted = swept.predicted
    lines = [
        f"* on the predicted front of {len(predicted.points)} points. {predicted.metric.name} and its difference are "
        f"exact, over {predicted.examples} examples.",
        f"~ predicted speedup over vanilla, ± sampling and {predicted.prices.speedup:.0%} error of the prices "
        f"({_told(predicted)}); measured: live at batch 1 beside vanilla, on {swept.examples} examples.",
    ]
    off = [point for point in predicted.points if point.agreement is not None and not point.agreement.inside]
    for point in off:
        a = point.agreement
        assert a is not None
        lines.append(
            f"! {point.label}: predicted {a.predicted:.2f}x, measured {a.measured.value:.2f}x "
            f"({a.measured.low:.2f} to {a.measured.high:.2f}) on the same examples: trust the measurement."
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


def _told(predicted: Predicted) -> str:
    if predicted.prices.points:
        return f"from {predicted.prices.points} measured points"
    return "from calibration texts"


def show_answer(answer: Answer, metric: str) -> None:
    """What a search found, chosen and reported apart, and as the paper does it."""
    out = wide_console()
    first, second = answer.halves
    out.print(Text(f"{answer.goal}: {answer.tried} settings replayed", style="bold"))
    if answer.goal.bound is not None:
        if answer.split is None:
            out.print("  No setting keeps to that.")
        else:
            _say(out, f"chosen on {first} examples, reported on {second} others", answer.split, metric)
        if answer.same is not None:
            _say(out, f"chosen and reported on all {first + second}, as the paper does", answer.same, metric)
        return
    out.print(front_of(answer.front, metric, first, second))


def _say(out: Console, how: str, found: Found, metric: str) -> None:
    own, told = found.chosen_on, found.reported_on
    out.print(f"  {how}: {setting_words(found)}", markup=False, soft_wrap=True)
    out.print(
        f"    reported {metric} {told.score:.2f} ({told.difference:+.2f}), ~{told.speedup:.2f}x"
        + (
            "" if own == told else f"; where it was chosen {own.score:.2f} ({own.difference:+.2f}), ~{own.speedup:.2f}x"
        ),
        markup=False,
        soft_wrap=True,
    )


def setting_words(found: Found) -> str:
    """A setting as options that can be typed."""
    method, threshold = found.point.method, found.point.threshold
    return (
        f"threshold.fb={threshold.fb:g} threshold.rb={threshold.rb:g} method.rules={method.rules} "
        f"method.max_draft={method.max_draft}" + (" method.first=small" if method.first == "small" else "")
    )


def front_of(found: Sequence[Found], metric: str, first: int, second: int) -> Table:
    """The front over continuous thresholds."""
    title = f"chosen on {first} examples, reported on {second} others; predicted"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("fb", "rb", "rules", "first", "max draft", metric, "Δ to vanilla", "speedup", "where chosen"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        method, threshold, told, own = one.point.method, one.point.threshold, one.reported_on, one.chosen_on
        shown.add_row(
            f"{threshold.fb:g}",
            f"{threshold.rb:g}",
            method.rules,
            method.first or "large",
            str(method.max_draft),
            f"{told.score:.2f}",
            f"{told.difference:+.2f}",
            f"~{told.speedup:.2f}x",
            f"{own.difference:+.2f}, ~{own.speedup:.2f}x",
        )
    return shown
