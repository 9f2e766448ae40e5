"""Alignment (paper 3.5.1): the large model writes outputs for the training inputs, the small one learns them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from bild.errors import BildError
from bild.progress import say, track
from bild.results import config_hash
from bild.tasks import Dataset
from bild.training.config import AlignConfig, TokenizerSettings
from bild.training.corpus import Corpus
from bild.training.folder import training_folder
from bild.training.job import Job, encode, load_split
from bild.training.loop import Loss
from bild.training.optimization import divergence_loss, likelihood_loss
from bild.training.outputs import TargetFile, write_targets
from bild.training.start import Start, from_checkpoint, from_scratch, identify


def align(config: AlignConfig) -> Path:
    """Align the small model of a pair to the large one, and return the folder of what was made.

    It holds the large model's outputs (`targets.jsonl`), the aligned model, its card and `training.json`. Raises
    BildError where the two have no vocabulary in common, or for data, options or folders that do not serve.
    """
    folder = Path(config.folder)
    with training_folder(folder, config.resume) as unfinished:
        if not unfinished:
            return folder
        torch.set_num_threads(config.threads)
        data = load_split(config.task, config.splits.train)
        teacher = from_checkpoint(config, "large", "finetuned", None)
        teacher.module.eval().requires_grad_(False)
        student = _student(config, data, teacher)
        targets = _targets(config, folder, teacher, data)
        corpus = Corpus(encode(config.task, data, student).sources, targets.read())
        extra = {
            "align": dataclasses.asdict(config.align),
            "teacher": identify(teacher),
            "targets": targets.digest(),
        }
        Job(config, folder, student, data, corpus, _loss(config, teacher, student), extra=extra).run()
        return folder


def _student(config: AlignConfig, data: Dataset, teacher: Start) -> Start:
    if config.shape is not None:
        return from_scratch(config, TokenizerSettings(path=str(teacher.tokenizer_folder)), data)
    student = from_checkpoint(config, "small", config.align.start, config.train.dropout)
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise BildError("The two models have different vocabularies: only models over one vocabulary can be aligned.")
    return student


def _targets(config: AlignConfig, folder: Path, teacher: Start, data: Dataset) -> TargetFile:
    """The large model's outputs, complete: what is missing is decoded now."""
    task = config.task
    sources = encode(task, data, teacher).sources
    identity = config_hash(
        {
            "teacher": identify(teacher),
            "data": data.provenance["hash"],
            "limits": [task.prompt, task.source_limit, task.target_limit],
            "torch": torch.__version__,
        }
    )
    ids = [example.id for example in data]
    file = TargetFile(folder, identity, ids, [len(source) for source in sources], config.align.batch)
    missing = sum(map(len, file.batches[file.done :]))
    if file.done:
        say(f"{file.path} has {len(data) - missing} of {len(data)} outputs; going on from there")
    written = write_targets(file, teacher.module, sources, vocabulary=teacher.vocabulary, max_length=task.target_limit)
    for _ in track(written, missing, "outputs of the large model"):
        pass
    return file


def _loss(config: AlignConfig, teacher: Start, student: Start) -> Loss:
    kind, settings = config.align.loss, config.train
    if kind == "sequence":
        return lambda module, batch: likelihood_loss(module, batch, settings.exit, settings.label_smoothing)
    vocabulary = min(teacher.vocabulary, student.vocabulary)
    return lambda module, batch: divergence_loss(kind, module, teacher.module, batch, vocabulary)
