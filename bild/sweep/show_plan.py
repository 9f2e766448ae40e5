"""Plans on the terminal: of a sweep, with its stages as planned and as they went; and of the exhibits of the paper.

What an exhibit takes is known before anything is loaded: time, disk and memory of a sweep, a run, a training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bild.config import Checkpoints, ShapeConfig
from bild.decoding import Setting
from bild.engines import DTYPES
from bild.models.pair_spec import checkpoints_of
from bild.models.shapes import config_named, module_bytes
from bild.progress import folded
from bild.report.format import DASH, plural
from bild.report.table import Column, Table, wide_console
from bild.results.prices import PRICES
from bild.results.work import Sizes
from bild.sweep.config import SweepConfig
from bild.sweep.context import results_folder
from bild.sweep.estimates import Span, Taken, in_all, lengths_of, probe
from bild.sweep.grid import BASELINE, GRID, PUBLISHED, SweptPoint
from bild.sweep.plan import Plan, SessionWidth

_STATE_BYTES = 1 << 30
"""The keys and values of a tree that grows on a CPU (`bild.models.shapes.default_budget`)."""
_SLACK = 3.0
"""A training takes so many times the least at most: updates, validations, and rows of unequal length."""
_WEIGHT, _TRAINED = 14, 16
"""Bytes a weight: on disk (weights, optimiser, the best so far, fp16), and on the device with its activations."""
STAGE_WORDS = {"tree": "the tree", "prices": "prices", "search": "the search", "live": "live"}


def show_plan(plan: Plan) -> None:
    """Print what a sweep would do, what is done already, and what the rest takes."""
    out = wide_console()
    for title, lines in (("What", _what(plan)), ("Done", _done(plan)), ("Takes", _takes(plan))):
        out.print(f"[bold]{title}[/bold]")
        for line in lines:
            shown = folded(line, out.width - 1, "  ", "    ") if out.is_terminal else f"  {line}"
            out.print(shown, markup=False, soft_wrap=True)


def _what(plan: Plan) -> Iterator[str]:
    config, sweep, goal = plan.config, plan.config.sweep, plan.config.goal
    origins = Counter(point.origin for point in plan.points)
    live = "every point"
    if goal is not None:
        most = plural(plan.measured - 1, "setting")
        live = f"up to {most} that {goal} chooses, and vanilla, on the examples that confirm"
    elif sweep.front >= 0:
        live = f"baselines, published settings and up to {sweep.front} of the front"
    yield f"{config.task.name} by {config.model.pair_name}, engine {config.engine.name} {config.engine.dtype}"
    titles = Counter(point.method.spec.title for point in plan.points if point.origin == GRID)
    grid = f" ({', '.join(f'{count:,} {title}' for title, count in titles.items())})" if len(titles) > 1 else ""
    yield (
        f"{len(plan.points):,} points: {origins[GRID]:,} of the grid{grid}, {plural(origins[BASELINE], 'baseline')}, "
        f"{origins[PUBLISHED]} published"
    )
    if bounds := sum(not point.live for point in plan.points):
        yield f"upper bounds among them (stop=oracle, predicted and never measured): {bounds:,}"
    yield f"{plan.examples:,} examples ({plan.examples_source}) in the tree, for quality and counts of every point"
    spent = f", or {sweep.minutes:g} minutes are spent" if math.isfinite(sweep.minutes) else ""
    yield f"live: {live}, on a sub-sample that grows until every speedup is known to ±{sweep.width:.0%}{spent}"
    yield _sessions(plan.sessions, sweep.width)
    claim = plan.claim
    needed = "more than ten million" if claim.examples is None else f"about {claim.examples:,}"
    yield (
        f"a claim of at most {claim.margin:g} lost takes {needed} examples where the method is as good as vanilla "
        f"(differences of {claim.sd:.1f} points per example: {claim.source})"
    )


def _sessions(sessions: SessionWidth, width: float) -> str:
    if sessions.count < 2:
        return "1 session: the machine's state is in no interval (measure.sessions=5 puts it there)"
    falls = ": more than sweep.width, which takes more sessions" if sessions.width > width else ""
    known = f"sessions differ by {sessions.between:.1%} ({sessions.source})"
    return f"{sessions.count} sessions a stage: {known}, so any number of examples leaves ±{sessions.width:.1%}{falls}"


def _done(plan: Plan) -> Iterator[str]:
    stored = plan.stored
    if not (stored.trees or stored.measured or stored.begun or stored.sweeps):
        yield f"nothing yet in {stored.folder}"
        return
    for tree in stored.trees:
        size = sum(file.stat().st_size for file in tree.iterdir() if file.is_file())
        yield f"tree {tree.name}: {amount(size)}{', with prices' if (tree / PRICES).is_file() else ''}"
    yield f"{stored.measured} measured points, {stored.begun} begun"
    for sweep in stored.sweeps:
        measured = sum(point.measured is not None for point in sweep.points)
        state = "finished" if sweep.finished else "begun"
        yield f"sweep {sweep.hash[:10]}: {state}, {len(sweep.points):,} points, {measured} measured"


def _takes(plan: Plan) -> Iterator[str]:
    if plan.text is None:
        yield f"hours: unknown, the sizes of {checkpoints_of(plan.config).large} are not known here; fetch it first"
    else:
        text, source = plan.text
        known = (
            f"by {plan.learned} stages of earlier sweeps here" if plan.learned else "guesses, before the first sweep"
        )
        yield f"one vanilla pass: {told(text.times(plan.examples))} ({told(text)} a text; from {source})"
        for stage, span in plan.stages.items():
            yield f"{STAGE_WORDS[stage]}: {told(span)}"
        every = text.times(plan.examples * len(plan.points))
        yield f"in all: {told(in_all(plan.stages))} ({known}); every point decoded live: {told(every)}"
        if plan.claim.examples is not None and plan.examples:
            tree = plan.stages["tree"].times(plan.claim.examples / plan.examples)
            yield f"the tree of a claim's {plan.claim.examples:,} examples: {told(tree)}"
        yield (
            f"texts of {plan.lengths.source} source and {plan.lengths.target} output tokens on average "
            f"({plan.lengths_source})"
        )
    samples = f"up to {amount(plan.samples_bytes)} for measured examples"
    yield f"disk: about {amount(plan.tree_bytes)} for the tree, {samples}"
    if plan.needs:
        (dtype, need), *others = plan.needs.items()
        rest = ", ".join(f"{each.total / 1e9:.1f} GB in {name}" for name, each in others)
        trees = f"up to {amount(_STATE_BYTES)}, on a GPU 0.4 of what is left,"
        yield f"memory: on the device in {dtype} {need.told()}; {trees} for the tree ({rest})"


def told(span: Span) -> str:
    """Write a span of time for people."""
    low, high = _duration(span.low), _duration(span.high)
    return low if low == high else f"{low} to {high}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            value = seconds / size
            return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds * 1e3:.0f} ms"


def amount(size: float) -> str:
    """Write bytes for people."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size:.0f} B"


