"""The judge of an epoch: the loss and the task's score on a held-out split, by batched greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from bild.config import TaskConfig
from bild.engines.early_exit import truncated
from bild.metrics.scorer import Scorer
from bild.tasks import Dataset
from bild.training.corpus import IGNORED, Corpus, by_length, make_batch
from bild.training.loop import Validation
from bild.training.optimization import logits_at, token_losses
from bild.training.outputs import greedy_outputs

_BATCH = 64


@dataclass
class Judge:
    """Judges a module by the examples of one split; `exits` are scored as models of their own, too."""

    task: TaskConfig
    data: Dataset
    corpus: Corpus
    tokenizer: Any
    vocabulary: int
    exits: Sequence[int] = ()

    def __call__(self, module: Any) -> Validation:
        """The module must be in evaluation mode."""
        others = {f"exit{n}": self.score(truncated(module, n)) for n in self.exits}
        return Validation(self.loss(module), self.score(module), others)

    @torch.inference_mode()
    def loss(self, module: Any) -> float:
        """Nats per target token."""
        device = next(module.parameters()).device
        total, tokens = 0.0, 0
        for chosen in by_length(len(self.corpus), lambda i: len(self.corpus.targets[i]), _BATCH):
            sources, targets = ([table[i] for i in chosen] for table in (self.corpus.sources, self.corpus.targets))
            batch = make_batch(sources, targets, module.config.pad_token_id, device)
            total += float(token_losses(logits_at(module, batch, [])[0], batch.targets, 0.0)[1])
            tokens += int((batch.targets != IGNORED).sum())
        return total / tokens

    def score(self, module: Any) -> float:
        """The task's metric, 0..100."""
        table = self._scorer.table(self.texts(module))
        return self._scorer.score(table.sum(axis=0), len(table))

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.task.metric, [example.reference for example in self.data])

    @property
    def headline(self) -> str:
        """The name of the score."""
        return self._scorer.name

    @property
    def signature(self) -> str:
        """Say how the score is computed."""
        return self._scorer.signature

    def texts(self, module: Any) -> list[str]:
        """The module's greedy outputs as texts, in the order of the data."""
        config = module.config
        found = greedy_outputs(
            module,
            self.corpus.sources,
            vocabulary=self.vocabulary,
            start=config.decoder_start_token_id,
            eos=config.eos_token_id,
            max_length=self.task.target_limit,
            batch=_BATCH,
        )
        outputs = [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for _, ids in sorted(found)]
        return [str(text) for text in outputs]
