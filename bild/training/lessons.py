"""A frozen large model's states of each source, and its distribution at each token of its outputs.

Nothing in a training changes them, so they are computed once, in fp16, into a file that is mapped and read batch by
batch; where the disk has no room for it, they are computed again in every step.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bild.progress import say, track
from bild.results.files import write_error
from bild.training.corpus import IGNORED, Batch, Corpus, by_length, make_batch
from bild.training.folder import LESSONS
from bild.training.optimization import logits_at

_SPARE = 0.8
"""The share of the free disk that may be taken."""


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
        try:
            tables = self._mapped(unfinished, "w+")
            device = next(self.module.parameters()).device
            batches = by_length(len(self.corpus), lambda i: len(self.corpus.sources[i]), size)
            for chosen in track(batches, len(batches), "batches of states and distributions"):
                self._write(tables, chosen, device)
            unfinished.replace(self.path)
        except OSError as error:
            raise write_error(unfinished, error, "the outputs of the large model are kept") from None
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
