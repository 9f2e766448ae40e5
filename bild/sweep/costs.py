"""What an exhibit of the paper takes before anything is loaded: time, disk and memory of a sweep, a run, a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bild.config import Checkpoints, MethodConfig, ShapeConfig, ThresholdConfig
from bild.sweep.config import SweepConfig
from bild.sweep.context import results_folder
from bild.sweep.grid import GRID, SweptPoint
from bild.sweep.plan import make_plan
from bild.sweep.show_plan import amount, told
from bild.sweep.sizes import lengths_of, model_sizes, probe
from bild.sweep.stages import Span, in_all

_SLACK = 3.0
"""A training takes so many times the least at most: updates, validations, and rows of unequal length."""
_WEIGHT, _TRAINED = 14, 16
"""Bytes a weight: on disk (weights, optimiser, the best so far, fp16), and on the device with its activations."""


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

    @property
    def most(self) -> float:
        """Return the most seconds, for sorting: what is not known comes last."""
        return float("inf") if self.seconds is None else self.seconds.high


def sweep_cost(config: SweepConfig, points: Sequence[SweptPoint], shapes: Mapping[str, ShapeConfig]) -> Cost:
    """Return the cost of a sweep, by its plan."""
    plan = make_plan(config, points, shapes)
    need, stored = plan.needs.get(config.engine.dtype), plan.stored
    done = f"{stored.measured} points of this pair are measured" if stored.measured else "to do"
    seconds = in_all(plan.stages) if plan.stages else None
    key = f"{results_folder(config)} {config.task} {config.engine} {config.decode}"
    tree = TreeCost(key, plan.stages.get("tree", Span.of(0.0)), plan.tree_bytes)
    return Cost(seconds, plan.tree_bytes + plan.samples_bytes, None if need is None else need.total, done, tree)


def shared_trees(costs: Mapping[str, Cost]) -> dict[str, Cost]:
    """Return the costs with a tree that several share counted once, for the cheapest of them."""
    owners, found = dict[str, str](), dict[str, Cost]()
    for name in sorted(costs, key=lambda name: costs[name].most):
        cost, tree = costs[name], costs[name].tree
        found[name] = cost
        if tree is not None and owners.setdefault(tree.key, name) != name:
            rest = cost.seconds and cost.seconds.plus(tree.seconds.times(-1))
            done = f"{cost.done}; its tree is that of {owners[tree.key]}"
            found[name] = replace(cost, seconds=rest, disk=cost.disk - tree.disk, done=done)
    return found


def run_cost(
    config: SweepConfig, settings: Sequence[tuple[MethodConfig, ThresholdConfig]], shapes: Mapping[str, ShapeConfig]
) -> Cost:
    """Return the cost of measuring some points on all examples, without a tree; vanilla decodes beside them."""
    plan = make_plan(config, [SweptPoint(*each, GRID) for each in settings], shapes)
    need, texts = plan.needs.get(config.engine.dtype), plan.examples * (len(settings) + 1)
    return Cost(plan.text and plan.text[0].times(texts), plan.samples_bytes, None if need is None else need.total)


def training_cost(
    config: SweepConfig, start: Checkpoints, examples: int | None, shapes: Mapping[str, ShapeConfig], done: bool
) -> Cost:
    """Return the cost of a training on so many examples (repeated ones count): three forward passes for each."""
    found, state = model_sizes(start, 1, shapes), "done" if done else "to do"
    if found is None or examples is None:
        return Cost(None, 0.0, None, state)
    (lengths, _), sizes, kinds = lengths_of(config), found[0].sizes, {"weights": "fp32", "states": "fp32"}
    one = sizes.encoding(lengths.source, **kinds).flops + sizes.work(lengths.target, lengths.source, 0, **kinds).flops
    least = 3 * one * examples / probe(config, found[0])[1] / 1e9
    weights = found[0].weights
    return Cost(Span(least, _SLACK * least), _WEIGHT * weights, _TRAINED * weights, state)


def cost_lines(costs: Mapping[str, Cost], about: Mapping[str, str]) -> Iterator[str]:
    """Tell the cost of each exhibit, cheapest first, and of all; a tree that several share counts once."""
    costs = shared_trees(costs)
    for name in sorted(costs, key=lambda name: costs[name].most):
        cost = costs[name]
        time = "hours unknown" if cost.seconds is None else told(cost.seconds)
        memory = "memory unknown" if cost.memory is None else f"memory {amount(cost.memory)}"
        yield f"{name}: {about[name]}; {time}, disk {amount(cost.disk)}, {memory}; {cost.done}"
    spans = {name: cost.seconds for name, cost in costs.items() if cost.seconds is not None}
    disk = sum(cost.disk for cost in costs.values())
    yield f"In all: {told(in_all(spans))}, disk {amount(disk)} beside checkpoints and data"
