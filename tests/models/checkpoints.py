"""Folders with tiny random checkpoints, whole or with a fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tests.tinymodels import (
    Shape,
    checkpoint_files,
    english_size,
    english_tokenizer,
    multilingual_tokenizer,
    random_weights,
    to_json,
)

TOKENIZERS: dict[str | None, Callable[[], dict[str, bytes]]] = {
    "english": english_tokenizer,
    "multilingual": multilingual_tokenizer,
    None: dict,
}
Weights = dict[str, np.ndarray]


def tiny_shape(rows: int | None = None, layers: int = 2) -> Shape:
    """A T5 v1.0 with as many rows as the tiny English tokenizer and its padding, unless told otherwise."""
    return Shape(rows=english_size() + 28 if rows is None else rows, layers=layers, gated=False, untied=False)


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 1,
    rows: int | None = None,
    layers: int = 2,
    tokenizer: str | None = "english",
    config: dict[str, Any] | None = None,
    weights: Callable[[Weights], Weights] | None = None,
    files: dict[str, bytes] | None = None,
) -> Path:
    """Write a checkpoint and return its folder.

    `config` replaces values of config.json, `weights` changes them before they are saved, `files` replaces whole files.
    """
    shape = tiny_shape(rows, layers)
    made = checkpoint_files(shape, seed) | TOKENIZERS[tokenizer]()
    if config is not None:
        made["config.json"] = to_json(json.loads(made["config.json"]) | config)
    if weights is not None:
        made["model.safetensors"] = save(weights(random_weights(shape, seed)), metadata={"format": "pt"})
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (made | (files or {})).items():
        (folder / name).write_bytes(content)
    return folder


def pickled(folder: Path, **options: Any) -> Path:
    """As `write_checkpoint`, with the weights in a pickle only."""
    import torch

    write_checkpoint(folder, **options)
    weights = random_weights(tiny_shape(options.get("rows"), options.get("layers", 2)), options.get("seed", 1))
    (folder / "model.safetensors").unlink()
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, folder / "pytorch_model.bin")
    return folder


def without(name: str) -> Callable[[Weights], Weights]:
    """A change of the weights: one is missing."""
    return lambda weights: {key: value for key, value in weights.items() if key != name}


def halved(weights: Weights) -> Weights:
    """A change of the weights: they are in fp16."""
    return {key: value.astype(np.float16) for key, value in weights.items()}