def planned_and_taken(planned: Mapping[str, Span], taken: Sequence[Taken]) -> list[str]:
    """Say stage by stage what was planned and what it took; a stage that was done before is left out."""
    lines = []
    for each in taken:
        span = planned.get(each.stage)
        words = "" if span is None else f", planned {told(span)}{'' if span.low <= each.seconds <= span.high else ' !'}"
        lines.append(f"{STAGE_WORDS[each.stage]} {_duration(each.seconds)}{words}")
    return [f"Took: {'; '.join(lines)}. The next plan here goes by it."] if lines else []


@dataclass(frozen=True)
class TreeCost:
    """The part of a sweep's cost that its tree takes; sweeps of one `key` share the tree."""

    key: str
    seconds: Span
    disk: float


@dataclass(frozen=True)
class Cost:
    """Seconds, and bytes on disk and on the device (None where they are not known), and what is done already."""

    seconds: Span | None
    disk: float
    memory: float | None
    done: str = "to do"
    tree: TreeCost | None = None
    shares: str | None = None
    """The exhibit with whose tree this one is made, and which its tree is counted in."""

    @property
    def most(self) -> float:
        """Return the most seconds, for sorting: what is not known comes last."""
        return float("inf") if self.seconds is None else self.seconds.high


def sweep_cost(config: SweepConfig, points: Sequence[SweptPoint], shapes: Mapping[str, ShapeConfig]) -> Cost:
    """Return the cost of what is left of a sweep, by its plan."""
    plan = Plan.of(config, points, shapes)
    need = plan.needs.get(config.engine.dtype)
    memory, left = None if need is None else need.total, plan.ungrown
    if plan.finished:
        return Cost(Span.of(0.0), 0.0, memory, "done")
    stages = {name: span.times(left if name == "tree" else 1.0) for name, span in plan.stages.items()}
    key = f"{results_folder(config)} {config.task} {config.engine} {config.decode}"
    tree = TreeCost(key, stages.get("tree", Span.of(0.0)), left * plan.tree_bytes)
    seconds = in_all(stages) if stages else None
    state = "its tree" if left == 0.0 and not plan.stored.measured else _so_far(plan)
    return Cost(seconds, tree.disk + plan.samples_bytes, memory, state, tree)


