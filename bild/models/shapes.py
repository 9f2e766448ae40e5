"""Shapes of published checkpoints: models of random weights, since speed does not depend on what one has learnt; and
the bytes that a pair needs on its device, by what holds them, counted from configurations without loading anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from bild.config import Checkpoints, ShapeConfig
from bild.engines import DTYPES
from bild.engines.bridge import BRIDGE, source_width
from bild.engines.graph_programs import ALIGN, SOURCES, bucket_of
from bild.hub import cached_snapshot, is_name
from bild.models.checkpoint import kept_dtype, meta_module
from bild.models.source import EMBEDDED

_LOUD, _SHARP = 20.0, 3.0


def model_config(shape: ShapeConfig) -> Any:
    """Return the library's configuration of a shape."""
    from transformers import MT5Config, T5Config

    return (T5Config if shape.kind == "t5" else MT5Config)(
        vocab_size=shape.rows,
        d_model=shape.d_model,
        d_kv=shape.d_kv,
        d_ff=shape.d_ff,
        num_heads=shape.heads,
        num_layers=shape.encoder_layers,
        num_decoder_layers=shape.decoder_layers,
        feed_forward_proj="gated-gelu" if shape.gated else "relu",
        # Only T5 v1.0 has a tied head, and it alone scales the head's input; the library reads both from this word.
        tie_word_embeddings=shape.tied,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )


def random_model(shape: ShapeConfig, dtype: torch.dtype, device: torch.device, seed: int) -> Any:
    """Make a model of this shape with seeded random weights, made without the library's slow initialisation.

    In fp16 the second feed-forward matrix stays in fp32, as `from_pretrained` leaves it.
    """
    module = meta_module(model_config(shape))
    dice = torch.Generator(device=device).manual_seed(seed)

    def draw(name: str, sizes: torch.Size) -> Tensor:
        weight = torch.empty(sizes, dtype=kept_dtype(name, dtype), device=device)
        if name.endswith("norm.weight"):
            return weight.fill_(_SHARP if shape.tied and name.startswith("decoder.final") else 1.0)
        return weight.normal_(0.0, _scale(name, shape), generator=dice)

    for name, weight in list(module.named_parameters()):  # a tied weight is named once
        owner, _, last = name.rpartition(".")
        setattr(module.get_submodule(owner), last, nn.Parameter(draw(name, weight.shape), requires_grad=False))
    head = module.shared.weight if shape.tied else nn.Parameter(draw("lm_head.weight", module.shared.weight.shape))
    module.lm_head.weight = head.requires_grad_(False)
    module.encoder.embed_tokens.weight = module.decoder.embed_tokens.weight = module.shared.weight
    return module.eval()


def _scale(name: str, shape: ShapeConfig) -> float:
    """Return the standard deviation that T5 draws a weight with.

    Where the head is tied, the feed-forward writes louder: a new T5 only repeats the token it was given, and texts
    that never change would hide an engine that is wrong.
    """
    loud = _LOUD if shape.tied else 1.0
    kind = name.split(".")[-2]
    scales: dict[str, float] = {
        "shared": 1.0,
        "lm_head": 0.5,
        "q": (shape.d_model * shape.d_kv) ** -0.5,
        "o": (shape.heads * shape.d_kv) ** -0.5,
        "wo": loud * shape.d_ff**-0.5,
    }
    return float(scales.get(kind, shape.d_model**-0.5))


_NAMED = re.compile(r"(m?t5)-(small|base|large)", re.IGNORECASE)
CONTEXT = 0.6e9
"""Bytes that CUDA, its libraries and the captured graphs take beside the tensors: an allowance, not a measurement."""


@dataclass(frozen=True)
class Need:
    """Bytes on the device."""

    weights: int
    """Both models as the engines lay them out; the tree shares them."""
    module: int
    """The library's module of the large model, while `generate()` is timed; with engine=hf, those of both."""
    state: int
    """Keys and values of one text and its source, and the biases of positions."""

    @property
    def total(self) -> int:
        """All of it, without the keys and values of a sweep's tree, which take a share of what is left."""
        return self.weights + self.module + self.state

    def told(self) -> str:
        """Say it in GB."""
        parts = {"weights": self.weights, "the library's module": self.module, "keys and values": self.state}
        shown = ", ".join(f"{name} {bytes_ / 1e9:.1f}" for name, bytes_ in parts.items() if bytes_)
        return f"{self.total / 1e9:.1f} GB ({shown})"


