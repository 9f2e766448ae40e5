"""The large model's words on the training sources: its outputs, and its distribution at each of their tokens.

The outputs are a file that grows batch by batch, so a kill loses one at most. Nothing in a training changes states and
distributions, so they are computed once, in fp16, into a file that is mapped and read batch by batch; where the disk
has no room for it, they are computed again in every step.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bild.errors import BildError
from bild.progress import say, track
from bild.results.codec import decode, read_json
from bild.results.files import GrowingFile, parse, read_file, write_atomically, writing
from bild.training.corpus import IGNORED, Batch, Corpus, by_length, make_batch
from bild.training.folder import HEAD, LESSONS, LINES
from bild.training.judge import greedy_batch
from bild.training.optimization import logits_at

_SPARE = 0.8
"""The share of the free disk that may be taken."""


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

    def __init__(self, folder: Path, identity: str, ids: Sequence[str], batches: Sequence[Sequence[int]]) -> None:
        """Open the file, cut off what a kill left behind; BildError where it belongs to other outputs."""
        self.path = folder / LINES
        self.ids, self.batches = ids, batches
        head = TargetHead(1, identity, len(ids), len(batches[0]))
        if not (folder / HEAD).exists():
            self.path.unlink(missing_ok=True)
            write_atomically(folder / HEAD, json.dumps(asdict(head)) + "\n")
        elif read_json(TargetHead, folder / HEAD, "cannot be read", "start anew with resume=false", 1) != head:
            raise BildError(
                f"{folder} holds the outputs of another model, or for other sources: choose another folder with "
                "out=..., or start anew with resume=false."
            )
        with writing(self.path, "the batches before are kept"):
            self._file = GrowingFile(self.path)
            self.targets = self._whole_batches()
            self._file.cut(sum(len(_line(target)) for target in self.targets))

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
        with writing(self.path, f"the {number} batches before are kept"):
            self._file.append(b"".join(map(_line, made)))
        self.targets += made

    def close(self) -> None:
        """Let go of the file; what was read of it stays."""
        self._file.close()

    def read(self, first: int | None = None) -> list[list[int]]:
        """Return the outputs (of the `first` examples) in the order of the data. BildError while some are missing."""
        by_id, asked = {target.id: target.tokens for target in self.targets}, self.ids[:first]
        if not by_id.keys() >= set(asked):
            raise BildError(f"{self.path} has {len(by_id)} of {len(self.ids)} outputs: run the command again.")
        return [by_id[name] for name in asked]

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
    file: TargetFile,
    module: Any,
    sources: Sequence[list[int]],
    prefixes: Mapping[int, list[int]],
    *,
    until: int,
    vocabulary: int,
    max_length: int,
) -> Iterator[int]:
    """Decode the missing outputs of the batches before `until`; yield the index of each example that is written.

    An output begins with the tokens that `prefixes` has for its example.
    """
    for number in range(file.done, until):
        chosen = file.batches[number]
        asked = [sources[i] for i in chosen], [prefixes.get(i, []) for i in chosen]
        outputs = greedy_batch(module, *asked, vocabulary=vocabulary, max_length=max_length)
        file.append(number, outputs)
        yield from chosen


class Lessons:
    """What a large model (a library's module) says of a corpus of its own outputs."""

    def __init__(self, module: Any, corpus: Corpus, vocabulary: int, folder: Path, batch: int) -> None:
        self.module, self.corpus, self.vocabulary = module, corpus, vocabulary
        self.width = int(module.config.d_model)
        self.at_source = [0, *accumulate(map(len, corpus.sources))]
        self.at_target = [0, *accumulate(map(len, corpus.targets))]
        self.path = folder / LESSONS
        self.kept: tuple[np.ndarray, np.ndarray] | None = None
        """States [source tokens of all examples, D] and log-probabilities [target tokens, vocabulary]."""
        size = 2 * (self.at_source[-1] * self.width + self.at_target[-1] * vocabulary)
        if self.path.exists() and self.path.stat().st_size == size:
            self.kept = self._mapped(self.path, "r")
        elif size < _SPARE * shutil.disk_usage(folder).free:
            say(f"states and distributions of the large model are kept in {self.path} ({size / 1e9:.1f} GB)")
            self._fill(batch)
        else:
            say(f"{folder} has no room for {size / 1e9:.1f} GB: the large model is run in every step")

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the states [b, S, D] of a batch, and the log-probabilities [n, V] at its n target tokens."""
        if self.kept is None:
            return self._computed(batch)
        states, logp = self.kept
        found = np.zeros((*batch.sources.shape, self.width), np.float16)
        for row, i in enumerate(batch.indices):
            found[row, : len(self.corpus.sources[i])] = states[self.at_source[i] : self.at_source[i + 1]]
        given = np.concatenate([logp[self.at_target[i] : self.at_target[i + 1]] for i in batch.indices])
        device = batch.sources.device
        return torch.from_numpy(found).to(device).float(), torch.from_numpy(given).to(device).float()

    def forget(self) -> None:
        """Delete the file, when nothing is learnt from it any more."""
        self.kept = None
        self.path.unlink(missing_ok=True)

    @torch.no_grad()
    def _computed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        encoded = self.module.encoder(input_ids=batch.sources, attention_mask=batch.source_mask).last_hidden_state
        logits = logits_at(self.module, batch, [], encoded)[0]
        return encoded.float(), F.log_softmax(logits[batch.targets != IGNORED][:, : self.vocabulary], dim=-1)

    def _mapped(self, path: Path, mode: Any) -> tuple[np.ndarray, np.ndarray]:
        sources, targets = self.at_source[-1] * self.width, self.at_target[-1] * self.vocabulary
        table = np.memmap(path, np.float16, mode, shape=(sources + targets,))
        return table[:sources].reshape(-1, self.width), table[sources:].reshape(-1, self.vocabulary)

    def _fill(self, size: int) -> None:
        unfinished = self.path.with_suffix(".unfinished")
        with writing(unfinished, "the outputs of the large model are kept"):
            try:
                tables = self._mapped(unfinished, "w+")
                device = next(self.module.parameters()).device
                batches = by_length(len(self.corpus), lambda i: len(self.corpus.sources[i]), size)
                for chosen in track(batches, len(batches), "batches of states and distributions"):
                    self._write(tables, chosen, device)
                unfinished.replace(self.path)
            finally:
                unfinished.unlink(missing_ok=True)
        self.kept = tables

    def _write(self, tables: tuple[np.ndarray, np.ndarray], chosen: Sequence[int], device: torch.device) -> None:
        sources, targets = ([table[i] for i in chosen] for table in (self.corpus.sources, self.corpus.targets))
        batch = make_batch(sources, targets, self.module.config.pad_token_id, device)
        states, given = self._computed(batch)
        logp, encoded, at = given.half().cpu().numpy(), states.half().cpu().numpy(), 0
        for row, i in enumerate(chosen):
            tables[0][self.at_source[i] : self.at_source[i + 1]] = encoded[row, : len(sources[row])]
            tables[1][self.at_target[i] : self.at_target[i + 1]] = logp[at : at + len(targets[row])]
            at += len(targets[row])
