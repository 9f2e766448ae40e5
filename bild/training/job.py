"""From a configuration to a trained model with its record and card, going on where an earlier session stopped."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bild.config import TaskConfig
from bild.errors import BildError
from bild.measure.environment import describe, state
from bild.progress import say, timestamp
from bild.results import config_hash
from bild.results.codec import write_json
from bild.results.files import read_file
from bild.tasks import Dataset, load_task
from bild.tasks.dataset import locate
from bild.training.config import CommonConfig, TrainConfig
from bild.training.corpus import Corpus, SubwordDropout, encode_corpus
from bild.training.folder import RECORD, export_model, training_folder, write_card
from bild.training.judge import Judge
from bild.training.loop import Loss, Trainer
from bild.training.optimization import likelihood_loss, quicken_dropout
from bild.training.start import Start, from_checkpoint, from_scratch, identify

_UNIMPORTANT = ("checkpoint_minutes",)
"""Settings that change no step."""
_LATER = {"exit_loss": "mean", "grow": 1}
"""Settings that came later, with what was done before: a training that does so keeps the identity that it had."""


def check_splits(config: CommonConfig) -> None:
    """Find every split before anything is made: the last one would be missed only after hours of training.

    Says where a model is validated on what it is trained on. BildError where a split is missing.
    """
    if config.resume and os.path.exists(Path(config.folder, RECORD)):  # noqa: PTH110 - False where it may not be read
        return
    splits = dataclasses.asdict(config.splits).items()
    found = {name: locate(dataclasses.replace(config.task, split=split)).files for name, split in splits if split}
    if found["train"] == found["validation"]:
        say(
            f"warning: splits.train={config.splits.train} and splits.validation={config.splits.validation} are the "
            "same examples, so the best epoch will be the one that knows them by heart: validate on others."
        )


def train(config: TrainConfig) -> Path:
    """Train as configured and return the folder, which then holds the model, its card and `training.json`.

    A finished folder is left as it is. Raises BildError for data, options or folders that do not serve.
    """
    folder, settings = Path(config.folder), config.train
    check_splits(config)
    with training_folder(folder, config.resume) as unfinished:
        if not unfinished:
            return folder
        torch.set_num_threads(config.threads)
        data = load_split(config.task, config.splits.train)
        if config.shape is not None:
            start = from_scratch(config, config.tokenizer, data)
        else:
            start = from_checkpoint(config, config.role, "pretrained", settings.dropout, grow=settings.grow)
        corpus = encode(config.task, data, start)

        def loss(module: Any, batch: Any) -> Any:
            return likelihood_loss(module, batch, settings.exit, settings.label_smoothing, settings.exit_loss)

        Job(config, folder, start, data, corpus, loss, _subwords(config, data, start, corpus)).run()
        return folder


def _subwords(config: TrainConfig, data: Dataset, start: Start, corpus: Corpus) -> SubwordDropout | None:
    """Make BPE-dropout where it is on; the corpus then has its words beside their ids."""
    if not config.train.subword_dropout:
        return None
    file = start.tokenizer_folder / "tokenizer.json"
    if not file.is_file():
        raise BildError("train.subword_dropout needs a tokenizer.json with BPE merges: set it to 0.")
    subwords = SubwordDropout(read_file(file).decode(), config.train.subword_dropout)
    corpus.words = [subwords.words(config.task.prompt + example.source) for example in data]
    return subwords


@dataclass
class Job:
    """A model, its corpus and its loss, to be trained to the end."""

    config: CommonConfig
    folder: Path
    start: Start
    data: Dataset
    corpus: Corpus
    loss: Loss
    subwords: SubwordDropout | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """All else that can change a step: of an alignment, the large model and its outputs."""
    teacher: Any = None
    """The large model's module, whose choices the small one is to follow, where that is judged."""

    def run(self) -> None:
        """Train from the folder's last state, or from the start."""
        config, start = self.config, self.start
        check_exits(config.train.exit, start.module.config.num_decoder_layers)
        environment = describe(next(start.module.parameters()).device)
        environment["state"] = state(next(start.module.parameters()).device)
        identity = self._identity(environment)
        quicken_dropout(start.module)
        trainer = Trainer(
            start.module,
            self.corpus,
            config.train,
            self.folder,
            identity,
            loss=self.loss,
            validate=self._judge(config.splits.validation, config.train.validate_samples),
            announce=say,
            subwords=self.subwords,
        )
        weights = trainer.run()
        export_model(start.module, weights, self.folder, start.tokenizer_folder)
        record = self._record(identity, environment, trainer)
        write_card(self.folder, record)
        write_json(self.folder / RECORD, record)
        for split, found in record["scores"].items():
            say(f"{split}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items() if name != "examples"))

    def _judge(self, split: str, samples: int | None = None) -> Judge:
        data = load_split(self.config.task, split, samples)
        task = dataclasses.replace(self.config.task, split=split)
        corpus = encode(self.config.task, data, self.start)
        exits = self.config.train.exit
        return Judge(task, data, corpus, self.start.tokenizer, self.start.vocabulary, exits, self.teacher)

    def _identity(self, environment: dict[str, Any]) -> str:
        config = self.config
        given, task = dataclasses.asdict(config.train), config.task
        settings = {k: v for k, v in given.items() if k not in _UNIMPORTANT and (k, v) not in _LATER.items()}
        return config_hash(
            {
                "train": settings,
                "shape": None if config.shape is None else dataclasses.asdict(config.shape),
                "start": identify(self.start),
                "data": self.data.provenance["hash"],
                "limits": [task.prompt, task.source_limit, task.target_limit, task.metric],
                "splits": dataclasses.asdict(config.splits),
                "packages": environment["packages"],
                "device": environment["machine"].get("gpu", "cpu"),
                **self.extra,
            }
        )

    def _record(self, identity: str, environment: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
        config, module = self.config, self.start.module
        module.eval()
        judges = [self._judge(split) for split in (config.splits.validation, config.splits.test) if split]
        return {
            "schema": 1,
            "identity": identity,
            "command": f"python -m {config.COMMAND} {shlex.join(sys.argv[1:])}".strip(),
            "config": dataclasses.asdict(config),
            "model": _describe(module),
            "start": identify(self.start),
            "extra": self.extra,
            "data": self.data.provenance,
            "scores": {judge.task.split: _scores(judge, module) for judge in judges},
            "signature": judges[0].signature,
            "progress": dataclasses.asdict(trainer.progress) | {"seconds": round(trainer.seconds(), 1)},
            "environment": environment,
            "created": timestamp(),
        }


def check_exits(exits: list[int], layers: int) -> None:
    """Refuse exits that the model has not got, before it is trained."""
    if any(layer >= layers for layer in exits):
        raise BildError(
            f"train.exit={exits} is out of range: the model has {layers} decoder layers, and the last is no exit."
        )


def load_split(task: TaskConfig, split: str, samples: int | None = None) -> Dataset:
    """Load a split of a task other than the one that it decodes; at most `samples` examples of it."""
    data = load_task(dataclasses.replace(task, split=split, samples=None))
    if samples is None or samples >= len(data):
        return data
    return load_task(dataclasses.replace(task, split=split, samples=samples))


def encode(task: TaskConfig, data: Dataset, start: Start) -> Corpus:
    """Encode the examples of a task as a model's token ids."""
    return encode_corpus(
        data,
        start.tokenizer,
        eos=start.module.config.eos_token_id,
        prompt=task.prompt,
        source_limit=task.source_limit,
        target_limit=task.target_limit,
    )


def _scores(judge: Judge, module: Any) -> dict[str, Any]:
    found = judge(module)
    others = {f"{judge.headline} at {name}": value for name, value in found.others.items()}
    return {"examples": len(judge.data), "loss": found.loss, judge.headline: found.score} | others | found.followed


def _describe(module: Any) -> dict[str, Any]:
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
