"""The sizes of a pair and of its data, known without loading either: for estimates only."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bild.bench.roofline import ELEMENT_BYTES, Decoder, floor_ms
from bild.config import Checkpoints, ShapeConfig, TaskConfig
from bild.errors import BildError
from bild.models import EMBEDDED
from bild.models.shapes import model_config
from bild.sweep.config import LengthConfig, SweepConfig
from bild.tasks import load_task

_CHARACTERS_A_TOKEN = 4.0
_NAMED = re.compile(r"(m?t5)-(small|base|large)", re.IGNORECASE)


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
        return 2 * self.encoder * source / gflop_per_s / 1e6 + target * floor_ms(step, gb_per_s, gflop_per_s)[0]

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
