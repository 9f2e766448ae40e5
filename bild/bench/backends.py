"""The backends that the bench times, all alike: our engines, and beside them peers: the library's own ways of decoding,
and CTranslate2, where it is installed, an inference engine in C++ with kernels of its own."""

from __future__ import annotations

import copy
import ctypes
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import torch

from bild.bench.roofline import synchronize
from bild.engines import Engine, PassPlan
from bild.errors import BildError
from bild.measure.interleave import set_greedy

COMPUTE = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""CTranslate2's names of dtypes."""
CTRANSLATE_ABSENT = "not installed: pip install 'bild-bench[ctranslate2]'"


@dataclass(frozen=True)
class Timed:
    """One source decoded greedily, the end token disabled."""

    tokens: list[int]
    """Without the start token."""
    ttft_ns: int
    """To the first token: encoder, the source's keys and values, first step. Assisted: to the end of round one."""
    rest_ns: int
    rest: int
    """Tokens that were written in `rest_ns`."""


class Backend(ABC):
    """Something that decodes."""

    @abstractmethod
    def decode(self, source: Sequence[int], tokens: int) -> Timed:
        """Write one token, and then `tokens` more."""


class EngineBackend(Backend):
    """One of `bild.engines`, which must have been built with an end token that no model writes."""

    def __init__(self, engine: Engine, start: int, rows: int) -> None:
        self.engine, self.start = engine, start
        self._foreseen: set[tuple[int, int]] = set()
        self.filler = [random.Random(0).randrange(2, rows) for _ in range(4096)]

    def decode(self, source: Sequence[int], tokens: int) -> Timed:
        """See `Backend.decode`."""
        engine = self.engine
        if (plan := (len(source), tokens)) not in self._foreseen:
            engine.prepare(PassPlan(tokens + 2, lambda: [len(source)], 1))
            self._foreseen.add(plan)
        engine.synchronize()
        began = perf_counter_ns()
        engine.start(source)
        first = engine.step([self.start]).choice
        engine.synchronize()
        then = perf_counter_ns()
        written, _, _ = engine.draft(first, tokens, 0.0)
        engine.synchronize()
        return Timed([*first, *written], then - began, perf_counter_ns() - then, len(written))

    def verify(self, source: Sequence[int], width: int, cached: int) -> int:
        """Time one pass over `width` tokens behind `cached` positions, all of them reported on, in ns."""
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


