"""Alignment (paper 3.5.1): the large model writes outputs for the training inputs, the small one learns them.

The outputs are stored batch by batch, so a kill loses one batch at most.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bild.errors import BildError
from bild.progress import say, track
from bild.results import config_hash
from bild.results.files import write_atomically, write_error
from bild.tasks import Dataset
from bild.training.config import AlignConfig, TokenizerSettings
from bild.training.corpus import Corpus, by_length
from bild.training.folder import HEAD, LINES, training_folder
from bild.training.job import Job, encode, load_split
from bild.training.judge import greedy_batch
from bild.training.loop import Loss
from bild.training.optimization import divergence_loss, likelihood_loss
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
    return file


def _loss(config: AlignConfig, teacher: Start, student: Start) -> Loss:
    kind, settings = config.align.loss, config.train
    if kind == "sequence":
        return lambda module, batch: likelihood_loss(module, batch, settings.exit, settings.label_smoothing)
    vocabulary = min(teacher.vocabulary, student.vocabulary)
    return lambda module, batch: divergence_loss(kind, module, teacher.module, batch, vocabulary)


class TargetFile:
    """`targets.jsonl`: one line per example ({"batch", "id", "tokens"}), whole batches only.

    The batches are those of an uninterrupted run, so a resumed one writes the same lines: an output may hang on what it
    is padded beside, in the last bits.
    """

    def __init__(self, folder: Path, identity: str, ids: Sequence[str], lengths: Sequence[int], batch: int) -> None:
        """Open the file, cut off what a kill left behind; BildError where it belongs to other outputs."""
        self.path = folder / LINES
        self.ids = ids
        self.batches = by_length(len(ids), lambda i: lengths[i], batch)
        head = {"schema": 1, "identity": identity, "examples": len(ids), "batch": batch}
        found = _read_head(folder / HEAD)
        if found is not None and found != head:
            raise BildError(
                f"{folder} holds the outputs of another model, or for other sources: choose another folder with "
                "out=..., or start anew with resume=false."
            )
        if found is None:
            self.path.unlink(missing_ok=True)
            text = json.dumps(head) + "\n"
            write_atomically(folder / HEAD, text)
        self.done = self._cut()

    def _cut(self) -> int:
        """Count the whole batches, and drop what follows them."""
        if not self.path.exists():
            self.path.touch()
        data = self.path.read_bytes()
        end = count = at = 0
        lines = data.split(b"\n")[:-1]  # empty, or torn: what follows the last newline
        for number, chosen in enumerate(self.batches):
            rows = lines[at : at + len(chosen)]
            wanted = [(number, self.ids[i]) for i in chosen]
            if [_key(row) for row in rows] != wanted:
                break
            at += len(rows)
            end += sum(len(row) + 1 for row in rows)
            count += 1
        if end < len(data):
            with self.path.open("r+b") as file:
                file.truncate(end)
        return count

    def append(self, number: int, outputs: Sequence[list[int]]) -> None:
        """Add the outputs of one batch. BildError where the disk does not take them; what was there is kept."""
        rows = [
            json.dumps({"batch": number, "id": self.ids[i], "tokens": tokens})
            for i, tokens in zip(self.batches[number], outputs, strict=True)
        ]
        before = self.path.stat().st_size
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(("\n".join(rows) + "\n").encode())
        except BaseException as error:
            with self.path.open("r+b") as file:
                file.truncate(before)
            if isinstance(error, OSError):
                raise write_error(self.path, error, f"the {number} batches before are kept") from None
            raise
        self.done = number + 1

    def read(self) -> list[list[int]]:
        """Read the outputs in the order of the data. BildError while some are missing."""
        by_id = {row["id"]: row["tokens"] for row in map(json.loads, self.path.read_bytes().splitlines())}
        if len(by_id) != len(self.ids):
            raise BildError(f"{self.path} has {len(by_id)} of {len(self.ids)} outputs: run the command again.")
        return [by_id[name] for name in self.ids]

    def digest(self) -> str:
        """Return a hash that changes with any of the outputs."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


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


def _key(row: bytes) -> tuple[int, str] | None:
    try:
        plain = json.loads(row)
        return plain["batch"], plain["id"]
    except (ValueError, KeyError, TypeError):
        return None


def _read_head(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BildError(f"{path} cannot be read ({error}): start anew with resume=false.") from error
    return found
