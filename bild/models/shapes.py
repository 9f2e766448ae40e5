"""Random weights of the shapes of published checkpoints: speed does not depend on what a model has learnt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bild.config import ShapeConfig

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
    from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration
    from transformers.utils import logging

    logging.set_verbosity_error()  # its notes on generation settings would stand between the lines of progress
    config = model_config(shape)
    with torch.device("meta"):
        module = (T5ForConditionalGeneration if shape.kind == "t5" else MT5ForConditionalGeneration)(config)
    dice = torch.Generator(device=device).manual_seed(seed)

    def draw(name: str, sizes: torch.Size) -> Tensor:
        kept = torch.float32 if dtype == torch.float16 and name.endswith("wo.weight") else dtype
        weight = torch.empty(sizes, dtype=kept, device=device)
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
