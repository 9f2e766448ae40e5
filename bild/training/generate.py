"""Greedy outputs of a model for many sources, in batches: for validation, and as the targets of alignment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bild.training.corpus import by_length, make_batch


def greedy_outputs(
    module: Any, sources: Sequence[list[int]], *, vocabulary: int, start: int, eos: int, max_length: int, batch: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield (index of the source, its output) batch by batch, similar lengths together.

    Outputs end with the end token unless `max_length`, which counts the start token, came first; ids from `vocabulary`
    on (padding of the head) are never chosen. The module must be in evaluation mode.
    """
    for chosen in by_length(len(sources), lambda i: len(sources[i]), batch):
        outputs = greedy_batch(
            module, [sources[i] for i in chosen], vocabulary=vocabulary, start=start, eos=eos, max_length=max_length
        )
        yield from zip(chosen, outputs, strict=True)


@torch.inference_mode()
def greedy_batch(
    module: Any, sources: Sequence[list[int]], *, vocabulary: int, start: int, eos: int, max_length: int
) -> list[list[int]]:
    """The outputs of one batch. A sequence that has ended leaves the batch."""
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    device = next(module.parameters()).device
    source, mask, _ = make_batch(sources, [[0]] * len(sources), start, device)
    states = module.encoder(input_ids=source, attention_mask=mask).last_hidden_state
    # The library's own cache is sized by the encoder, which a deeper decoder does not survive.
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    outputs: list[list[int]] = [[] for _ in sources]
    active = list(range(len(sources)))
    fed = torch.full((len(sources), 1), start, device=device)
    for _ in range(max_length - 1):
        choice = _step(module, fed, states, mask, cache, vocabulary)
        tokens = choice.tolist()
        for row, token in zip(active, tokens, strict=True):
            outputs[row].append(token)
        going = [place for place, token in enumerate(tokens) if token != eos]
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
    """The greedy choices [b] after the last tokens `fed` [b, 1]."""
    out = module(
        encoder_outputs=(states,),
        attention_mask=mask,
        decoder_input_ids=fed,
        past_key_values=cache,
        use_cache=True,
    )
    choice: Tensor = out.logits[:, -1, :vocabulary].argmax(dim=-1)
    return choice