def need_of(
    configs: Sequence[Any],
    engine: str,
    dtype: str,
    *,
    library: bool = True,
    exit: int | None = None,
    source_limit: int = 1024,
    capacity: int = 128,
) -> Need:
    """Count what the models of these configurations need: (large, small), or the large one alone with `exit`.

    `library`: whether `generate()` is timed beside them; `capacity`: the positions that an engine has room for.
    """
    kind, hf = DTYPES[dtype], engine == "hf"
    modules = [module_bytes(config, kind) for config in configs]
    if hf:
        return Need(0, sum(modules), sum(_state_bytes(c, kind, source_limit, capacity, "hf") for c in configs))
    weights = sum(layout_bytes(config, kind) for config in configs)
    if exit is not None:
        cross_kv = exit * 2 * configs[0].d_model * configs[0].num_heads * configs[0].d_kv
        weights += cross_kv * kind.itemsize
    state = sum(_state_bytes(config, kind, source_limit, capacity, engine) for config in configs)
    return Need(weights, modules[0] if library else 0, state)


def config_named(name: str, role: str, shapes: Mapping[str, ShapeConfig]) -> Any | None:
    """Return the library's configuration of a checkpoint without its weights: its own, if it is here, or by its name.

    `role` is "large" or "small", `shapes` are those of published checkpoints, by name. None where neither tells.
    """
    from transformers import AutoConfig

    here = EMBEDDED / role if name == "embedded" else Path(name).expanduser()
    cached = None if here.is_dir() or not is_name(name) else cached_snapshot(name, "model")
    folder = cached or here
    if (folder / "config.json").is_file():
        return AutoConfig.from_pretrained(folder)
    found = _NAMED.search(name)
    shape = shapes.get(found[0].lower()) if found else None
    return None if shape is None else model_config(shape)


def configs_named(checkpoints: Checkpoints, exit: int | None, shapes: Mapping[str, ShapeConfig]) -> list[Any] | None:
    """Return the configurations of a pair, (large, small), or the large one alone with an exit; None where unknown."""
    names = [(checkpoints.large, "large"), *([] if exit else [(checkpoints.small or "", "small")])]
    found = [config_named(name, role, shapes) for name, role in names]
    return None if None in found else found


def module_bytes(config: Any, dtype: torch.dtype) -> int:
    """Count the bytes of the library's module."""
    total = sum(count * kept_dtype(name, dtype).itemsize for name, count in _parameters(config).items())
    return total + _own_head(config, dtype)


def layout_bytes(config: Any, dtype: torch.dtype) -> int:
    """Count the bytes of `t5.prepare`'s layout on a GPU: norms are folded in, the head is a matrix of its own."""
    total = config.vocab_size * config.d_model * dtype.itemsize
    for name, count in _parameters(config).items():
        if "final_layer_norm" in name or "relative_attention_bias" in name:
            total += 4 * count
        elif "layer_norm" not in name and name != BRIDGE:
            # A bridge is multiplied into the matrices that read it.
            if name.endswith(("EncDecAttention.k.weight", "EncDecAttention.v.weight")):
                count = count * source_width(config) // config.d_model
            total += count * kept_dtype(name, dtype).itemsize
    return int(total)


def _parameters(config: Any) -> dict[str, int]:
    """Count the numbers of each weight of the library's module, which takes a second to make for a large one."""
    key = config.to_json_string()
    if key not in _counted:
        _counted[key] = {name: int(weight.numel()) for name, weight in meta_module(config).named_parameters()}
    return _counted[key]


_counted: dict[str, dict[str, int]] = {}


def _own_head(config: Any, dtype: torch.dtype) -> int:
    """Count the bytes of a head that is not the embedding; the library's object calls every head tied."""
    tied = getattr(config, "scale_decoder_outputs", False)
    return 0 if tied else int(config.vocab_size * config.d_model * dtype.itemsize)


def _state_bytes(config: Any, dtype: torch.dtype, source_limit: int, capacity: int, engine: str) -> int:
    """Count an engine's keys, values and biases; `graph` keeps those of every length of source that it may meet."""
    inner, layers = config.num_heads * config.d_kv, config.num_decoder_layers
    rows, sources = capacity, source_limit
    if engine.startswith("graph"):
        rows = -(-capacity // ALIGN) * ALIGN + 1  # the last one takes what padding writes
        sources = sum(length for length in SOURCES if length < source_limit) + bucket_of(source_limit)
    cached = 2 * layers * inner * (rows + sources) * dtype.itemsize
    return int(cached + config.num_heads * rows * capacity * dtype.itemsize)


def free_bytes(device: torch.device) -> int:
    """Return the bytes that are free on a device now."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else int(psutil.virtual_memory().available)


def default_budget(device: torch.device) -> int:
    """Return the bytes to allow for a tree's keys and values: 1 GiB on a CPU, 0.4 of what is free on a GPU.

    Growing holds the old rows and the new ones for a moment, and passes need room for their activations.
    """
    return int(0.4 * free_bytes(device)) if device.type == "cuda" else 1 << 30
