"""The library's own greedy `generate()`: the yardstick that stands beside every speedup."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns

import torch
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from bild.models import Pair


def library_generate(pair: Pair, source: Sequence[int], max_length: int) -> tuple[list[int], int]:
    """Decode one source by the large model alone: (token ids, time in ns), synchronised on both sides.

    A checkpoint's own generation settings (beams, repetition rules) are left out: greedy is what all methods here do.
    """
    module = pair.large.module
    # As the model's own settings, because generate() fills from these what its argument leaves open.
    module.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_length=max_length,
        decoder_start_token_id=pair.start,
        eos_token_id=pair.eos,
        pad_token_id=module.config.pad_token_id,
    )
    cuda = pair.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(pair.device)
    began = perf_counter_ns()
    with torch.inference_mode():
        ids = torch.tensor([list(source)], device=pair.device)
        # A cache of our own: the library sizes its default one by the encoder and fails on deeper decoders.
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        mask = torch.ones_like(ids)
        output = module.generate(ids, attention_mask=mask, past_key_values=cache)
        tokens: list[int] = output[0].tolist()
    return tokens, perf_counter_ns() - began
