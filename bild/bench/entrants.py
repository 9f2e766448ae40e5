"""Who takes part in a contest: the engines, and the library's own ways of decoding. All are timed alike."""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import torch

from bild.bench.rates import synchronize
from bild.engines import Engine


@dataclass(frozen=True)
class Timed:
    """One source decoded greedily, the end token disabled."""

    tokens: list[int]
    """Without the start token."""
    first_ns: int
    """To the first token: encoder, the source's keys and values, first step. Assisted: to the end of round one."""
    rest_ns: int
    rest: int
    """Tokens that were written in `rest_ns`."""


class Entrant(ABC):
    """Something that decodes."""

    @abstractmethod
    def decode(self, source: Sequence[int], tokens: int) -> Timed:
        """Write one token, and then `tokens` more."""


class EngineEntrant(Entrant):
    """One of `bild.engines`, which must have been built with an end token that no model writes."""

    def __init__(self, engine: Engine, start: int, rows: int) -> None:
        self.engine, self.start = engine, start
        self.filler = [random.Random(0).randrange(2, rows) for _ in range(4096)]

    def decode(self, source: Sequence[int], tokens: int) -> Timed:
        """See `Entrant.decode`."""
        engine = self.engine
        engine.synchronize()
        began = perf_counter_ns()
        engine.start(source)
        first = engine.step([self.start]).choice
        engine.synchronize()
        then = perf_counter_ns()
        written, _, _ = engine.draft(first, tokens, 0.0)
        engine.synchronize()
        return Timed([*first, *written], then - began, perf_counter_ns() - then, len(written))

    def wide(self, source: Sequence[int], width: int, cached: int) -> int:
        """One pass over `width` tokens behind `cached` positions, all of them reported on, in ns."""
        engine = self.engine
        if engine.length < cached:
            engine.start(source)
            engine.step(self.filler[:cached])
        engine.rewind(cached)
        engine.synchronize()
        began = perf_counter_ns()
        engine.step(self.filler[:width], want=width)
        engine.synchronize()
        return perf_counter_ns() - began


class LibraryEntrant(Entrant):
    """transformers' `generate()`: with a dynamic or a static cache, assisted, or with prompt lookup."""

    def __init__(
        self, module: Any, start: int, *, static: bool = False, assistant: Any = None, lookup: int | None = None
    ) -> None:
        self.module, self.start, self.static = module, start, static
        self.assistant, self.lookup = assistant, lookup

    def decode(self, source: Sequence[int], tokens: int) -> Timed:
        """See `Entrant.decode`."""
        from transformers import GenerationConfig
        from transformers.generation import StoppingCriteriaList

        module, device = self.module, self.module.device
        # As the model's own settings, because generate() fills from these what its argument leaves open.
        module.generation_config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=tokens + 1,
            decoder_start_token_id=self.start,
            eos_token_id=module.config.vocab_size,  # none that it can write: None would mean the checkpoint's own
            pad_token_id=module.config.pad_token_id,
            prompt_lookup_num_tokens=self.lookup,
        )
        more: dict[str, Any] = {"past_key_values": self._cache(len(source), tokens + 2)}
        if self.assistant is not None:
            # Without these two the assistant is fed the whole text again in each round.
            more["decoder_input_ids"] = torch.full((1, 1), self.start, device=device)
            more["decoder_attention_mask"] = torch.ones((1, 1), dtype=torch.long, device=device)
            more["assistant_model"] = self.assistant
        stamp = _Stamp(device)
        synchronize(device)
        began = perf_counter_ns()
        with torch.inference_mode():
            ids = torch.tensor([list(source)], device=device)
            output = module.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                stopping_criteria=StoppingCriteriaList([stamp]),
                **more,
            )
            written: list[int] = output[0].tolist()[1:]
        ended = perf_counter_ns()
        return Timed(written, stamp.ns - began, ended - stamp.ns, len(written) - (stamp.length - 1))

    def _cache(self, source: int, room: int) -> Any:
        """A cache of our own: the library sizes its default one by the encoder, and fails on deeper decoders."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache, StaticCache

        if not self.static:
            return EncoderDecoderCache(DynamicCache(), DynamicCache())
        config = copy.copy(self.module.config)
        config.num_layers = config.num_decoder_layers
        return EncoderDecoderCache(StaticCache(config, room), StaticCache(config, source))


class _Stamp:
    """A stopping criterion that never stops: it notes when the first step had ended, and how long the text was."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ns = self.length = 0

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if not self.ns:
            synchronize(self.device)
            self.ns, self.length = perf_counter_ns(), ids.shape[1]
        return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)


def prepare_assistant(small: Any, tokens: int) -> Any:
    """Set a small model up as assistant: these settings are ignored as arguments of `generate()`."""
    from transformers import GenerationConfig

    small.generation_config = GenerationConfig(
        num_assistant_tokens=tokens,
        num_assistant_tokens_schedule="constant",  # "heuristic" leaks from one text to the next
        assistant_confidence_threshold=0.0,
        decoder_start_token_id=small.config.decoder_start_token_id,
        pad_token_id=small.config.pad_token_id,
    )
    return small
