"""What a plan goes by before anything is loaded: sizes of a pair and its texts, the machine's speed, the stages' times.

A stage's work is told in vanilla texts, and its time in vanilla texts' time. How many of these it takes for each is a
guess at first; what sweeps of this machine took is kept in the results folder, and the next plan goes by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from time import perf_counter

import torch

from bild.bench.roofline import MatmulProbe, ReadProbe, roofline_ms
from bild.config import Checkpoints, ShapeConfig, TaskConfig
from bild.engines import DTYPES
from bild.errors import BildError
from bild.models import resolve_device
from bild.models.shapes import Need, config_named, configs_named, need_of
from bild.results.codec import append_lines, read_lines
from bild.results.work import Sizes
from bild.sweep.config import LengthConfig, SweepConfig, widest_draft
from bild.sweep.pricing import BESIDE, calibration_texts
from bild.tasks import load_task

_PROBE_SECONDS = 1.5
_CHARACTERS_A_TOKEN = 4.0
TAKEN = "stages.jsonl"
STAGES = ("tree", "prices", "live")
_GUESSES = {"tree": (0.5, 4.0), "prices": (0.4, 1.5), "live": (0.4, 1.2)}
"""Time of each stage in that of the vanilla texts that its work counts. A tree for a grid: 180 points of the embedded
pair on a CPU took up to 3.6 (docs/sweep.md); the lower end, for few points and large models that gain more by batches,
is a guess."""
_SESSION = (4.0, 30.0)
"""Seconds of starting a process and loading a pair."""
_LIBRARY = 2.0
"""Vanilla texts that one text of the library's `generate()` counts as."""
_REPLAY, _REFINED = (1e-5, 1e-4), (2.0, 8.0)
"""Guesses: seconds to replay and score one text at one setting; settings that a search tries for each that it begins
with."""
_SLACK = 1.25
_RECENT = 5


def probe(config: SweepConfig, large: Sizes) -> tuple[float, float]:
    """Return (GB/s, GFLOP/s) at best, within a few seconds; at once where this process measured the same before."""
    dtype = config.engine.dtype
    step = large.work(1, 1, 0, weights=dtype, states=dtype)
    return _rates(resolve_device(config.engine.device), dtype, config.engine.threads, step.bytes)