def _so_far(plan: Plan) -> str:
    """Say what is measured of a pair: that of other exhibits counts, too."""
    return f"{plan.stored.measured} points of its pair" if plan.stored.measured else "to do"


def shared_trees(costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """Return the costs with a tree that several share counted once, for the cheapest of them."""
    owners, found = dict[str, str](), dict[str, Cost]()
    for name in sorted(costs, key=lambda name: costs[name].most):
        cost, tree = costs[name], costs[name].tree
        found[name] = cost
        if tree is not None and owners.setdefault(tree.key, name) != name:
            rest = cost.seconds and cost.seconds.plus(tree.seconds.times(-1))
            found[name] = replace(cost, seconds=rest, disk=cost.disk - tree.disk, shares=owners[tree.key])
    return found


def run_cost(config: SweepConfig, settings: Sequence[Setting], shapes: Mapping[str, ShapeConfig]) -> Cost:
    """Return the cost of measuring some points on all examples, without a tree; vanilla decodes beside them."""
    plan = Plan.of(config, [SweptPoint(*each, GRID) for each in settings], shapes)
    left = len(plan.left)
    need, texts = plan.needs.get(config.engine.dtype), plan.examples * (left + 1) if left else 0
    seconds, memory = plan.text and plan.text[0].times(texts), None if need is None else need.total
    return Cost(seconds, plan.samples_bytes * left / len(settings), memory, _so_far(plan) if left else "done")


def training_cost(
    config: SweepConfig, start: Checkpoints, examples: int | None, shapes: Mapping[str, ShapeConfig], done: bool
) -> Cost:
    """Return the cost of a training on so many examples (repeated ones count): three forward passes for each."""
    large, state = config_named(start.large, "large", shapes), "done" if done else "to do"
    if large is None or examples is None:
        return Cost(None, 0.0, None, state)
    sizes, weights = Sizes.of(large, large.vocab_size), module_bytes(large, DTYPES["fp32"]) // 4
    (lengths, _), kinds = lengths_of(config), {"weights": "fp32", "states": "fp32"}
    one = sizes.encoding(lengths.source, **kinds).flops + sizes.work(lengths.target, lengths.source, 0, **kinds).flops
    least = 3 * one * examples / probe(config, sizes)[1] / 1e9
    seconds = Span.of(0.0) if done else Span(least, _SLACK * least)
    return Cost(seconds, 0.0 if done else _WEIGHT * weights, _TRAINED * weights, state)


def cost_table(
    costs: Mapping[str, Cost], about: Mapping[str, str], after: Mapping[str, Sequence[str]]
) -> tuple[Table, list[str]]:
    """Return a table of what each exhibit takes, in the order given, and notes, of which the last one is of all."""
    order, costs = list(costs), shared_trees(costs)
    columns = (
        Column("exhibit", "exhibit", of=lambda name: name),
        Column("shows", "shows", of=lambda name: about[name]),
        Column("time", "seconds", told, of=lambda name: costs[name].seconds),
        Column("disk", "disk", amount, rank=1, of=lambda name: costs[name].disk),
        Column("memory", "memory", amount, rank=1, of=lambda name: costs[name].memory),
        Column("so far", "done", rank=2, of=lambda name: costs[name].done),
        Column("builds on", "after", rank=3, of=lambda name: ", ".join(after[name]) or costs[name].shares),
    )
    table = Table.of("plan", "What the paper takes here, in the order in which it is made", columns, order, names=2)
    spans = {name: cost.seconds for name, cost in costs.items() if cost.seconds is not None}
    disk = sum(cost.disk for cost in costs.values())
    unknown = f" and what is unknown ({DASH})" if len(spans) < len(costs) else ""
    return table, [
        "only=EXHIBIT,EXHIBIT makes some of them, and the trainings that these build on.",
        "Times go from the least that this machine could take to a cautious guess. A tree that several use is grown "
        "once and counts in the cheapest, on which the others build. Memory is that of the device.",
        f"In all: {told(in_all(spans))}{unknown}, disk {amount(disk)} beside checkpoints and data",
    ]