class LibraryBackend(Backend):
    """transformers' `generate()`: with a dynamic or a static cache, compiled, assisted, or with prompt lookup."""

    def __init__(
        self,
        module: Any,
        start: int,
        *,
        static: bool = False,
        compiled: bool = False,
        assistant: Any = None,
        lookup: int | None = None,
    ) -> None:
        """`compiled`: with the static cache of the text before where it fits, since each new one is compiled anew."""
        self.module, self.start, self.static, self.compiled = module, start, static or compiled, compiled
        self.assistant, self.lookup = assistant, lookup
        self._caches: dict[tuple[int, int], Any] = {}

    def decode(self, source: Sequence[int], tokens: int) -> Timed:
        """See `Backend.decode`."""
        from transformers.generation import StoppingCriteriaList

        module, device = self.module, self.module.device
        set_greedy(
            module,
            max_new_tokens=tokens + 1,
            decoder_start_token_id=self.start,
            eos_token_id=module.config.vocab_size,  # none that it can write: None would mean the checkpoint's own
            prompt_lookup_num_tokens=self.lookup,
            disable_compile=not self.compiled,  # the library compiles by itself where a cache is static
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
                ids, attention_mask=torch.ones_like(ids), stopping_criteria=StoppingCriteriaList([stamp]), **more
            )
            written: list[int] = output[0].tolist()[1:]
        ended = perf_counter_ns()
        return Timed(written, stamp.ns - began, ended - stamp.ns, len(written) - (stamp.length - 1))

    def _cache(self, source: int, room: int) -> Any:
        """Return a cache of our own: the library sizes its default one by the encoder, and fails on deeper decoders."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache, StaticCache

        if not self.static:
            return EncoderDecoderCache(DynamicCache(), DynamicCache())
        if (source, room) in self._caches:
            kept = self._caches[source, room]
            with torch.inference_mode():  # in which its tensors were made, at their first use
                kept.reset()
            return kept
        config = copy.copy(self.module.config)
        config.num_layers = config.num_decoder_layers
        made = EncoderDecoderCache(StaticCache(config, room), StaticCache(config, source))
        if self.compiled:
            self._caches[source, room] = made
        return made


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


def ctranslate_installed() -> bool:
    """Return whether the extra is installed."""
    return find_spec("ctranslate2") is not None


def convert(module: Any, start: int, folder: str) -> None:
    """Write a T5 or mT5 in CTranslate2's format. No tokenizer is needed: its tokens are called t0, t1, ...

    In fp32, and other precisions are made when it is loaded: the converter's own int8 scales the weights in place, and
    with them the model that it was given.
    """
    from ctranslate2.converters.transformers import T5Loader

    spec = T5Loader().get_model_spec(module)
    # The converter takes the head's scale from the tie flag, which is always set: wrong for mT5 and T5 v1.1.
    scaled = getattr(module.config, "scale_decoder_outputs", False)
    spec.decoder.scale_outputs = module.config.d_model**-0.5 if scaled else None
    names = [f"t{i}" for i in range(module.config.vocab_size)]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.config.decoder_start_token = spec.config.bos_token = names[start]
    spec.config.eos_token, spec.config.unk_token = names[1], names[2]
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.optimize()
    spec.save(folder)


def _load_cublas_12() -> None:
    """Load the libraries of CUDA 12 that CTranslate2 asks for by name, where torch brings those of another one."""
    try:
        ctypes.CDLL("libcublas.so.12", ctypes.RTLD_GLOBAL)
        return
    except OSError:
        pass
    found = find_spec("nvidia.cublas") if find_spec("nvidia") else None
    folders = [Path(folder) / "lib" for folder in found.submodule_search_locations or ()] if found else []
    for name in ("libcublasLt.so.12", "libcublas.so.12"):
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            raise BildError(
                f"CTranslate2 needs {name} of CUDA 12, and torch brings CUDA {torch.version.cuda}: "
                "pip install nvidia-cublas-cu12."
            )
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


class CTranslateBackend(Backend):
    """Greedy decoding by `ctranslate2.Translator`."""

    def __init__(self, folder: str, compute: str, device: torch.device, threads: int) -> None:
        import ctranslate2

        if device.type == "cuda":
            _load_cublas_12()
        try:
            self.translator = ctranslate2.Translator(
                folder,
                device=device.type,
                device_index=device.index or 0,
                compute_type=compute,
                inter_threads=1,
                intra_threads=threads,
            )
        except ValueError as error:  # a compute type that the device lacks
            raise BildError(str(error)) from error
        self.name = f"CTranslate2 {ctranslate2.__version__}, {self.translator.compute_type}"

    def decode(self, source: Sequence[int], tokens: int) -> Timed:
        """See `Backend.decode`. It gives no sign at the first token, so that one is timed by decodings of its own."""
        before, _ = self._write(source, 1)
        whole, written = self._write(source, tokens + 1)
        after, _ = self._write(source, 1)
        first = (before + after) // 2
        # On a busy machine a tiny model's first token may seem to take longer than all: then it counts as none.
        return Timed(written, first, whole - first if whole > first else whole, len(written) - 1)

    def _write(self, source: Sequence[int], tokens: int) -> tuple[int, list[int]]:
        names = [[f"t{i}" for i in source]]
        began = perf_counter_ns()
        found = self.translator.translate_batch(
            names, beam_size=1, max_decoding_length=tokens, max_input_length=0, end_token=[]
        )
        taken = perf_counter_ns() - began
        return taken, [int(name[1:]) for name in found[0].hypotheses[0]]
