"""From a configuration to a trained model with its record, going on where an earlier session stopped."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bild.bench.machine import describe, state
from bild.config import TaskConfig
from bild.errors import BildError
from bild.metrics import quality
from bild.models import resolve_device
from bild.results import config_hash
from bild.tasks import Dataset, load_task
from bild.training.checkpoint import STATE
from bild.training.config import TrainConfig
from bild.training.corpus import Corpus, encode_corpus
from bild.training.dropout import quicken_dropout
from bild.training.export import RECORD, export_model, write_card, write_record
from bild.training.judge import Judge
from bild.training.loop import Loss, Trainer
from bild.training.losses import likelihood_loss
from bild.training.start import Start, from_scratch, identify
from bild.training.tokenization import SubwordDropout


def train(config: TrainConfig) -> Path:
    """Train as configured and return the folder, which then holds the model, its card and `training.json`.

    A finished folder is left as it is. Raises BildError for data, options or folders that do not serve.
    """
    folder = Path(config.folder)
    with _locked(folder):
        if not config.resume:
            for name in (RECORD, STATE, "tokenizer.json"):
                (folder / name).unlink(missing_ok=True)
        if (folder / RECORD).exists():
            _say(f"{folder} is finished (resume=false trains it again)")
            return folder
        torch.set_num_threads(config.threads)
        device = resolve_device(config.device)
        data = load_split(config.task, config.splits.train)
        start = _start(config, data, folder, device)
        corpus, subwords = _corpus(config, data, start)
        settings = config.train
        _check_exits(settings.exit, start.module.config.num_decoder_layers)

        def loss(module: Any, batch: Any) -> Any:
            return likelihood_loss(module, batch, settings.exit, settings.label_smoothing)

        run_training(config, folder, start, data, corpus, loss, subwords, sys.argv)
        return folder


def run_training(
    config: TrainConfig,
    folder: Path,
    start: Start,
    data: Dataset,
    corpus: Corpus,
    loss: Loss,
    subwords: SubwordDropout | None,
    arguments: list[str],
) -> None:
    """Train from a start to the end, and leave the model, its record and its card in the folder."""
    settings, device = config.train, next(start.module.parameters()).device
    environment = describe(device) | {"state": state(device)}
    identity = _identity(config, start, data, corpus, environment)
    judge = make_judge(config, config.splits.validation, start)
    samples = settings.validate_samples
    if samples is not None and samples < len(judge.data):
        judge = make_judge(config, config.splits.validation, start, samples)
    quicken_dropout(start.module)
    trainer = Trainer(
        start.module, corpus, settings, folder, identity, loss=loss, validate=judge, announce=_say, subwords=subwords
    )
    weights = trainer.run()
    export_model(start.module, weights, folder, start.tokenizer_folder)
    start.module.eval()
    judges = [make_judge(config, split, start) for split in (config.splits.validation, config.splits.test) if split]
    record: dict[str, Any] = {
        "schema": 1,
        "identity": identity,
        "command": f"python -m {_module_name()} {shlex.join(arguments[1:])}".strip(),
        "config": dataclasses.asdict(config),
        "model": _describe_model(start.module),
        "start": identify(start),
        "data": data.provenance,
        "scores": {judge.task.split: _scores(judge, start.module) for judge in judges},
        "signature": quality(config.task.metric, ["a"], ["a"], draws=100).scores[judge.headline].signature,
        "progress": dataclasses.asdict(trainer.progress) | {"seconds": round(trainer.seconds(), 1)},
        "environment": environment,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_card(folder, record)
    write_record(folder, record)
    for split, found in record["scores"].items():
        _say(f"{split}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items() if name != "examples"))


def load_split(task: TaskConfig, split: str, samples: int | None = None) -> Dataset:
    """Another split of a task than the one that it decodes."""
    return load_task(dataclasses.replace(task, split=split, samples=samples))


def make_judge(config: TrainConfig, split: str, start: Start, samples: int | None = None) -> Judge:
    """What scores a module on a split."""
    data = load_split(config.task, split, samples)
    task = dataclasses.replace(config.task, split=split)
    return Judge(task, data, _encode(config, data, start), start.tokenizer, start.vocabulary, config.train.exit)


def _encode(config: TrainConfig, data: Dataset, start: Start) -> Corpus:
    task = config.task
    return encode_corpus(
        data,
        start.tokenizer,
        eos=start.module.config.eos_token_id,
        prompt=task.prompt,
        source_limit=task.source_limit,
        target_limit=task.target_limit,
    )


def _start(config: TrainConfig, data: Dataset, folder: Path, device: torch.device) -> Start:
    settings = config.train
    assert config.shape is not None
    return from_scratch(
        config.shape,
        config.tokenizer,
        data,
        folder=folder,
        dropout=settings.dropout,
        seed=settings.seed,
        device=device,
    )


def _corpus(config: TrainConfig, data: Dataset, start: Start) -> tuple[Corpus, SubwordDropout | None]:
    corpus = _encode(config, data, start)
    if not config.train.subword_dropout:
        return corpus, None
    file = start.tokenizer_folder / "tokenizer.json"
    if not file.is_file():
        raise BildError("train.subword_dropout needs a tokenizer.json with BPE merges: set it to 0.")
    subwords = SubwordDropout(file.read_text(encoding="utf-8"), config.train.subword_dropout)
    corpus.words = [subwords.words(config.task.prompt + example.source) for example in data]
    return corpus, subwords


def _identity(config: TrainConfig, start: Start, data: Dataset, corpus: Corpus, environment: dict[str, Any]) -> str:
    """Changes with all that can change a step. How often something is saved or looked at does not."""
    unimportant = ("checkpoint_minutes",)
    settings = {k: v for k, v in dataclasses.asdict(config.train).items() if k not in unimportant}
    task = config.task
    return config_hash(
        {
            "train": settings,
            "shape": None if config.shape is None else dataclasses.asdict(config.shape),
            "start": identify(start),
            "data": data.provenance["hash"],
            "limits": [task.prompt, task.source_limit, task.target_limit, task.metric],
            "splits": dataclasses.asdict(config.splits),
            "packages": environment["packages"],
            "device": environment["machine"].get("gpu", "cpu"),
        }
    )


def _check_exits(exits: list[int], layers: int) -> None:
    if any(layer >= layers for layer in exits):
        raise BildError(
            f"train.exit={exits} is out of range: the model has {layers} decoder layers, the last is no exit."
        )


def _scores(judge: Judge, module: Any) -> dict[str, Any]:
    found = judge(module)
    return {"examples": len(judge.data), "loss": found.loss, judge.headline: found.score} | {
        f"{judge.headline} at {name}": value for name, value in found.others.items()
    }


def _describe_model(module: Any) -> dict[str, Any]:
    config = module.config
    return {
        "kind": {"t5": "T5", "mt5": "mT5"}[config.model_type],
        "parameters": sum(p.numel() for p in module.parameters()),
        "encoder_layers": config.num_layers,
        "decoder_layers": config.num_decoder_layers,
        "d_model": config.d_model,
        "d_ff": config.d_ff,
        "heads": config.num_heads,
        "d_kv": config.d_kv,
        "vocabulary": config.vocab_size,
    }


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else "bild.train"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder and keep a second process out of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BildError(f"out={folder} cannot be written ({error.strerror}): choose another folder.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BildError(f"Another process is training in {folder}: wait until it ends, or stop it.") from None
    try:
        yield
    finally:
        os.close(lock)


def read_training(folder: Path) -> dict[str, Any]:
    """The record of a finished run. BildError where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError) as error:
        raise BildError(f"{folder} has no {RECORD} that can be read ({error}): finish the training first.") from error
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
