"""The plan of a sweep in numbers: its points and examples, what is done and what is to do, time, disk and memory.

It needs neither data nor checkpoints: sizes and lengths come with the configuration, times from an earlier sweep on
this machine or, without one, from a probe of how fast it reads and multiplies.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from bild.bench.roofline import ELEMENT_BYTES, Decoder, MatmulProbe, ReadProbe, roofline_ms
from bild.config import Checkpoints, ShapeConfig, TaskConfig
from bild.decoding import policy_for
from bild.engines import DTYPES
from bild.errors import BildError
from bild.measure.environment import describe
from bild.measure.gpu import uuid_of
from bild.models import EMBEDDED, resolve_device
from bild.models.shapes import model_config
from bild.results.folder import RECORD
from bild.results.locking import device_lock
from bild.results.predicted import Predicted, find_predicted
from bild.results.prices import PRICES, read_prices
from bild.results.samples_log import SAMPLES
from bild.sweep.config import GRID, LengthConfig, SweepConfig, SweptPoint, vanilla_point
from bild.sweep.context import Work, checkpoints_of, results_folder
from bild.tasks import load_task

TREE_PASSES = (0.5, 4.0)
"""A tree for a grid takes this many vanilla passes over the examples. 180 points of the embedded pair on a CPU took up
to 3.6 (docs/sweep.md); the lower end, for few points and large models that gain more by batches, is a guess."""
PROBE_SLACK = (1.2, 2.5)
"""An engine takes this many times the least that the probe says (`python -m bild.bench` measures it)."""
_PROBE_SECONDS = 1.5
_PROBE_TEXTS, _PROBE_BYTES = 8, 1 << 30
"""Texts that are decoded where a pair is local whose large model is no larger than this."""
_NODES_A_TOKEN, _NODE_BYTES = 6, 40
_SAMPLE_BYTES = 2500
_STATE_BYTES = 1 << 30
_CHARACTERS_A_TOKEN = 4.0
_NAMED = re.compile(r"(m?t5)-(small|base|large)", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Seconds, from and to."""

    low: float
    high: float

    @staticmethod
    def of(seconds: float) -> Span:
        """Return the span of a time that is known."""
        return Span(seconds, seconds)

    def times(self, low: float, high: float | None = None) -> Span:
        """Return this span so many times over; from so many to so many where both are given."""
        return Span(self.low * low, self.high * (low if high is None else high))


@dataclass(frozen=True)
class StoredTree:
    """A tree that lies in the results folder."""

    name: str
    bytes: int
    priced: bool


@dataclass(frozen=True)
class Stored:
    """The contents of the results folder; the sweeps are those of this machine."""

    folder: Path
    trees: list[StoredTree]
    measured: int
    begun: int
    sweeps: list[Predicted]


@dataclass(frozen=True)
class Stages:
    """The time that each part of a sweep takes."""

    text: Span
    """One text by vanilla decoding."""
    source: str
    """The source of that estimate."""
    vanilla: Span
    """All examples."""
    tree: Span
    live: Span
    every: Span
    """Every point decoded live on all examples, which the tree saves."""

    @property
    def total(self) -> Span:
        """The tree and the measured front."""
        return Span(self.tree.low + self.live.low, self.tree.high + self.live.high)


@dataclass(frozen=True)
class Plan:
    """Everything that a sweep would do and take."""

    config: SweepConfig
    points: Sequence[SweptPoint]
    measured: int
    """Points that are measured live."""
    examples: int
    examples_source: str
    lengths: LengthConfig
    lengths_source: str
    stored: Stored
    stages: Stages | None
    """None where nothing tells how large the pair is."""
    large: str
    """The large checkpoint's name."""
    tree_bytes: int
    samples_bytes: int
    weights_bytes: int | None
    batch_bytes: int = _STATE_BYTES


