"""How large a pair and its task are, known without loading either: for estimates only."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bild.bench.roofline import ELEMENT_BYTES, Decoder, roofline_ms
from bild.config import Checkpoints, ShapeConfig, TaskConfig
from bild.errors import BildError
from bild.models import EMBEDDED
from bild.sweep.config import LengthConfig, SweepConfig
from bild.tasks import load_task

_NAMED = re.compile(r"(m?t5)-(small|base|large)", re.IGNORECASE)
_CHARACTERS_A_TOKEN = 4.0


@dataclass(frozen=True)
class ModelSize:
    """One model's sizes."""

    decoder: Decoder
    encoder_weights: int
    weights: int
    """All of them."""

    def text_ms(self, source: int, target: int, dtype: str, gb_per_s: float, gflop_per_s: float) -> float:
        """The least that encoding a source and writing so many tokens one by one takes, in ms."""
        encoding = 2 * self.encoder_weights * source / gflop_per_s / 1e6
        step = self.decoder.work(1, source, target / 2, weights=dtype, states=dtype)
        return encoding + target * roofline_ms(step, gb_per_s, gflop_per_s)[0]

    def bytes(self, dtype: str) -> int:
        """Of the weights in memory."""
        return self.weights * ELEMENT_BYTES[dtype]


def model_sizes(config: SweepConfig, checkpoints: Checkpoints, conf: Path) -> tuple[ModelSize, ModelSize] | None:
    """(large, small), from the checkpoints' own configuration where they are folders, else from their names.

    None where neither tells.
    """
    large = _shape(checkpoints.large, "large", conf)
    if large is None:
        return None
    if config.model.exit is not None:
        layers = config.model.exit
        small: dict[str, Any] | None = large | {"decoder_layers": layers}
    else:
        small = _shape(checkpoints.small or "", "small", conf)
    return None if small is None else (_size(large), _size(small))


def _shape(name: str, role: str, conf: Path) -> dict[str, Any] | None:
    folder = EMBEDDED / role if name == "embedded" else Path(name).expanduser()
    if (folder / "config.json").is_file():
        plain = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {
            "d_model": plain["d_model"],
            "d_kv": plain["d_kv"],
            "d_ff": plain["d_ff"],
            "heads": plain["num_heads"],
            "encoder_layers": plain["num_layers"],
            "decoder_layers": plain.get("num_decoder_layers") or plain["num_layers"],
            "rows": plain["vocab_size"],
            "gated": "gated" in plain.get("feed_forward_proj", ""),
            "tied": plain.get("tie_word_embeddings", True),
        }
    found = _NAMED.search(name)
    path = conf / "shape" / f"{found[0].lower()}.yaml" if found else None
    if path is None or not path.is_file():
        return None
    shape: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    ShapeConfig(**shape)  # checks it
    return shape


def _size(shape: dict[str, Any]) -> ModelSize:
    decoder = Decoder(
        layers=shape["decoder_layers"],
        width=shape["d_model"],
        inner=shape["heads"] * shape["d_kv"],
        feed_forward=shape["d_ff"],
        matrices_in=2 if shape["gated"] else 1,
        vocabulary=shape["rows"],
    )
    width, inner = decoder.width, decoder.inner
    layer = 4 * width * inner + (decoder.matrices_in + 1) * width * decoder.feed_forward
    encoder = shape["encoder_layers"] * layer
    cross = decoder.layers * 2 * width * inner  # keys and values of the source, made once
    embedding = 0 if shape["tied"] else decoder.head
    return ModelSize(decoder, encoder, decoder.matrices + cross + encoder + embedding)


def examples_of(task: TaskConfig) -> tuple[int, str]:
    """(examples that a sweep decodes, where that is known from), without the network."""
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
    """(mean tokens of a source and of an output, where that is known from), without the network."""
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