@cache
def _rates(device: torch.device, dtype: str, threads: int, size: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    best = []
    for made in (ReadProbe(size, device), MatmulProbe(DTYPES[dtype], device)):
        began, seen = perf_counter(), [made()]
        while perf_counter() - began < _PROBE_SECONDS:
            seen.append(made())
        best.append(max(seen))
    return best[0], best[1]


def large_sizes(checkpoints: Checkpoints, shapes: Mapping[str, ShapeConfig]) -> Sizes | None:
    """Return the sizes of the large model: from its own configuration where it is here, else by its name, or None."""
    config = config_named(checkpoints.large, "large", shapes)
    return None if config is None else Sizes.of(config, config.vocab_size)


def text_ms(large: Sizes, lengths: LengthConfig, dtype: str, gb_per_s: float, gflop_per_s: float) -> float:
    """Return the least that encoding a source and writing a text token by token takes, in ms."""
    step = large.work(1, lengths.source, lengths.target // 2, weights=dtype, states=dtype)
    encoding = 2 * large.encoder * lengths.source / gflop_per_s / 1e6
    return encoding + lengths.target * roofline_ms(step, gb_per_s, gflop_per_s)[0]


def needs_of(config: SweepConfig, checkpoints: Checkpoints, shapes: Mapping[str, ShapeConfig]) -> dict[str, Need]:
    """Return the bytes that a pair needs on the device by dtype, the chosen one first; empty where it is not known."""
    configs = configs_named(checkpoints, config.model.exit, shapes)
    if configs is None:
        return {}
    limits = {"source_limit": config.task.source_limit, "capacity": config.task.target_limit}
    library = config.measure.library != 0
    return {
        dtype: need_of(configs, config.engine.name, dtype, library=library, exit=config.model.exit, **limits)
        for dtype in dict.fromkeys((config.engine.dtype, *DTYPES))
    }


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

    def plus(self, other: Span) -> Span:
        """Return the span of both together."""
        return Span(self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Taken:
    """One stage as it was planned and as it went."""

    stage: str
    machine: str
    engine: str
    pair: str
    task: str
    seconds: float
    texts: float
    """Its work, in vanilla texts."""
    text: float
    """Seconds of a vanilla text, as measured."""
    planned: list[float] | None = None
    """Seconds, from and to."""

    @property
    def factor(self) -> float:
        """Its time in that of its vanilla texts; infinite where those took none."""
        vanilla = self.texts * self.text
        return self.seconds / vanilla if vanilla else math.inf


def texts_of(config: SweepConfig, stage: str, examples: int, measured: int) -> float:
    """Return the work of a stage on so many examples in vanilla texts; `measured` points are decoded live."""
    if stage == "prices":
        return float(calibration_texts(widest_draft(config.sweep)))
    if stage == "tree":
        return float(examples)
    library = examples if config.measure.library < 0 else min(config.measure.library, examples)
    return examples * (measured + 1 + BESIDE) + _LIBRARY * library


def planned(
    config: SweepConfig,
    text: Span,
    known: Sequence[Taken],
    *,
    examples: int,
    measured: int,
    confirmed: int | None = None,
    tried: int = 0,
) -> dict[str, Span]:
    """Return the time that each stage takes, a vanilla text taking `text`, by what is known of earlier sweeps.

    A search begins with `tried` settings, and is `confirmed` on so many other examples, which have a tree of their own.
    """
    found = {}
    timed = examples if confirmed is None else confirmed
    for stage in STAGES:
        low, high = factors(stage, known, config.model.pair_name)
        if stage == "live":
            least = texts_of(config, stage, min(config.sweep.least, timed), measured)
            span = text.times(least * low, texts_of(config, stage, timed, measured) * high)
            cap = 60 * config.sweep.minutes
            # The first stage is measured whatever it takes.
            span = Span(span.low, max(min(cap, span.high), text.high * least * high))
            sessions = config.measure.sessions if config.measure.sessions > 1 else 0
            span = span.plus(Span(*_SESSION).times(sessions, 2 * sessions))
        else:
            texts = texts_of(config, stage, examples + (confirmed or 0), measured)
            span = text.times(texts * low, texts * high)
        if stage == "prices":
            span = Span(max(config.sweep.calibration, span.low), max(config.sweep.calibration, span.high))
        found[stage] = span
    if confirmed is not None:
        found["search"] = Span(*_REPLAY).times(tried * examples * _REFINED[0], tried * examples * _REFINED[1])
    return found


def factors(stage: str, known: Sequence[Taken], pair: str) -> tuple[float, float]:
    """Return the range of a stage's factor: by the last sweeps of this pair, else of any, else the guess."""
    own = [each for each in known if each.stage == stage]
    own = [each for each in own if each.pair == pair] or own
    seen = [each.factor for each in own[-_RECENT:] if math.isfinite(each.factor) and each.factor > 0]
    return (min(seen) / _SLACK, max(seen) * _SLACK) if seen else _GUESSES[stage]


def taken_before(results: str | Path, machine: str, engine: str) -> list[Taken]:
    """Read what sweeps into a results folder took on a machine with an engine; torn lines are passed over."""
    found = read_lines(Taken, Path(results) / TAKEN)
    return [each for each in found if (each.machine, each.engine) == (machine, engine)]


def keep(results: str | Path, taken: Sequence[Taken], plan: Mapping[str, Span]) -> None:
    """Append what stages took beside what was planned for them."""
    spans = {stage: [span.low, span.high] for stage, span in plan.items()}
    append_lines(Path(results) / TAKEN, [replace(each, planned=spans.get(each.stage)) for each in taken])


def in_all(spans: Mapping[str, Span]) -> Span:
    """Return the span of all stages together."""
    return Span(sum(span.low for span in spans.values()), sum(span.high for span in spans.values()))
