"""A tiny corpus, and tiny models to train on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from bild.config import ShapeConfig, TaskConfig
from bild.models.shapes import model_config
from bild.training.config import SplitSettings, TokenizerSettings, TrainConfig, TrainSettings
from tests.tinydata import PAIRS

SHAPE = ShapeConfig("tiny", d_model=16, d_kv=8, d_ff=32, heads=2, encoder_layers=1, decoder_layers=2, rows=160)


def tiny_module(seed: int = 0, dropout: float = 0.0, shape: ShapeConfig = SHAPE) -> Any:
    """A new T5 of a few thousand weights."""
    from transformers import T5ForConditionalGeneration

    config = model_config(shape)
    config.dropout_rate = dropout
    torch.manual_seed(seed)
    return T5ForConditionalGeneration(config)


def write_corpus(folder: Path) -> Path:
    """The splits as files: the sentences of the tests, each with each of a few endings."""
    rows = [
        {"source": f"{german[:-1]} {i}.", "reference": f"{english[:-1]} {i}."}
        for i in range(3)
        for german, english in PAIRS
    ]
    folder.mkdir(exist_ok=True)
    for split, chosen in (("train", rows), ("validation", rows[:6]), ("test", rows[6:10])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
    return folder


def tiny_task(corpus: Path) -> TaskConfig:
    """The task over such files."""
    return TaskConfig(name="tiny", data="file", path=str(corpus), split="test", target_limit=24)


def tiny_config(corpus: Path, out: Path, **settings: Any) -> TrainConfig:
    """From scratch in a second: two epochs of six steps, by all that makes a training random."""
    usual: dict[str, Any] = {
        "scale_parameter": True,
        "rate": 1e-2,
        "schedule": "cosine",
        "warmup": 2,
        "epochs": 2,
        "batch": 4,
        "dropout": 0.2,
        "subword_dropout": 0.2,
        "clip": 1.0,
        "label_smoothing": 0.1,
    }
    return TrainConfig(
        task=tiny_task(corpus),
        shape=SHAPE,
        tokenizer=TokenizerSettings(),
        train=TrainSettings(**usual | settings),
        splits=SplitSettings(test="test"),
        device="cpu",
        out=str(out),
    )


def record(folder: Path) -> dict[str, Any]:
    """The record of a finished training."""
    found: dict[str, Any] = json.loads((folder / "training.json").read_bytes())
    return found


def timeless(folder: Path) -> dict[str, Any]:
    """All that two trainings of one kind have in common: figures, the best epoch, and the files, bit by bit."""
    progress = {
        name: value for name, value in record(folder)["progress"].items() if name not in ("seconds", "sessions")
    }
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in progress.pop("history")]
    varying = ("training.json", "README.md", "state.pt", ".lock", "log")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in varying}
    return {"progress": progress, "history": history, "scores": record(folder)["scores"], "files": files}
