"""CALM in the plainest way, over the library's own blocks: every state is kept, and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Early:
    """The text, the depth of each token, and the distance of the nearest decision from going the other way."""

    tokens: list[int] = field(default_factory=list)
    probs: list[float] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    margin: float = math.inf


@torch.inference_mode()
def early_exit_text(
    module: Any,
    source: Sequence[int],
    prefix: Sequence[int],
    bars: Sequence[float],
    *,
    confidence: str,
    first_exit: int,
    eos: int,
) -> Early:
    """Write on after `prefix`, all of whose tokens but the last one go through all layers.

    `states[i]` are the inputs of layer i at every position so far: the output of layer i-1, or, after an exit, the last
    state that there was. A layer therefore computes keys and values of all positions anew, from those states.
    """
    decoder, depth = module.decoder, module.config.num_decoder_layers
    encoded = module.encoder(input_ids=torch.tensor([source])).last_hidden_state
    states: list[list[torch.Tensor]] = [[] for _ in range(depth + 1)]
    found = Early()

    def layer(i: int) -> torch.Tensor:
        inputs = torch.stack(states[i])[None]
        n = inputs.shape[1]
        # Only the last position is looked at, which sees all others: no mask is needed.
        bias = decoder.block[0].layer[0].SelfAttention.compute_bias(n, n)
        out: torch.Tensor = decoder.block[i](inputs, position_bias=bias, encoder_hidden_states=encoded)[0][0, -1]
        return out

    def probabilities(state: torch.Tensor) -> torch.Tensor:
        scaled = getattr(module.config, "scale_decoder_outputs", False)  # mT5 never is
        scale = module.config.d_model**-0.5 if scaled else 1.0
        logits: torch.Tensor = module.lm_head(decoder.final_layer_norm(state) * scale)
        return logits.softmax(-1)

    def measured(before: torch.Tensor, after: torch.Tensor) -> float:
        if confidence == "state":
            return max(torch.cosine_similarity(before, after, dim=0).item(), 0.0)
        top = probabilities(after).topk(2).values
        return float(top[0] - top[1])

    def feed(token: int, bar: float) -> tuple[torch.Tensor, int]:
        state = module.shared(torch.tensor(token))
        states[0].append(state)
        for i in range(depth):
            before, state = state, layer(i)
            states[i + 1].append(state)
            if first_exit <= i + 1 < depth and bar < 1:
                confident = measured(before, state)
                found.margin = min(found.margin, abs(confident - bar))
                if confident >= bar:
                    for later in states[i + 2 :]:
                        later.append(state)
                    return state, i + 1
        return state, depth

    for token in prefix[:-1]:
        feed(token, 1.0)
    token = prefix[-1]
    for bar in bars:
        state, used = feed(token, bar)
        p = probabilities(state)
        token = int(p.argmax())
        found.tokens.append(token)
        found.probs.append(float(p[token]))
        found.layers.append(used)
        if token == eos:
            break
    return found
