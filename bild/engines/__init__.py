"""Engines: how one forward step of one model is executed. All keep the protocol of `Engine`; `hf` is the oracle."""

from __future__ import annotations

from typing import Any

from bild.engines.base import DTYPES, Engine, Summary
from bild.engines.fused import FusedEngine
from bild.engines.hf import HfEngine
from bild.errors import BildError

__all__ = ["DTYPES", "Engine", "FusedEngine", "HfEngine", "Summary", "build_engine"]


def build_engine(name: str, module: Any, *, dtype: str, eos: int, vocabulary: int, capacity: int = 128) -> Engine:
    """An engine by name over a loaded model, in the dtype that the model was loaded in.

    `vocabulary`: the number of token ids that large and small share; `capacity`: decoder positions to make room for
    (an engine grows beyond it when it must).
    """
    if name == "hf":
        return HfEngine(module, eos=eos, vocabulary=vocabulary)
    if name == "fused":
        return FusedEngine(module, dtype=DTYPES[dtype], eos=eos, vocabulary=vocabulary, capacity=capacity)
    raise BildError(f"engine={name} is not known: choose hf or fused.")
