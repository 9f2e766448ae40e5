"""From a configuration of `python -m bild.train` to a trained model, going on where an earlier session stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bild.errors import BildError
from bild.models import resolve_device
from bild.tasks import Dataset
from bild.training.config import TrainConfig
from bild.training.corpus import Corpus
from bild.training.folder import training_folder
from bild.training.job import Job, encode, load_split
from bild.training.losses import likelihood_loss
from bild.training.start import Start, checkpoint_of, from_checkpoint, from_scratch
from bild.training.tokenization import SubwordDropout


def train(config: TrainConfig) -> Path:
    """Train as configured and return the folder, which then holds the model, its card and `training.json`.

    A finished folder is left as it is. Raises BildError for data, options or folders that do not serve.
    """
    folder, settings = Path(config.folder), config.train
    with training_folder(folder, config.resume) as unfinished:
        if not unfinished:
            return folder
        torch.set_num_threads(config.threads)
        data = load_split(config.task, config.splits.train)
        start = _start(config, data, folder)
        corpus = encode(config.task, data, start)

        def loss(module: Any, batch: Any) -> Any:
            return likelihood_loss(module, batch, settings.exit, settings.label_smoothing)

        Job(config, folder, start, data, corpus, loss, _subwords(config, data, start, corpus)).run()
        return folder


def _start(config: TrainConfig, data: Dataset, folder: Path) -> Start:
    settings, device = config.train, resolve_device(config.device)
    if config.shape is not None:
        return from_scratch(
            config.shape,
            config.tokenizer,
            data,
            folder=folder,
            dropout=settings.dropout,
            seed=settings.seed,
            device=device,
        )
    assert config.model is not None
    name = checkpoint_of(config.model, config.task, config.role, "pretrained")
    return from_checkpoint(name, config.model, role=config.role, dropout=settings.dropout, device=device)


def _subwords(config: TrainConfig, data: Dataset, start: Start, corpus: Corpus) -> SubwordDropout | None:
    """BPE-dropout, where it is on; the corpus then has its words beside their ids."""
    if not config.train.subword_dropout:
        return None
    file = start.tokenizer_folder / "tokenizer.json"
    if not file.is_file():
        raise BildError("train.subword_dropout needs a tokenizer.json with BPE merges: set it to 0.")
    subwords = SubwordDropout(file.read_text(encoding="utf-8"), config.train.subword_dropout)
    corpus.words = [subwords.words(config.task.prompt + example.source) for example in data]
    return subwords
