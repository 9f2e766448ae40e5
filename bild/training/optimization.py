"""The objective and the steps towards it: losses, optimisers, schedules, and a dropout that is cheap on CPUs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bild.training.config import TrainSettings
from bild.training.corpus import IGNORED, Batch


def logits_at(module: Any, batch: Batch, exits: Sequence[int], states: Tensor | None = None) -> list[Tensor]:
    """Compute logits [b, T, V] behind the decoder layers `exits`, then behind the last one, in fp32.

    An exit shares the final norm and the head, as the engine's early-exit view does (paper 4.4). `states` [b, S, D]
    are those that the decoder reads, where they are known already.
    """
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            kept[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [module.decoder.block[layer - 1].register_forward_hook(keep(layer)) for layer in exits]
    source = {"input_ids": batch.sources} if states is None else {"encoder_outputs": (states,)}
    # Shifted here: given as labels, the module would compute a loss of its own beside ours.
    fed = module.prepare_decoder_input_ids_from_labels(batch.targets)
    try:
        out = module(**source, attention_mask=batch.source_mask, decoder_input_ids=fed, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    normed = (module.decoder.dropout(module.decoder.final_layer_norm(kept[layer])) for layer in exits)
    return [*(_project(module, states).float() for states in normed), out.logits.float()]


def _project(module: Any, states: Tensor) -> Tensor:
    if getattr(module.config, "scale_decoder_outputs", False):
        states = states * module.config.d_model**-0.5
    logits: Tensor = module.lm_head(states)
    return logits


def logits_behind(module: Any, batch: Batch, states: Tensor) -> Tensor:
    """Compute what `logits_at` does behind the last layer at the n target tokens alone, [n, V], without the padding."""
    fed = module.prepare_decoder_input_ids_from_labels(batch.targets)
    out = module.decoder(
        input_ids=fed, encoder_hidden_states=states, encoder_attention_mask=batch.source_mask, use_cache=False
    )
    return _project(module, out.last_hidden_state[batch.targets != IGNORED]).float()


def token_losses(logits: Tensor, targets: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Return (loss, plain nll) of targets [b, T] in nats, each summed over all but padding.

    Label smoothing spreads that share of the target evenly over the vocabulary, as torch's cross entropy does.
    """
    real = targets != IGNORED
    logp = F.log_softmax(logits[real], dim=-1)
    nll = -logp.gather(1, targets[real][:, None]).sum()
    if not label_smoothing:
        return nll, nll.detach()
    return (1.0 - label_smoothing) * nll - label_smoothing * logp.mean(dim=-1).sum(), nll.detach()


def likelihood_loss(
    module: Any, batch: Batch, exits: Sequence[int], label_smoothing: float, weighting: str = "mean"
) -> tuple[Tensor, Tensor]:
    """Return (loss, plain nll of the last layer), both summed over the target tokens of a batch.

    With exits the loss is the mean over them and the last layer; for one exit L = (L_exit + L_last)/2 (paper 4.4). With
    `weighting` "layer" each weighs as much as its layer's number, which is how CALM trains them.
    """
    found = [token_losses(logits, batch.targets, label_smoothing) for logits in logits_at(module, batch, exits)]
    losses = torch.stack([loss for loss, _ in found])
    if weighting == "layer":
        weights = losses.new_tensor([*exits, module.config.num_decoder_layers])
        return (losses * weights).sum() / weights.sum(), found[-1][1]
    return losses.mean(), found[-1][1]


def divergence(kind: str, q: Tensor, p: Tensor) -> Tensor:
    """Return the summed divergence in nats of the student's distributions, as ln q [n, V], and the teacher's, ln p.

    "kl" is KL(p|q), which makes q cover p; "reverse-kl" is KL(q|p), which makes q keep to p's modes; "js" is the
    Jensen-Shannon divergence, the mean of KL(p|m) and KL(q|m) with m = (p + q)/2, at most ln 2 a token.
    """
    if kind == "kl":
        return _kl(p, q)
    if kind == "reverse-kl":
        return _kl(q, p)
    middle = torch.logaddexp(p, q) - math.log(2.0)
    return 0.5 * (_kl(p, middle) + _kl(q, middle))


def _kl(p: Tensor, q: Tensor) -> Tensor:
    weight = p.exp().flatten()  # two dot products: the tables are large, and each pass over them counts
    return torch.dot(weight, p.flatten()) - torch.dot(weight, q.flatten())


def divergence_loss(kind: str, module: Any, teacher: Any, batch: Batch, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return (divergence, plain nll of the targets), summed over the target tokens, over the ids that both have."""
    real = batch.targets != IGNORED
    with torch.no_grad():
        given = F.log_softmax(logits_at(teacher, batch, [])[0][real][:, :vocabulary], dim=-1)
    return divergence_from(kind, logits_at(module, batch, [])[0][real], given, batch)


def divergence_from(kind: str, logits: Tensor, given: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what `divergence_loss` does, from logits and the teacher's ln p at the n target tokens, both [n, V]."""
    q = F.log_softmax(logits[:, : given.shape[1]], dim=-1)
    nll = -q.detach().gather(1, batch.targets[batch.targets != IGNORED][:, None]).sum()
    return divergence(kind, q, given), nll


def make_optimizer(module: torch.nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Make Adafactor as the paper used it (without a rate of its own), or AdamW; the rate is set step by step."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=settings.weight_decay)
    from transformers.optimization import Adafactor

    made: torch.optim.Optimizer = Adafactor(
        parameters,
        lr=settings.rate,
        scale_parameter=settings.scale_parameter,
        relative_step=False,
        warmup_init=False,
        weight_decay=settings.weight_decay,
    )
    return made


def rate_at(step: int, total: int, settings: TrainSettings) -> float:
    """Return the learning rate of a step, counted from 0, in a training of `total` steps."""
    if step < settings.warmup:
        return settings.rate * (step + 1) / (settings.warmup + 1)
    done = (step - settings.warmup) / max(1, total - settings.warmup)
    factors = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
        "inverse-sqrt": math.sqrt(max(1, settings.warmup) / max(1, step)),
    }
    return settings.rate * max(0.0, factors[settings.schedule])


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of parameters the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip(module: Any, largest: float | None) -> float:
    """Scale the gradients down to the norm `largest`; return the norm before."""
    return float(torch.nn.utils.clip_grad_norm_(module.parameters(), math.inf if largest is None else largest))


class ByteDropout(nn.Module):
    """Dropout whose mask costs a random byte per activation, so that p is rounded to a 256th.

    The bytes come from torch's own generator: a seed decides them, and a checkpoint has their state.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = round(256 * p)

    def forward(self, x: Tensor) -> Tensor:
        """In training, set some of the activations (of any shape) to zero and scale up the rest."""
        if not self.training or not self.dropped:
            return x
        bits = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - self.dropped))


def quicken_dropout(module: Any) -> None:
    """Replace every dropout of a module that is on a CPU by `ByteDropout`."""
    if next(module.parameters()).device.type != "cpu":
        return
    for owner in list(module.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(owner, name, ByteDropout(child.p))