def make_plan(config: SweepConfig, points: Sequence[SweptPoint], shapes: Mapping[str, ShapeConfig]) -> Plan:
    """Look at what is there and estimate the rest; `shapes` are those of published checkpoints, by name.

    Runs nothing longer than the probe. BildError where the pair does not fit, or no size of the split is known.
    """
    checkpoints = checkpoints_of(config)
    machine = str(describe(resolve_device(config.engine.device))["machine"]["fingerprint"])
    examples, examples_source = examples_of(config.task)
    lengths, lengths_source = lengths_of(config)
    sizes = model_sizes(checkpoints, config.model.exit, shapes)
    stored = look_into(results_folder(config), machine)
    live = sum(point.origin == GRID and point.live for point in points)
    front = config.sweep.front
    measured = sum(point.origin != GRID for point in points) + (live if front < 0 else min(front, live))
    pace = _pace(config, stored, machine, checkpoints, sizes, lengths)
    return Plan(
        config=config,
        points=points,
        measured=measured,
        examples=examples,
        examples_source=examples_source,
        lengths=lengths,
        lengths_source=lengths_source,
        stored=stored,
        stages=None if pace is None else _stages(*pace, config, examples, measured, len(points)),
        large=checkpoints.large,
        tree_bytes=examples * lengths.target * _NODES_A_TOKEN * _NODE_BYTES,
        samples_bytes=measured * examples * _SAMPLE_BYTES,
        # As loaded, and laid out for an engine.
        weights_bytes=None if sizes is None else 2 * sum(size.bytes(config.engine.dtype) for size in sizes),
    )


def _stages(text: Span, source: str, config: SweepConfig, examples: int, measured: int, points: int) -> Stages:
    vanilla = text.times(examples)
    minutes = 60 * config.sweep.minutes
    live = text.times(measured * min(config.sweep.least, examples), measured * examples)
    live = Span(min(minutes, live.low), min(minutes, live.high))
    return Stages(text, source, vanilla, vanilla.times(*TREE_PASSES), live, vanilla.times(points))


def look_into(folder: Path, machine: str) -> Stored:
    """Return the contents of a results folder, which need not exist; the sweeps are those of this machine."""
    trees = [
        StoredTree(
            name=path.parent.name,
            bytes=sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file()),
            priced=(path.parent / PRICES).is_file(),
        )
        for path in sorted(folder.glob("tree/*/tree.json"))
    ]
    records, samples = (len(list(folder.glob(f"*/{name}"))) for name in (RECORD, SAMPLES))
    sweeps = [found for _, found in find_predicted(folder) if found.machine["fingerprint"] == machine]
    return Stored(folder, trees, records, max(0, samples - records), sweeps)


def _pace(
    config: SweepConfig,
    stored: Stored,
    machine: str,
    checkpoints: Checkpoints,
    sizes: tuple[ModelSize, ModelSize] | None,
    lengths: LengthConfig,
) -> tuple[Span, str] | None:
    """Return (seconds of one vanilla text, how that is known) from the best source there is; None where none tells."""
    if (known := _known(config, stored, machine, lengths)) is not None:
        return known
    if (decoded := decoded_probe(config, checkpoints)) is not None:
        return Span.of(decoded), f"{_PROBE_TEXTS} texts decoded just now"
    if sizes is None:
        return None
    gb_per_s, gflop_per_s = probe(config, sizes[0])
    least = sizes[0].text_ms(lengths.source, lengths.target, config.engine.dtype, gb_per_s, gflop_per_s) / 1e3
    how = f"a probe of this machine: it reads {gb_per_s:.1f} GB/s and multiplies {gflop_per_s:.0f} GFLOP/s"
    return Span.of(least).times(*PROBE_SLACK), how


def _known(config: SweepConfig, stored: Stored, machine: str, lengths: LengthConfig) -> tuple[Span, str] | None:
    engine = config.engine
    for sweep in stored.sweeps:
        if (sweep.engine.name, sweep.engine.dtype) == (engine.name, engine.dtype):
            for point in sweep.points:
                if point.method.name == "vanilla":
                    return Span.of(point.seconds.mean), "an earlier sweep on this machine"
    for tree in stored.trees:
        if tree.priced:
            prices = read_prices(stored.folder / "tree" / tree.name / PRICES)
            found = prices.identity.get("machine"), prices.identity.get("engine", {}).get("name")
            if found == (machine, engine.name):
                seconds = prices.seconds(lengths.source, [], [1] * lengths.target)
                return Span.of(seconds), "prices that were calibrated on this machine"
    return None


def decoded_probe(config: SweepConfig, checkpoints: Checkpoints) -> float | None:
    """Return a text's seconds by vanilla decoding, where the pair and the data are local and small; else None."""
    folder = EMBEDDED / "large" if checkpoints.large == "embedded" else Path(checkpoints.large).expanduser()
    files = list(folder.glob("*.safetensors"))
    if not files or sum(file.stat().st_size for file in files) > _PROBE_BYTES or config.task.data == "hub":
        return None
    work = Work.open(config)
    texts = work.queue[:_PROBE_TEXTS]
    measurement, make = work.measured_with, policy_for(*vanilla_point().setting)
    with device_lock(uuid_of(work.device)):  # the first text warms up
        runs = [measurement.decode(make, "vanilla", work.source(example)) for example in [texts[0], *texts]]
    return sum(run.total_ns for run in runs[1:]) / len(texts) / 1e9


