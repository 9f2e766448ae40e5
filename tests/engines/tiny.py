"""Tiny random T5 and mT5 models of every make, without files, and what the library says of them."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from bild.engines import Engine, build_engine
from bild.engines.kernels import COLUMNS, Kernels, sizes_of
from bild.models import Pair, load_pair

torch.set_num_threads(1)

START, EOS, ROWS = 0, 1, 48
MAX_DISTANCE = 32

_SIZE: dict[str, Any] = {"d_model": 24, "d_kv": 6, "num_heads": 3, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 2}
MAKES: dict[str, tuple[type, dict[str, Any]]] = {
    "t5-v1.0": (T5Config, {"feed_forward_proj": "relu"}),
    "t5-v1.1": (T5Config, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "d_kv": 7}),
    "mt5": (MT5Config, {"feed_forward_proj": "gated-gelu", "num_heads": 5}),
    "gated-silu": (T5Config, {"feed_forward_proj": "gated-silu"}),
    "deep-decoder": (T5Config, {"feed_forward_proj": "relu", "num_layers": 1, "num_decoder_layers": 5}),
    "deep-encoder": (MT5Config, {"feed_forward_proj": "gated-gelu", "num_layers": 4, "num_decoder_layers": 1}),
    # Matrices of megabytes, which an engine may lay out in another way than small ones.
    "wide": (T5Config, {"feed_forward_proj": "relu", "d_model": 128, "d_ff": 2112, "vocab_size": 2176}),
}
SEEDS = {"t5-v1.0": 4, "wide": 9}
"""Chosen for texts that are no mere repetition."""
SMALL_MAKES = [make for make in MAKES if make != "wide"]


def build(make: str, seed: int = 0, **changes: Any) -> Any:
    """A random model in fp32.

    Its layers write louder, its attention is sharper and its norms differ more than in a new T5, which only repeats the
    token it was given.
    """
    config_class, options = MAKES[make]
    common = {"vocab_size": ROWS, "decoder_start_token_id": START, "dropout_rate": 0.1}
    distances = {"relative_attention_num_buckets": 16, "relative_attention_max_distance": MAX_DISTANCE}
    config = config_class(**{**_SIZE, **common, **distances, **options, **changes})
    torch.manual_seed(SEEDS.get(make, 0) + seed)
    model_class = T5ForConditionalGeneration if config_class is T5Config else MT5ForConditionalGeneration
    model = model_class(config).eval()
    untied = make in ("t5-v1.1", "mt5", "deep-encoder")
    if untied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(config.vocab_size, config.d_model) * 0.7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                weight.copy_(0.5 + torch.rand_like(weight))
            elif name.endswith((".o.weight", ".wo.weight")):
                weight.mul_(4.0 if untied else 12.0)
            elif name.endswith((".q.weight", "relative_attention_bias.weight")):
                weight.mul_(4.0)
        model.decoder.final_layer_norm.weight.mul_(1.0 if untied else 3.0)
    return model


def relative_of(model: Any, noise: float, seed: int = 1) -> Any:
    """A copy whose weights are off by this share of their size: a small model that is right now and then."""
    other = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(torch.randn_like(weight) * weight.std() * noise)
    return other


@cache
def model(make: str, seed: int = 0) -> Any:
    """`build`, once. Shared: tests must not change it."""
    return build(make, seed)


def engine(name: str, module: Any, **options: Any) -> Engine:
    """An engine in fp32 over all rows, unless told otherwise."""
    told: dict[str, Any] = {"dtype": "fp32", "eos": EOS, "vocabulary": module.config.vocab_size}
    return build_engine(name, module, **(told | options))


def all_of(module: Any, kind: str) -> Kernels:
    """Kernels of one kind, over all rows."""
    sizes = sizes_of(module.config, module.config.vocab_size)
    return Kernels("told so", {f"{inner}x{out}": dict.fromkeys(COLUMNS, kind) for inner, out in sizes})


def ids(n: int, seed: int = 0, below: int = ROWS) -> list[int]:
    """n token ids, no special ones."""
    dice = random.Random(seed)
    return [dice.randrange(2, below) for _ in range(n)]


@torch.inference_mode()
def library_logits(module: Any, source: Sequence[int], text: Sequence[int]) -> torch.Tensor:
    """[len(text), vocabulary], in one pass without a cache."""
    output = module(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([text]), use_cache=False)
    logits: torch.Tensor = output.logits[0].float()
    return logits


@torch.inference_mode()
def library_text(module: Any, source: Sequence[int], max_length: int) -> list[int]:
    """Write a text by the library's own `generate()`."""
    # The default cache is sized by the encoder's layers, and fails where the decoder has more.
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    written = module.generate(
        input_ids=torch.tensor([source]), do_sample=False, num_beams=1, max_length=max_length, past_key_values=cache
    )
    tokens: list[int] = written[0].tolist()
    return tokens


def saved_pair(folder: Path, large: Any, small: Any, dtype: str = "fp32") -> Pair:
    """Both models through files and the ordinary loader."""
    for role, module in (("large", large), ("small", small)):
        module.save_pretrained(folder / role)
    return load_pair(str(folder / "large"), str(folder / "small"), dtype=dtype, device="cpu")
