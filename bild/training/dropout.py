"""Dropout for CPUs: torch draws a random number for each activation there, a sixth of the time of a small model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ByteDropout(nn.Module):
    """Dropout whose mask costs a random byte per activation, so that p is rounded to a 256th.

    The bytes come from torch's own generator: a seed decides them, and a checkpoint has their state.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = round(256 * p)

    def forward(self, x: Tensor) -> Tensor:
        """Activations of any shape, some of them zero and the rest scaled up, in training."""
        if not self.training or not self.dropped:
            return x
        bits = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - self.dropped))


def quicken_dropout(module: Any) -> None:
    """Put `ByteDropout` in the place of every dropout of a module that is on a CPU."""
    if next(module.parameters()).device.type != "cpu":
        return
    for owner in list(module.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(owner, name, ByteDropout(child.p))
