"""Engine `hf`: the library's own modules and caches behind the protocol. The oracle of the fast engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from bild.config import DecodeConfig
from bild.engines.base import Engine, Summary, summarise
from bild.engines.bridge import BridgedEncoder
from bild.engines.sampling import Sampler


class HfEngine(Engine):
    """`model(...)` of a `T5ForConditionalGeneration` or `MT5ForConditionalGeneration`, one call a step."""

    name = "hf"

    def __init__(self, module: Any, *, eos: int, vocabulary: int) -> None:
        self.module = module
        self.eos = eos
        self.vocabulary = vocabulary
        self.device = module.device
        bridged = isinstance(module.encoder, BridgedEncoder)
        self.encoder = module.encoder.shared if bridged else module.encoder
        self.bridge = module.encoder.bridge if bridged else torch.nn.Identity()
        self.length = 0

    @torch.inference_mode()
    def encode(self, source: Sequence[int]) -> torch.Tensor:
        """See `Engine.encode`: [1, S, D]."""
        states: torch.Tensor = self.encoder(input_ids=torch.tensor([source], device=self.device)).last_hidden_state
        return states

    @torch.inference_mode()
    def start(self, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        """See `Engine.start`."""
        self.sampler = Sampler.of(decode, source)
        self.encoded = BaseModelOutput(last_hidden_state=self.bridge(self.source_states(source)))
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.length = 0

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`."""
        output = self.module(
            encoder_outputs=self.encoded,
            decoder_input_ids=torch.tensor([tokens], device=self.device),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.length += len(tokens)
        self.passes += 1
        logits = output.logits[0, -want:, : self.vocabulary].float()
        return summarise(logits, tokens, ranks, self.sampler, self.length)

    def rewind(self, length: int) -> None:
        """See `Engine.rewind`."""
        surplus = self.length - length
        super().rewind(length)
        if surplus:
            self.cache.self_attention_cache.crop(-surplus)
