"""Engines execute the forward steps of one model. All keep the protocol of `Engine`; `hf` is the oracle."""

from __future__ import annotations

import os
from typing import Any

import torch

from bild.config import GRAPH_TRITON
from bild.engines.base import DTYPES, Engine, PassPlan, Summary, common_prefix
from bild.engines.calm import CalmEngine, calm_engine
from bild.engines.early_exit import FusedSharedLayers, GraphExitEngine, GraphSharedLayers, early_exit, truncated
from bild.engines.fused import FusedEngine
from bild.engines.graph import GraphEngine
from bild.engines.graph_programs import Operations
from bild.engines.hf import HfEngine
from bild.engines.kernels import Kernels, kernels_for, sizes_of
from bild.errors import BildError

__all__ = [
    "DTYPES",
    "CalmEngine",
    "Engine",
    "FusedEngine",
    "HfEngine",
    "PassPlan",
    "Summary",
    "build_engine",
    "build_exit_engines",
    "build_operations",
    "calm_engine",
    "check_exit",
    "common_prefix",
]

GRAPHS = ("graph", GRAPH_TRITON)
"""Engines of captured passes: of torch's kernels, and with what lies between the products fused."""


def build_engine(
    name: str,
    module: Any,
    *,
    dtype: str,
    eos: int,
    vocabulary: int,
    capacity: int = 128,
    kernels: Kernels | None = None,
    small: bool = False,
    beside: Engine | None = None,
) -> Engine:
    """Build an engine by name over a loaded model, in the dtype that the model was loaded in.

    `vocabulary`: the number of token ids that large and small share; `capacity`: decoder positions to make room for
    (an engine grows beyond it when it must); `kernels`: those that fused and graph multiply with, None for the fastest;
    `small`: whether it is the small model of a pair, and `beside`: the engine of the other one, if it is there already.
    """
    if name == "hf":
        return HfEngine(module, eos=eos, vocabulary=vocabulary)
    if name not in ("fused", *GRAPHS):
        raise BildError(f"engine={name} is not known: choose hf, fused, {' or '.join(GRAPHS)}.")
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "eos": eos, "vocabulary": vocabulary, "capacity": capacity}
    options["kernels"] = kernels or kernels_of(module, dtype, vocabulary, name == GRAPH_TRITON)
    if name == "fused":
        return FusedEngine(module, **options)
    pool = beside.pool if isinstance(beside, GraphEngine) else None
    return GraphEngine(module, pool=pool, small=small, operations=build_operations(name, module.device), **options)


def build_operations(name: str, device: torch.device) -> Operations:
    """Return what a graph's passes are made of beside products."""
    if name == "graph":
        return Operations()
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise BildError(f"engine={name} runs on NVIDIA GPUs, and here is none: use engine=fused.")
    try:
        from bild.engines.fusions import Fusions
    except ImportError as error:
        raise BildError(f"engine={name} needs Triton ({error}): pip install triton, or use engine=graph.") from error
    return Fusions()


def kernels_of(module: Any, dtype: str, vocabulary: int, triton: bool = False) -> Kernels:
    """Return the fastest kinds of product for a loaded model, measured on its device; see `kernels_for`."""
    return kernels_for(module.device, DTYPES[dtype], sizes_of(module.config, vocabulary), triton)


def build_exit_engines(
    name: str,
    module: Any,
    exit_layer: int,
    *,
    dtype: str,
    eos: int,
    vocabulary: int,
    capacity: int = 128,
    kernels: Kernels | None = None,
) -> tuple[Engine, Engine]:
    """Build the (large, small) engines of one model whose first `exit_layer` decoder layers are the small one."""
    check_exit(exit_layer, module.config.num_decoder_layers)
    options: dict[str, Any] = {"dtype": dtype, "eos": eos, "vocabulary": vocabulary, "capacity": capacity}
    if name == "fused":
        engine = build_engine(name, module, kernels=kernels, **options)
        assert isinstance(engine, FusedEngine)
        return early_exit(FusedSharedLayers(engine, exit_layer))
    if name in GRAPHS:
        kernels = kernels or kernels_of(module, dtype, vocabulary, name == GRAPH_TRITON)
        options |= {"dtype": DTYPES[dtype], "small": True, "kernels": kernels}
        options["operations"] = build_operations(name, module.device)
        return early_exit(GraphSharedLayers(GraphExitEngine(module, exit_layer, **options)))
    return build_engine(name, module, **options), build_engine(name, truncated(module, exit_layer), **options)


def check_exit(exit_layer: int, layers: int) -> None:
    """Refuse an exit that leaves the small model without layers, or with all of them."""
    if not 1 <= exit_layer < layers:
        raise BildError(
            f"model.exit={exit_layer} is out of range: this checkpoint has {layers} decoder layers, "
            f"so the small model may be its first 1 to {layers - 1}."
        )
