"""Judge an epoch by the loss and the task's score on a held-out split: greedy decoding in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bild.config import TaskConfig
from bild.engines.early_exit import truncated
from bild.errors import BildError
from bild.metrics import Scorer
from bild.tasks import Dataset
from bild.training.corpus import IGNORED, Batch, Corpus, by_length, make_batch
from bild.training.loop import Validation
from bild.training.optimization import logits_at, token_losses

_BATCH = 64
_WINDOWS = (4, 10)


@dataclass
class Judge:
    """A judge of modules by the examples of one split; `exits` are scored as models of their own, too."""

    task: TaskConfig
    data: Dataset
    corpus: Corpus
    tokenizer: Any
    vocabulary: int
    exits: Sequence[int] = ()
    teacher: Any = None
    """The large model's module, where a module is judged by how often it agrees with it."""

    def __call__(self, module: Any) -> Validation:
        """Judge a module, which must be in evaluation mode."""
        others = {f"exit{n}": self.score(truncated(module, n)) for n in self.exits}
        followed = {} if self.teacher is None else self.followed(module)
        return Validation(self.loss(module), self.score(module), others, followed)

    @torch.inference_mode()
    def loss(self, module: Any) -> float:
        """Compute the loss in nats per target token."""
        total, tokens = 0.0, 0
        for batch in self._batches(module, self.corpus.targets):
            total += float(token_losses(logits_at(module, batch, [])[0], batch.targets, 0.0)[1])
            tokens += int((batch.targets != IGNORED).sum())
        return total / tokens

    @torch.inference_mode()
    def followed(self, module: Any) -> dict[str, float]:
        """Return how well the module follows the large one on that one's outputs, with one pass over each.

        "agreement" is the share of their tokens that are the module's choice, too; "tokens_per_pass_k" the tokens per
        large pass of exact speculation with drafts of k, which are all decided by those choices.
        """
        same: list[list[bool]] = []
        for batch in self._batches(module, self._outputs):
            choice = logits_at(module, batch, [])[0][..., : self.vocabulary].argmax(-1)
            lengths = (batch.targets != IGNORED).sum(-1).tolist()
            same += [row[:n] for row, n in zip((choice == batch.targets).tolist(), lengths, strict=True)]
        tokens = sum(map(len, same))
        passes = {f"tokens_per_pass_{k}": sum(large_passes(text, k) for text in same) for k in _WINDOWS}
        return {"agreement": sum(map(sum, same)) / tokens} | {name: tokens / count for name, count in passes.items()}

    def _batches(self, module: Any, targets: list[list[int]]) -> Iterator[Batch]:
        device = next(module.parameters()).device
        for chosen in by_length(len(targets), lambda i: len(targets[i]), _BATCH):
            sources = [self.corpus.sources[i] for i in chosen]
            yield make_batch(sources, [targets[i] for i in chosen], module.config.pad_token_id, device)

    @cached_property
    def _outputs(self) -> list[list[int]]:
        """The large model's own."""
        return self.outputs(self.teacher)

    def score(self, module: Any) -> float:
        """Score the module's greedy outputs by the task's metric, 0..100."""
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
        """Decode the sources greedily, to texts in the order of the data."""
        outputs = [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in self.outputs(module)]
        return [str(text) for text in outputs]

    def outputs(self, module: Any) -> list[list[int]]:
        """Decode the sources greedily, in the order of the data; similar lengths together."""
        sources = self.corpus.sources
        found: list[list[int]] = [[] for _ in sources]
        for chosen in by_length(len(sources), lambda i: len(sources[i]), _BATCH):
            rows, limit = [sources[i] for i in chosen], self.task.target_limit
            made = greedy_batch(module, rows, vocabulary=self.vocabulary, max_length=limit)
            for i, tokens in zip(chosen, made, strict=True):
                found[i] = tokens
        return found


def large_passes(same: Sequence[bool], window: int) -> int:
    """Count the large passes of exact speculation, where `same` says of each token whether the small model chooses it.

    As in `method=speculative` the large model writes the first token; of each draft the tokens before the first other
    one stand, and the large model writes the next.
    """
    at = passes = 1
    while at < len(same):
        drafted = same[at : at + window]
        at += (drafted.index(False) if False in drafted else len(drafted)) + 1
        passes += 1
    return passes


@torch.inference_mode()
def greedy_batch(
    module: Any, sources: Sequence[list[int]], prefixes: Sequence[list[int]] = (), *, vocabulary: int, max_length: int
) -> list[list[int]]:
    """Decode one batch greedily, each output from its prefix on. A sequence that has ended leaves the batch.

    Outputs end with the end token unless `max_length`, which counts the start token, came first; ids from `vocabulary`
    on (padding of the head) are never chosen. The module must be in evaluation mode.
    """
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    device, start = next(module.parameters()).device, module.config.decoder_start_token_id
    source, mask, *_ = make_batch(sources, [[0]] * len(sources), start, device)
    states = module.encoder(input_ids=source, attention_mask=mask).last_hidden_state
    # The library's own cache is sized by the encoder, which a deeper decoder does not survive.
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    outputs: list[list[int]] = [[] for _ in sources]
    active = list(range(len(sources)))
    fed = torch.full((len(sources), 1), start, device=device)
    for at in range(max_length - 1):
        choice = _step(module, fed, states, mask, cache, vocabulary)
        for place, row in enumerate(active if prefixes else []):
            if at < len(prefixes[row]):
                choice[place] = prefixes[row][at]
        tokens = choice.tolist()
        for row, token in zip(active, tokens, strict=True):
            outputs[row].append(token)
        going = [place for place, token in enumerate(tokens) if token != module.config.eos_token_id]
        if not going:
            break
        if len(going) < len(tokens):
            rows = torch.tensor(going, device=device)
            active = [active[place] for place in going]
            choice, states, mask = choice[rows], states[rows], mask[rows]
            cache.batch_select_indices(rows)
        fed = choice[:, None]
    return outputs


def _step(module: Any, fed: Tensor, states: Tensor, mask: Tensor, cache: Any, vocabulary: int) -> Tensor:
    """Return the greedy choices [b] after the last tokens `fed` [b, 1]."""
    out = module(
        encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=fed, past_key_values=cache, use_cache=True
    )
    logits: Tensor = out.logits[:, -1, :vocabulary]
    best, choice = logits.max(dim=-1)
    if not bool(torch.isfinite(best).all()):
        raise BildError(
            "The model's logits are not finite (NaN): its weights are damaged, or its training broke them; check the "
            "checkpoint, or train with a lower train.rate."
        )
    return choice
