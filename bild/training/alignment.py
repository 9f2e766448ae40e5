"""Alignment (paper 3.5.1): the large model writes outputs for the training inputs, the small one learns them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bild.engines.bridge import BridgedEncoder, cut_encoder
from bild.errors import BildError
from bild.progress import say, track
from bild.results import config_hash
from bild.tasks import Dataset
from bild.training.config import FOLLOWED, AlignConfig, TokenizerSettings
from bild.training.corpus import IGNORED, Batch, Corpus, by_length, make_batch, recombined
from bild.training.folder import training_folder
from bild.training.job import Job, check_splits, encode, load_split
from bild.training.loop import Loss
from bild.training.optimization import divergence_from, divergence_loss, likelihood_loss, logits_at, logits_behind
from bild.training.start import Start, from_checkpoint, from_scratch, identify
from bild.training.targets import Lessons, TargetFile, write_targets

_FITTED = 2048
"""Sources that a bridge is fitted to."""
_AT_ONCE = 64
"""Sources that pass through both models together."""


def align(config: AlignConfig) -> Path:
    """Align the small model of a pair to the large one, and return the folder of what was made.

    It holds the large model's outputs (`targets.jsonl`), the aligned model, its card and `training.json`. Raises
    BildError where the two have no vocabulary in common, or for data, options or folders that do not serve.
    """
    folder = Path(config.folder)
    check_splits(config)
    with training_folder(folder, config.resume) as unfinished:
        if not unfinished:
            return folder
        torch.set_num_threads(config.threads)
        data = load_split(config.task, config.splits.train)
        teacher = from_checkpoint(config, "large", "finetuned", None)
        teacher.module.eval().requires_grad_(False)
        student = _student(config, data, teacher)
        sources = _sources(config, encode(config.task, data, teacher).sources)
        targets = _targets(config, folder, teacher, student, data, sources)
        corpus = Corpus(sources, targets.read())
        lessons = None
        if isinstance(student.module.encoder, BridgedEncoder) and config.align.loss != "sequence":
            vocabulary = min(teacher.vocabulary, student.vocabulary)
            lessons = Lessons(teacher.module, corpus, vocabulary, folder, config.align.batch)
        extra = {"align": asdict(config.align), "teacher": identify(teacher), "targets": targets.digest()}
        judged = teacher.module if config.train.select in FOLLOWED else None
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
    for at in range(0, min(len(sources), _FITTED), _AT_ONCE):
        chosen = sources[at : at + _AT_ONCE]
        batch = make_batch(chosen, [[0]] * len(chosen), large.config.pad_token_id, large.device)
        asked = {"input_ids": batch.sources, "attention_mask": batch.source_mask}
        both = (module.encoder(**asked).last_hidden_state[batch.source_mask > 0].float() for module in (large, small))
        found.append((next(both), next(both)))
    theirs, own = (torch.cat(states).cpu() for states in zip(*found, strict=True))
    solution: Tensor = torch.linalg.lstsq(theirs, own).solution
    return solution.T


def _sources(config: AlignConfig, real: list[list[int]]) -> list[list[int]]:
    """Return all sources that are learnt from: those of the corpus, their recombinations, and once more themselves."""
    dice = np.random.Generator(np.random.PCG64([config.train.seed, 2]))
    made = [source for _ in range(config.align.augment) for source in recombined(real, dice)]
    return [*real, *made, *(real if config.align.on_policy else [])]


def _targets(
    config: AlignConfig, folder: Path, teacher: Start, student: Start, data: Dataset, sources: list[list[int]]
) -> TargetFile:
    """Return the large model's outputs, complete: missing ones are decoded now."""
    task, settings = config.task, config.align
    limits = [task.prompt, task.source_limit, task.target_limit]
    known = {
        "teacher": identify(teacher),
        "data": data.provenance["hash"],
        "limits": limits,
        "torch": torch.__version__,
    }
    if settings.augment or settings.on_policy:
        known["made"] = [settings.augment, config.train.seed, identify(student) if settings.on_policy else None]
    ids = [f"{example.id}{f'+{copy}' if copy else ''}" for copy in range(len(sources) // len(data)) for example in data]
    batches = [
        [first + i for i in chosen]
        for first in range(0, len(sources), len(data))
        for chosen in by_length(len(data), [len(source) for source in sources[first:]].__getitem__, settings.batch)
    ]
    file = TargetFile(folder, config_hash(known), ids, batches)
    missing = sum(map(len, file.batches[file.done :]))
    if file.done:
        say(f"{file.path} has {len(ids) - missing} of {len(ids)} outputs; going on from there")
    for _ in track(_written(file, config, teacher, student, sources, len(data)), missing, "outputs of the large model"):
        pass
    file.close()
    return file


def _written(
    file: TargetFile, config: AlignConfig, teacher: Start, student: Start, sources: list[list[int]], real: int
) -> Iterator[int]:
    """Write what is missing; those on the small model's tokens last, since they begin as the first `real` outputs."""
    limits = {"vocabulary": teacher.vocabulary, "max_length": config.task.target_limit}
    last = len(file.batches)
    drafts = last // (len(sources) // real) if config.align.on_policy else 0
    yield from write_targets(file, teacher.module, sources, {}, until=last - drafts, **limits)
    if file.done < last:
        dice = np.random.Generator(np.random.PCG64([config.train.seed, 3]))
        texts, vocabulary = (sources[:real], file.read(real)), min(teacher.vocabulary, student.vocabulary)
        prefixes = drafted_prefixes(teacher.module, student.module, *texts, vocabulary, dice)
        begun = dict(enumerate(prefixes, len(sources) - real))
        yield from write_targets(file, teacher.module, sources, begun, until=last, **limits)


@torch.inference_mode()
def drafted_prefixes(
    large: Any,
    small: Any,
    sources: list[list[int]],
    outputs: list[list[int]],
    vocabulary: int,
    dice: np.random.Generator,
) -> list[list[int]]:
    """Return a text for each output of the large module that BiLD could have reached in its place.

    It is the output up to a token where the small module's choice is another one, and that choice; the more likely
    one is to the large module, the more often it is taken. Where they agree throughout, it is the output.
    """
    prefixes, mode = list(outputs), small.training
    small.eval()
    for chosen in by_length(len(sources), lambda i: len(sources[i]), _AT_ONCE):
        rows = [sources[i] for i in chosen], [outputs[i] for i in chosen]
        batch = make_batch(*rows, large.config.pad_token_id, large.device)
        theirs, own = (logits_at(module, batch, [])[0][..., :vocabulary] for module in (large, small))
        choice = own.argmax(-1)
        share = theirs.softmax(-1).gather(-1, choice[..., None])[..., 0]
        share[(choice == batch.targets) | (batch.targets == IGNORED)] = 0.0
        for row, i in enumerate(chosen):
            weights = share[row].double().cpu().numpy()
            if weights.sum() > 0:
                at = int(dice.choice(len(weights), p=weights / weights.sum()))
                prefixes[i] = [*outputs[i][:at], int(choice[row, at])]
    small.train(mode)
    return prefixes


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
    return divergence_from(kind, logits_behind(module, batch, module.encoder.bridge(states)), given, batch)
