"""Alignment (paper 3.5.1): the large model writes outputs for the training inputs, the small one learns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bild.engines.bridge import BridgedEncoder, cut_encoder
from bild.errors import BildError
from bild.progress import say, track
from bild.results import config_hash
from bild.tasks import Dataset
from bild.training.config import AlignConfig, TokenizerSettings
from bild.training.corpus import Batch, Corpus, make_batch
from bild.training.folder import training_folder
from bild.training.job import Job, encode, load_split
from bild.training.lessons import Lessons
from bild.training.loop import Loss
from bild.training.optimization import divergence_from, divergence_loss, likelihood_loss, logits_at
from bild.training.start import Start, from_checkpoint, from_scratch, identify
from bild.training.targets import TargetFile, write_targets

_FITTED = 2048
"""Sources that a bridge is fitted to."""


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
        lessons = None
        if isinstance(student.module.encoder, BridgedEncoder) and config.align.loss != "sequence":
            vocabulary = min(teacher.vocabulary, student.vocabulary)
            lessons = Lessons(teacher.module, corpus, vocabulary, folder, config.align.batch)
        extra = {
            "align": asdict(config.align),
            "teacher": identify(teacher),
            "targets": targets.digest(),
        }
        judged = teacher.module if config.train.select == "agreement" else None
        loss = _loss(config, teacher, student, lessons)
        Job(config, folder, student, data, corpus, loss, extra=extra, teacher=judged).run()
        if lessons is not None:
            lessons.forget()
        return folder


def _student(config: AlignConfig, data: Dataset, teacher: Start) -> Start:
    if config.shape is not None:
        student = from_scratch(config, TokenizerSettings(path=str(teacher.tokenizer_folder)), data)
        if config.align.bridge:
            cut_encoder(student.module, teacher.module.encoder)
        return student
    student = from_checkpoint(config, "small", config.align.start, config.train.dropout, teacher.model)
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise BildError("The two models have different vocabularies: only models over one vocabulary can be aligned.")
    if config.align.bridge and not isinstance(student.module.encoder, BridgedEncoder):
        weight = least_squares_bridge(teacher.module, student.module, encode(config.task, data, student).sources)
        cut_encoder(student.module, teacher.module.encoder).encoder.bridge.weight.data.copy_(weight)
    return student


@torch.inference_mode()
def least_squares_bridge(large: Any, small: Any, sources: Sequence[list[int]]) -> Tensor:
    """Return the map [d_small, d_large] that comes nearest to the small module's encoder, from some of the sources."""
    found: list[tuple[Tensor, Tensor]] = []
    for at in range(0, min(len(sources), _FITTED), _FITTED // 32):
        chosen = sources[at : at + _FITTED // 32]
        batch = make_batch(chosen, [[0]] * len(chosen), large.config.pad_token_id, large.device)
        asked = {"input_ids": batch.sources, "attention_mask": batch.source_mask}
        both = (module.encoder(**asked).last_hidden_state[batch.source_mask > 0].float() for module in (large, small))
        found.append((next(both), next(both)))
    theirs, own = (torch.cat(states).cpu() for states in zip(*found, strict=True))
    solution: Tensor = torch.linalg.lstsq(theirs, own).solution
    return solution.T


def _targets(config: AlignConfig, folder: Path, teacher: Start, data: Dataset) -> TargetFile:
    """Return the large model's outputs, complete: missing ones are decoded now."""
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
    file.close()
    return file


def _loss(config: AlignConfig, teacher: Start, student: Start, lessons: Lessons | None) -> Loss:
    kind, settings = config.align.loss, config.train
    if kind == "sequence":
        return lambda module, batch: likelihood_loss(module, batch, settings.exit, settings.label_smoothing)
    vocabulary = min(teacher.vocabulary, student.vocabulary)
    if lessons is not None:
        return partial(lesson_loss, kind, lessons)
    return lambda module, batch: divergence_loss(kind, module, teacher.module, batch, vocabulary)


def lesson_loss(kind: str, lessons: Lessons, module: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what `divergence_loss` does, of a module that reads the large model's states through its bridge."""
    states, given = lessons(batch)
    return divergence_from(kind, logits_at(module, batch, [], module.encoder.bridge(states))[0], given, batch)
