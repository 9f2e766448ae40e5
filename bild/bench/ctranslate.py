"""CTranslate2 as a peer, where it is installed: an inference engine in C++ with kernels of its own.

The model is converted once, in fp32, and its other precisions are made when it is loaded: the converter's own int8
scales the weights in place, and with them the model that it was given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from time import perf_counter_ns
from typing import Any

import torch

from bild.bench.backends import Entrant, Timed
from bild.errors import BildError

COMPUTE = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
ABSENT = "not installed: pip install 'bild-bench[ctranslate2]'"


def installed() -> bool:
    """Whether the extra is there."""
    return find_spec("ctranslate2") is not None


def convert(module: Any, start: int, folder: str) -> None:
    """Write a T5 or mT5 in CTranslate2's format. No tokenizer is needed: its tokens are called t0, t1, ..."""
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


class CTranslateEntrant(Entrant):
    """Greedy decoding by `ctranslate2.Translator`."""

    def __init__(self, folder: str, compute: str, device: torch.device, threads: int) -> None:
        import ctranslate2

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
        """See `Entrant.decode`. It gives no sign at the first token, so that one is timed by decodings of its own."""
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


class Conversions:
    """The converted model of one contest, on the disk as long as it is needed."""

    def __init__(self, module: Any, start: int) -> None:
        self.module, self.start = module, start
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def entrant(self, compute: str, device: torch.device, threads: int) -> CTranslateEntrant:
        """An entrant of one precision; converts at the first call."""
        if self._folder is None:
            folder = tempfile.TemporaryDirectory(prefix="bild-ctranslate2-")
            try:
                convert(self.module, self.start, folder.name)
            except BaseException:
                folder.cleanup()
                raise
            self._folder = folder
        return CTranslateEntrant(self._folder.name, compute, device, threads)

    def close(self) -> None:
        """Remove the files; what was loaded stays."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
