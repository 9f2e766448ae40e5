"""White-box distillation: how far the small model's distribution is from the large one's, token by token."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bild.training.corpus import IGNORED, Batch
from bild.training.losses import logits_at


def divergence(kind: str, student: Tensor, teacher: Tensor) -> Tensor:
    """Summed divergence in nats of distributions given as logits [n, V]: p the teacher's, q the student's.

    "kl" is KL(p|q), which makes q cover p; "reverse-kl" is KL(q|p), which makes q keep to p's modes; "js" is the
    Jensen-Shannon divergence, the mean of KL(p|m) and KL(q|m) with m = (p + q)/2, at most ln 2 a token.
    """
    p, q = F.log_softmax(teacher, dim=-1), F.log_softmax(student, dim=-1)
    if kind == "kl":
        return _kl(p, q)
    if kind == "reverse-kl":
        return _kl(q, p)
    middle = torch.logaddexp(p, q) - math.log(2.0)
    return 0.5 * (_kl(p, middle) + _kl(q, middle))


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum()


def divergence_loss(kind: str, module: Any, teacher: Any, batch: Batch, vocabulary: int) -> tuple[Tensor, Tensor]:
    """(divergence, plain nll of the targets), summed over the target tokens; over the ids that both models have."""
    real = batch.targets != IGNORED
    student = logits_at(module, batch, [])[0][real][:, :vocabulary]
    with torch.no_grad():
        given = logits_at(teacher, batch, [])[0][real][:, :vocabulary]
        nll = F.cross_entropy(student.detach(), batch.targets[real], reduction="sum")
    return divergence(kind, student, given), nll