def probe(config: SweepConfig, large: ModelSize) -> tuple[float, float]:
    """Return (GB/s, GFLOP/s) at best, within a few seconds."""
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


@dataclass(frozen=True)
class ModelSize:
    """One model's sizes."""

    decoder: Decoder
    encoder: int
    """Weights of the encoder's layers."""
    weights: int
    """All of them."""

    @staticmethod
    def of(config: Any) -> ModelSize:
        """Return the sizes of a model from the library's configuration, by the roofline's arithmetic."""
        decoder = Decoder.of(config, config.vocab_size)
        # A decoder's layer without cross-attention's q and o is an encoder's; its k and v are used once a source.
        layer, half = (decoder.matrices - decoder.head) // decoder.layers, 2 * decoder.width * decoder.inner
        encoder = config.num_layers * (layer - half)
        # Only T5 v1.0 has a tied head; the library says so by this word alone (transformers 5).
        embedding = 0 if getattr(config, "scale_decoder_outputs", False) else decoder.head
        return ModelSize(decoder, encoder, decoder.matrices + decoder.layers * half + encoder + embedding)

    def text_ms(self, source: int, target: int, dtype: str, gb_per_s: float, gflop_per_s: float) -> float:
        """Return the least that encoding a source and writing so many tokens one by one takes, in ms."""
        step = self.decoder.work(1, source, target / 2, weights=dtype, states=dtype)
        return 2 * self.encoder * source / gflop_per_s / 1e6 + target * roofline_ms(step, gb_per_s, gflop_per_s)[0]

    def bytes(self, dtype: str) -> int:
        """Return the bytes of the weights in memory."""
        return self.weights * ELEMENT_BYTES[dtype]


def model_sizes(
    checkpoints: Checkpoints, exit: int | None, shapes: Mapping[str, ShapeConfig]
) -> tuple[ModelSize, ModelSize] | None:
    """Return the sizes of (large, small), from the checkpoints' own configuration where they are folders, else by name.

    None where neither tells.
    """
    large = _config(checkpoints.large, "large", shapes)
    small = _config(checkpoints.small or "", "small", shapes) if exit is None else copy.copy(large)
    if large is None or small is None:
        return None
    if exit is not None:
        small.num_decoder_layers = exit
    return ModelSize.of(large), ModelSize.of(small)


def _config(name: str, role: str, shapes: Mapping[str, ShapeConfig]) -> Any | None:
    from transformers import AutoConfig

    folder = EMBEDDED / role if name == "embedded" else Path(name).expanduser()
    if (folder / "config.json").is_file():
        return AutoConfig.from_pretrained(folder)
    found = _NAMED.search(name)
    shape = shapes.get(found[0].lower()) if found else None
    return None if shape is None else model_config(shape)


def examples_of(task: TaskConfig) -> tuple[int, str]:
    """Return (examples that a sweep decodes, where that is known from), without the network."""
    if task.samples is not None:
        return task.samples, "task.samples"
    known = task.sizes.get(task.split)
    if known is not None:
        return known, f"the published size of the split {task.split}"
    if task.data == "hub":
        raise BildError(
            f"The size of the split {task.split} of {task.path} is not in conf/task/{task.name}.yaml: "
            "give task.samples=..."
        )
    return len(load_task(task)), "the data"


def lengths_of(config: SweepConfig) -> tuple[LengthConfig, str]:
    """Return (mean tokens of a source and of an output, where that is known from), without the network."""
    task = config.task
    if task.name in config.lengths:
        return config.lengths[task.name], "conf/sweep.yaml"
    if task.data == "hub":
        return LengthConfig(64, 32), "a guess: conf/sweep.yaml has no lengths of this task"
    examples = load_task(task).examples[:500]
    source, target = (
        max(2, round(sum(len(text) for text in texts) / len(examples) / _CHARACTERS_A_TOKEN))
        for texts in ([e.source for e in examples], [e.reference for e in examples])
    )
    return LengthConfig(min(source, task.source_limit), min(target, task.target_limit)), "the length of the texts"
