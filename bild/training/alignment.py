"""Alignment (paper 3.5.1): the large model writes outputs for the training inputs, the small one learns them.

The outputs are stored batch by batch, so a kill loses one batch at most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bild.engines.bridge import BridgedEncoder, cut_encoder
from bild.errors import BildError
from bild.progress import say, track
from bild.results import config_hash
from bild.results.codec import decode
from bild.results.files import GrowingFile, parse, read_file, read_json, write_atomically, write_error
from bild.tasks import Dataset
from bild.training.config import AlignConfig, TokenizerSettings
from bild.training.corpus import Batch, Corpus, by_length, make_batch
from bild.training.folder import HEAD, LINES, training_folder
from bild.training.job import Job, encode, load_split
from bild.training.judge import greedy_batch
from bild.training.lessons import Lessons
from bild.training.loop import Loss
from bild.training.optimization import divergence_from, divergence_loss, likelihood_loss, logits_at
from bild.training.start import Start, from_checkpoint, from_scratch, identify

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


@dataclass(frozen=True)
class TargetHead:
    """`targets.json`: what the outputs are outputs of."""

    schema: int
    identity: str
    examples: int
    batch: int


@dataclass(frozen=True)
class Target:
    """A line of `targets.jsonl`."""

    batch: int
    id: str
    tokens: list[int]


class TargetFile:
    """`targets.jsonl`: one line per example, whole batches only.

    The batches are those of an uninterrupted run, so a resumed one writes the same lines: an output may hang on what it
    is padded beside, in the last bits.
    """

    def __init__(self, folder: Path, identity: str, ids: Sequence[str], lengths: Sequence[int], batch: int) -> None:
        """Open the file, cut off what a kill left behind; BildError where it belongs to other outputs."""
        self.path = folder / LINES
        self.ids = ids
        self.batches = by_length(len(ids), lambda i: lengths[i], batch)
        head = TargetHead(1, identity, len(ids), batch)
        if not (folder / HEAD).exists():
            self.path.unlink(missing_ok=True)
            write_atomically(folder / HEAD, json.dumps(asdict(head)) + "\n")
        elif read_json(TargetHead, folder / HEAD, "cannot be read", "start anew with resume=false", 1) != head:
            raise BildError(
                f"{folder} holds the outputs of another model, or for other sources: choose another folder with "
                "out=..., or start anew with resume=false."
            )
        try:
            self._file = GrowingFile(self.path)
            self.targets = self._whole_batches()
            self._file.cut(sum(len(_line(target)) for target in self.targets))
        except OSError as error:
            raise write_error(self.path, error, "the batches before are kept") from None

    def _whole_batches(self) -> list[Target]:
        """Read the targets of the batches that are there as a whole, up to the first that is not."""
        found: list[Target] = []
        rows = iter(read_file(self.path).splitlines(keepends=True))
        for number, chosen in enumerate(self.batches):
            batch = [_target(row) for row in islice(rows, len(chosen))]
            if [target and (target.batch, target.id) for target in batch] != [(number, self.ids[i]) for i in chosen]:
                break
            found += (target for target in batch if target is not None)
        return found

    @property
    def done(self) -> int:
        """The batches that are there."""
        return self.targets[-1].batch + 1 if self.targets else 0

    def append(self, number: int, outputs: Sequence[list[int]]) -> None:
        """Add the outputs of one batch. BildError where the disk does not take them; what was there is kept."""
        batch = zip(self.batches[number], outputs, strict=True)
        made = [Target(number, self.ids[i], tokens) for i, tokens in batch]
        try:
            self._file.append(b"".join(map(_line, made)))
        except OSError as error:
            raise write_error(self.path, error, f"the {number} batches before are kept") from None
        self.targets += made

    def close(self) -> None:
        """Let go of the file; what was read of it stays."""
        self._file.close()

    def read(self) -> list[list[int]]:
        """Return the outputs in the order of the data. BildError while some are missing."""
        by_id = {target.id: target.tokens for target in self.targets}
        if len(by_id) != len(self.ids):
            raise BildError(f"{self.path} has {len(by_id)} of {len(self.ids)} outputs: run the command again.")
        return [by_id[name] for name in self.ids]

    def digest(self) -> str:
        """Return a hash that changes with any of the outputs."""
        return hashlib.sha256(b"".join(map(_line, self.targets))).hexdigest()


def _line(target: Target) -> bytes:
    return (json.dumps(asdict(target)) + "\n").encode()


def _target(row: bytes) -> Target | None:
    """Read a line; None where it is torn, or not as it was written."""
    try:
        found: Target = decode(Target, parse(row))
    except ValueError:
        return None
    return found if _line(found) == row else None


def write_targets(
    file: TargetFile, module: Any, sources: Sequence[list[int]], *, vocabulary: int, max_length: int
) -> Iterator[int]:
    """Decode the missing outputs batch by batch; yield the index of each example that is written."""
    config = module.config
    for number in range(file.done, len(file.batches)):
        chosen = [sources[i] for i in file.batches[number]]
        outputs = greedy_batch(
            module,
            chosen,
            vocabulary=vocabulary,
            start=config.decoder_start_token_id,
            eos=config.eos_token_id,
            max_length=max_length,
        )
        file.append(number, outputs)
        yield from file.batches[number]
