"""Who takes part in a contest: the engines, and the library's own ways of decoding. All are timed alike.

The field of a contest: every engine and peer that was asked for, built, or a row that says why it is not there.
"""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import psutil
import torch

from bild.bench import ctranslate
from bild.bench.config import BenchConfig
from bild.bench.roofline import synchronize
from bild.bench.subjects import Subject
from bild.engines import Engine, build_engine
from bild.results.bench import ABSENT, FAILED, SKIPPED


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


SMALL = ", small model"
_MEANINGLESS = "random weights accept no draft: it needs a pair (model=...)"
_ROOM = {"hf": 0.0, "ctranslate2": 1.3, "ctranslate2-int8": 1.3}
"""Memory in sizes of the model while an entrant is built, peaks included; other engines lay out their own weights."""
_ROOM_ENGINE = 2.3
_SPARE = 1.5 * 2**30
"""Bytes that are left to all others."""


@dataclass
class Field:
    """Entrants by name, in the order of the table; and what is not there, with its status and reason."""

    entrants: dict[str, Entrant] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    precisions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    missing: dict[str, tuple[str, str]] = field(default_factory=dict)


def build_field(config: BenchConfig, subject: Subject, device: torch.device) -> Field:
    """Build what was asked for. A builder that fails becomes a missing row."""
    made = Field()
    conversions = ctranslate.Conversions(subject.large, subject.start)

    def enter(name: str, kind: str, build: Callable[[], Entrant], precision: str = config.dtype) -> None:
        made.kinds[name], made.precisions[name] = kind, precision
        short = _lacking(_ROOM.get(name, _ROOM_ENGINE if kind == "engine" else 0.0) * subject.model_bytes, device)
        if short is not None:
            made.missing[name] = (SKIPPED, short)
            return
        try:
            made.entrants[name] = build()
        except Exception as error:  # whatever a library raises; the others go on
            made.missing[name] = (FAILED, " ".join(str(error).split())[:200] or type(error).__name__)

    try:
        for name in config.engines:
            enter(name, "engine", _engine(name, subject.large, config, subject))
        for name in config.peers:
            reason = _not_possible(name, subject)
            if reason is not None:
                made.kinds[name], made.precisions[name], made.missing[name] = "peer", config.dtype, reason
            elif name.startswith("ctranslate2"):
                compute = "int8" if name.endswith("int8") else ctranslate.COMPUTE[config.dtype]
                build = _ctranslate(conversions, compute, device, config.threads)
                enter(name, "peer", build, "int8" if compute == "int8" else config.dtype)
            else:
                enter(name, "peer", _library(name, config, subject))
        if subject.small is not None:
            for name in config.engines:
                enter(f"{name}{SMALL}", "small", _engine(name, subject.small, config, subject))
    finally:
        conversions.close()
    for name, entrant in made.entrants.items():
        if isinstance(entrant, ctranslate.CTranslateEntrant):
            made.notes[name] = entrant.name
    return made


def _engine(name: str, module: torch.nn.Module, config: BenchConfig, subject: Subject) -> Callable[[], Entrant]:
    def build() -> Entrant:
        # No id is -1, so the end token ends nothing.
        engine = build_engine(name, module, dtype=config.dtype, eos=-1, vocabulary=subject.vocabulary)
        return EngineEntrant(engine, subject.start, subject.vocabulary)

    return build


def _ctranslate(
    conversions: ctranslate.Conversions, compute: str, device: torch.device, threads: int
) -> Callable[[], Entrant]:
    return lambda: conversions.entrant(compute, device, threads)


def _library(name: str, config: BenchConfig, subject: Subject) -> Callable[[], Entrant]:
    def build() -> Entrant:
        drafted = config.assistant_tokens
        return LibraryEntrant(
            subject.large,
            subject.start,
            static=name == "generate-static",
            assistant=prepare_assistant(subject.small, drafted) if name == "assisted" else None,
            lookup=drafted if name == "prompt-lookup" else None,
        )

    return build


def _not_possible(name: str, subject: Subject) -> tuple[str, str] | None:
    if name.startswith("ctranslate2") and not ctranslate.installed():
        return ABSENT, ctranslate.ABSENT
    random_weights = subject.details["is"] == "shape"
    if name in ("assisted", "prompt-lookup") and random_weights:
        return SKIPPED, _MEANINGLESS
    if name == "assisted" and subject.small is None:
        return SKIPPED, "the library's early exit does not work with T5"
    return None


def _lacking(needed: float, device: torch.device) -> str | None:
    """A sentence where there is not enough memory, before the system ends the process for taking it."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    if not needed or needed + _SPARE <= free:
        return None
    return f"needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free"
