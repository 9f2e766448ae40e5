"""What is minimised: the likelihood of the targets, at the last layer or also at exits before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bild.training.corpus import IGNORED, Batch


def logits_at(module: Any, batch: Batch, exits: Sequence[int]) -> list[Tensor]:
    """Logits [b, T, V] behind the decoder layers `exits`, then behind the last one, in fp32.

    An exit shares the final norm and the head, as the engine's early-exit view does (paper 4.4).
    """
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            kept[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [module.decoder.block[layer - 1].register_forward_hook(keep(layer)) for layer in exits]
    try:
        out = module(input_ids=batch.sources, attention_mask=batch.source_mask, labels=batch.targets, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [*(_head(module, kept[layer]).float() for layer in exits), out.logits.float()]


def _head(module: Any, states: Tensor) -> Tensor:
    states = module.decoder.dropout(module.decoder.final_layer_norm(states))
    if module.config.scale_decoder_outputs:
        states = states * module.config.d_model**-0.5
    logits: Tensor = module.lm_head(states)
    return logits


def token_losses(logits: Tensor, targets: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """(loss, plain nll) of targets [b, T] in nats, each summed over what is not padding.

    Label smoothing spreads that share of the target evenly over the vocabulary, as torch's cross entropy does.
    """
    real = targets != IGNORED
    logp = F.log_softmax(logits[real], dim=-1)
    nll = -logp.gather(1, targets[real][:, None]).sum()
    if not label_smoothing:
        return nll, nll.detach()
    return (1.0 - label_smoothing) * nll - label_smoothing * logp.mean(dim=-1).sum(), nll.detach()


def likelihood_loss(module: Any, batch: Batch, exits: Sequence[int], label_smoothing: float) -> tuple[Tensor, Tensor]:
    """(loss, plain nll of the last layer), both summed over the target tokens of a batch.

    With exits the loss is the mean over them and the last layer; for one exit L = (L_exit + L_last)/2 (paper 4.4).
    """
    found = [token_losses(logits, batch.targets, label_smoothing) for logits in logits_at(module, batch, exits)]
    return torch.stack([loss for loss, _ in found]).mean(), found[-1][1]
