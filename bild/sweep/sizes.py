"""The sizes of a pair and of a task's texts and the speed of a machine, before any is loaded or measured: for plans."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import torch

from bild.bench.roofline import MatmulProbe, ReadProbe, roofline_ms
from bild.config import Checkpoints, ShapeConfig, TaskConfig
from bild.engines import DTYPES
from bild.errors import BildError
from bild.models import resolve_device
from bild.models.shapes import Need, configs_named, need_of
from bild.results.work import Sizes
from bild.sweep.config import LengthConfig, SweepConfig
from bild.tasks import load_task

_PROBE_SECONDS = 1.5
_CHARACTERS_A_TOKEN = 4.0


def probe(config: SweepConfig, large: ModelSize) -> tuple[float, float]:
    """Return (GB/s, GFLOP/s) at best, within a few seconds; at once where this process measured the same before."""
    dtype = config.engine.dtype
    step = large.sizes.work(1, 1, 0, weights=dtype, states=dtype)
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


@dataclass(frozen=True)
class ModelSize:
    """One model's sizes."""

    sizes: Sizes
    weights: int
    """All of them."""

    @staticmethod
    def of(config: Any) -> ModelSize:
        """Return the sizes of a model from the library's configuration."""
        sizes = Sizes.of(config, config.vocab_size)
        # Only T5 v1.0 has a tied head; the library says so by this word alone (transformers 5).
        embedding = 0 if getattr(config, "scale_decoder_outputs", False) else sizes.head
        return ModelSize(sizes, sizes.matrices + sizes.source_matrices + sizes.encoder + embedding)

    def text_ms(self, source: int, target: int, dtype: str, gb_per_s: float, gflop_per_s: float) -> float:
        """Return the least that encoding a source and writing so many tokens one by one takes, in ms."""
        step = self.sizes.work(1, source, target // 2, weights=dtype, states=dtype)
        encoding = 2 * self.sizes.encoder * source / gflop_per_s / 1e6
        return encoding + target * roofline_ms(step, gb_per_s, gflop_per_s)[0]


def model_sizes(
    checkpoints: Checkpoints, exit: int | None, shapes: Mapping[str, ShapeConfig]
) -> tuple[ModelSize, ModelSize] | None:
    """Return the sizes of (large, small), from their own configurations where they are here, else by name.

    None where neither tells.
    """
    configs = configs_named(checkpoints, exit, shapes)
    if configs is None:
        return None
    large, small = configs if exit is None else (configs[0], copy.copy(configs[0]))
    if exit is not None:
        small.num_decoder_layers = exit
    return ModelSize.of(large), ModelSize.of(small)


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
