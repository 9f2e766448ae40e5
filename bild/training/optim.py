"""Optimisers and schedules of the rate."""

from __future__ import annotations

import math
from typing import Any

import torch

from bild.training.config import TrainSettings


def make_optimizer(module: torch.nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Adafactor as the paper used it (no rate of its own making), or AdamW; the rate is set step by step."""
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
    """The learning rate of a step, counted from 0, in a training of `total` steps."""
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
    """Scale the gradients down to the norm `largest`; returns the norm before."""
    return float(torch.nn.utils.clip_grad_norm_(module.parameters(), math.inf if largest is None else largest))
