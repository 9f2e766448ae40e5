"""The plan of a sweep: its points and examples, what is done and what is to do, hours, disk and memory.

It needs neither data nor checkpoints: sizes and lengths come from `conf/`, times from an earlier sweep on this machine
or, without one, from a probe of how fast it reads and multiplies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import torch

from bild.bench.roofline import MatmulProbe, ReadProbe
from bild.config import Checkpoints, MethodConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.engines import DTYPES
from bild.errors import BildError
from bild.measure.environment import describe
from bild.measure.live import run_live
from bild.models import EMBEDDED, resolve_device
from bild.results.folder import RECORD, slug
from bild.results.locking import device_lock
from bild.results.predicted import Predicted, find_predicted
from bild.results.prices import PRICES, read_prices
from bild.results.samples_log import SAMPLES
from bild.sweep.config import LengthConfig, SweepConfig
from bild.sweep.context import Work
from bild.sweep.grid import BASELINE, GRID, PUBLISHED, SweptPoint, grid_points, published_settings
from bild.sweep.sizes import ModelSize, examples_of, lengths_of, model_sizes

TREE_PASSES = (0.5, 4.0)
"""A tree for a grid takes this many vanilla passes over the examples. 180 points of the embedded pair on a CPU took up
to 3.6 (docs/sweep.md); the lower end, for few points and large models that gain more by batches, is a guess."""
PROBE_SLACK = (1.2, 2.5)
"""An engine takes this many times the least that the probe says (`python -m bild.bench` measures it)."""
_PROBE_SECONDS = 1.5
_PROBE_TEXTS, _PROBE_BYTES = 8, 1 << 30
"""Texts that are decoded where a pair is at hand whose large model is no larger than this."""
_NODES_A_TOKEN, _NODE_BYTES = 6, 40
_SAMPLE_BYTES = 2500
_STATE_BYTES = 1 << 30


@dataclass
class Plan:
    """Lines of the plan, by heading."""

    what: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    takes: list[str] = field(default_factory=list)

    def sections(self) -> list[tuple[str, list[str]]]:
        """(heading, lines)."""
        return [("What", self.what), ("Done", self.done), ("Takes", self.takes)]


@dataclass(frozen=True)
class _Pace:
    """Seconds of one vanilla text, from and to, and how that is known."""

    low: float
    high: float
    how: str


def make_plan(config: SweepConfig, conf: Path) -> Plan:
    """Look at what is there and estimate the rest. Runs nothing longer than the probe."""
    checkpoints = config.model.fit(config.task)
    if checkpoints is None:
        raise BildError(f"model={config.model.name} does not fit task={config.task.name}.")
    published = published_settings(conf, config.task.name, config.model.name) if config.sweep.published else []
    points = grid_points(config.sweep, config.task, config.method, published)
    examples, known = examples_of(config.task)
    plan = Plan()
    _what(plan, config, points, examples, known)
    folder = Path(config.results) / slug(config.task.name) / slug(config.model.pair_name)
    earlier = _done(plan, folder, config)
    sizes = model_sizes(config, checkpoints, conf)
    lengths, source = lengths_of(config)
    pace = _pace(config, folder, earlier, checkpoints, sizes, lengths)
    _takes(plan, config, points, examples, pace, lengths, source, sizes, checkpoints)
    return plan


def _what(plan: Plan, config: SweepConfig, points: Sequence[SweptPoint], examples: int, known: str) -> None:
    why = Counter(point.why for point in points)
    plan.what += [
        f"{config.task.name} by {config.model.pair_name}, engine {config.engine.name} {config.engine.dtype}",
        f"{len(points):,} points: {why[GRID]:,} of the grid, {why[BASELINE]} baselines, {why[PUBLISHED]} published",
        f"{examples:,} examples ({known}) in the tree, for quality and counts of every point",
        f"live: {_live_words(config.sweep.front)}, on a sub-sample that grows "
        f"until every speedup is known to ±{config.sweep.width:.0%}, or {config.sweep.minutes:g} minutes are spent",
    ]


def _live_words(front: int) -> str:
    return "every point" if front < 0 else f"baselines, published settings and up to {front} of the front"


def _done(plan: Plan, folder: Path, config: SweepConfig) -> list[Predicted]:
    """What lies in the results folder; the earlier sweeps of this machine."""
    if not folder.is_dir():
        plan.done.append(f"nothing yet in {folder}")
        return []
    trees = sorted(path.parent for path in folder.glob("tree/*/tree.json"))
    for tree in trees:
        size = sum(file.stat().st_size for file in tree.iterdir() if file.is_file())
        plan.done.append(f"tree {tree.name}: {_amount(size)}{', with prices' if (tree / PRICES).is_file() else ''}")
    records = len(list(folder.glob(f"*/{RECORD}")))
    halves = len(list(folder.glob(f"*/{SAMPLES}"))) - records
    plan.done.append(f"{records} measured points, {max(0, halves)} begun")
    machine = describe(resolve_device(config.engine.device))["machine"]["fingerprint"]
    own = [p for _, p in find_predicted(folder) if p.machine["fingerprint"] == machine]
    for found in own:
        measured = sum(point.measured is not None for point in found.points)
        state = "finished" if found.finished else "begun"
        plan.done.append(f"sweep {found.hash[:10]}: {state}, {len(found.points):,} points, {measured} measured")
    return [p for p in own if p.engine.name == config.engine.name and p.engine.dtype == config.engine.dtype]


def _pace(
    config: SweepConfig,
    folder: Path,
    earlier: Sequence[Predicted],
    checkpoints: Checkpoints,
    sizes: tuple[ModelSize, ModelSize] | None,
    lengths: LengthConfig,
) -> _Pace | None:
    for found in earlier:
        for point in found.points:
            if point.method.name == "vanilla":
                seconds = point.seconds.mean
                return _Pace(seconds, seconds, "an earlier sweep on this machine")
    machine = describe(resolve_device(config.engine.device))["machine"]["fingerprint"]
    for path in sorted(folder.glob(f"tree/*/{PRICES}")):
        prices = read_prices(path)
        if (
            prices.identity.get("machine") == machine
            and prices.identity.get("engine", {}).get("name") == config.engine.name
        ):
            seconds = prices.seconds(lengths.source, [], [1] * lengths.target)
            return _Pace(seconds, seconds, "prices that were calibrated on this machine")
    if (decoded := decoded_probe(config, checkpoints)) is not None:
        return _Pace(decoded, decoded, f"{_PROBE_TEXTS} texts decoded just now")
    if sizes is None:
        return None
    gb_per_s, gflop_per_s = probe(config, sizes[0])
    dtype = config.engine.dtype
    least = sizes[0].text_ms(lengths.source, lengths.target, dtype, gb_per_s, gflop_per_s) / 1e3
    how = f"a probe of this machine: it reads {gb_per_s:.1f} GB/s and multiplies {gflop_per_s:.0f} GFLOP/s"
    return _Pace(least * PROBE_SLACK[0], least * PROBE_SLACK[1], how)


def decoded_probe(config: SweepConfig, checkpoints: Checkpoints) -> float | None:
    """Seconds of a text by vanilla decoding, where the pair and the data lie at hand and are small; else None."""
    folders = [EMBEDDED / "large" if checkpoints.large == "embedded" else Path(checkpoints.large).expanduser()]
    files = [file for folder in folders if folder.is_dir() for file in folder.glob("*.safetensors")]
    if not files or sum(file.stat().st_size for file in files) > _PROBE_BYTES or config.task.data == "hub":
        return None
    work = Work.open(config)
    texts = work.queue[:_PROBE_TEXTS]
    pair, task = work.pair, config.task
    make = policy_for(MethodConfig("vanilla"), ThresholdConfig())
    engine = pair.engine("large", config.engine.name)
    spent = []
    with device_lock(str(work.device)):
        for example in [texts[0], *texts]:  # the first one warms up
            policy = make(start=pair.start, eos=pair.eos, max_length=task.target_limit)
            spent.append(run_live(policy, work.source(example), engine, None).total_ns / 1e9)
    return sum(spent[1:]) / len(texts)


def probe(config: SweepConfig, large: ModelSize) -> tuple[float, float]:
    """(GB/s, GFLOP/s) at best, within a few seconds."""
    device = resolve_device(config.engine.device)
    torch.set_num_threads(config.engine.threads)
    step = large.decoder.work(1, 1, 0, weights=config.engine.dtype, states=config.engine.dtype)
    best = []
    for made in (ReadProbe(step.bytes, device), MatmulProbe(DTYPES[config.engine.dtype], device)):
        began, seen = perf_counter(), [made()]
        while perf_counter() - began < _PROBE_SECONDS:
            seen.append(made())
        best.append(max(seen))
    return best[0], best[1]


def _takes(
    plan: Plan,
    config: SweepConfig,
    points: Sequence[SweptPoint],
    examples: int,
    pace: _Pace | None,
    lengths: LengthConfig,
    lengths_known: str,
    sizes: tuple[ModelSize, ModelSize] | None,
    checkpoints: Checkpoints,
) -> None:
    others = sum(point.why == GRID for point in points)
    chosen = len(points) - others + (min(config.sweep.front, others) if config.sweep.front >= 0 else others)
    if pace is None:
        plan.takes.append(f"hours: unknown, the sizes of {checkpoints.large} are not known here; fetch it first")
    else:
        one = (pace.low * examples, pace.high * examples)
        tree = (one[0] * TREE_PASSES[0], one[1] * TREE_PASSES[1])
        minutes = config.sweep.minutes * 60
        live = (min(minutes, pace.low * chosen * config.sweep.least), min(minutes, pace.high * chosen * examples))
        every = (one[0] * len(points), one[1] * len(points))
        plan.takes += [
            f"one vanilla pass: {_time(*one)} ({_time(pace.low, pace.high)} a text; from {pace.how})",
            f"the tree: {_time(*tree)} ({TREE_PASSES[0]:g} to {TREE_PASSES[1]:g} vanilla passes, "
            "by the grid and how well batches pay)",
            f"live: {_time(*live)}, {chosen} points",
            f"in all: {_time(tree[0] + live[0], tree[1] + live[1])}; every point decoded live: {_time(*every)}",
            f"texts of {lengths.source} source and {lengths.target} output tokens on average ({lengths_known})",
        ]
    nodes = examples * lengths.target * _NODES_A_TOKEN
    plan.takes.append(
        f"disk: about {_amount(nodes * _NODE_BYTES)} for the tree, up to "
        f"{_amount(chosen * examples * _SAMPLE_BYTES)} for measured examples"
    )
    if sizes is not None:
        weights = 2 * sum(size.bytes(config.engine.dtype) for size in sizes)  # as loaded, and laid out for an engine
        plan.takes.append(
            f"memory: {_amount(weights)} of weights (loaded, and laid out), up to {_amount(_STATE_BYTES)} for a batch"
        )


def _time(low: float, high: float) -> str:
    shown = [_span(low), _span(high)]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"


def _span(seconds: float) -> str:
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
