"""The losses against values by hand, and against the library's own."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bild.config import ShapeConfig
from bild.engines.early_exit import truncated
from bild.models.shapes import random_model
from bild.training.config import TrainSettings
from bild.training.corpus import IGNORED, Batch, make_batch
from bild.training.optimization import (
    divergence,
    divergence_loss,
    likelihood_loss,
    logits_at,
    make_optimizer,
    token_losses,
)
from tests.training.tiny import tiny_module

SOURCES = [[5, 6, 7, 1], [8, 9, 1]]
TARGETS = [[10, 11, 1], [12, 13, 14, 15, 1]]


def batch() -> Batch:
    return make_batch(SOURCES, TARGETS, 0, torch.device("cpu"))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torchs_cross_entropy(smoothing: float) -> None:
    logits = torch.randn(2, 5, 20)
    targets = batch().targets
    wanted = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )
    loss, plain = token_losses(logits, targets, smoothing)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(plain, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))


def test_padding_changes_no_loss() -> None:
    module = tiny_module().eval()
    together = likelihood_loss(module, batch(), [1], 0.1)[0]
    alone = [
        likelihood_loss(module, make_batch([s], [t], 0, torch.device("cpu")), [1], 0.1)[0]
        for s, t in zip(SOURCES, TARGETS, strict=True)
    ]
    torch.testing.assert_close(together, alone[0] + alone[1])


def test_an_exit_sees_what_the_engine_view_sees() -> None:
    module = tiny_module().eval()
    at_exit, last = logits_at(module, batch(), [1])
    torch.testing.assert_close(at_exit, logits_at(truncated(module, 1), batch(), [])[0])
    torch.testing.assert_close(last, logits_at(module, batch(), [])[0])


def test_a_step_of_the_exit_loss_is_the_one_by_hand() -> None:
    """L = (L_1 + L_last)/2; AdamW's first step moves each weight by rate * g / (|g| + eps)."""
    module = tiny_module()
    whole, first = copy.deepcopy(module), copy.deepcopy(truncated(module, 1)).train().requires_grad_(True)
    for one in (whole, first):
        out = one(input_ids=batch().sources, attention_mask=batch().source_mask, labels=batch().targets)
        out.loss.backward()  # the mean over all eight target tokens
    rate = 0.01

    loss, _ = likelihood_loss(module, batch(), [1], 0.0)
    optimizer = make_optimizer(module, TrainSettings(optimizer="adamw", rate=rate))
    (loss / 8).backward()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer.step()
    for name, after in module.named_parameters():
        gradient = (gradient_of(whole, name) + gradient_of(first, name)) / 2
        torch.testing.assert_close(after.grad, gradient, rtol=1e-4, atol=1e-7)
        by_hand = before[name] - rate * gradient / (gradient.abs() + 1e-8)
        sure = gradient.abs() > 1e-5  # else the sign of the step hangs on the last bits
        torch.testing.assert_close(after.detach()[sure], by_hand[sure], rtol=1e-3, atol=1e-5)


def test_calm_weighs_each_layer_by_its_number() -> None:
    module = tiny_module().eval()
    layers = module.config.num_decoder_layers
    logits = logits_at(module, batch(), [1])
    one, last = (token_losses(each, batch().targets, 0.0)[0] for each in logits)
    loss, nll = likelihood_loss(module, batch(), [1], 0.0, "layer")
    torch.testing.assert_close(loss, (one + layers * last) / (1 + layers))
    torch.testing.assert_close(nll, last)


@pytest.mark.parametrize("kind", ["t5", "mt5"])
def test_exits_of_both_kinds_can_be_trained(kind: str) -> None:
    shape = ShapeConfig("tiny", kind, 16, 4, 24, 4, 1, 2, 48, gated=kind == "mt5", tied=kind == "t5")
    module = random_model(shape, torch.float32, torch.device("cpu"), 0)
    assert torch.isfinite(likelihood_loss(module, batch(), [1], 0.0)[0])


def gradient_of(module: Any, name: str) -> torch.Tensor:
    """Zero for layers that are cut off; the cut-off module's copies of the tied matrix have their parts of it."""
    tied = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    parameters = dict(module.named_parameters())
    found = [parameters[n].grad for n in (tied if name in tied else (name,)) if n in parameters]
    return sum((g for g in found if g is not None), start=torch.zeros(()))


def test_divergences_by_hand() -> None:
    p, q = (0.5, 0.5), (0.9, 0.1)
    teacher, student = torch.tensor([p]).log(), torch.tensor([q]).log() + 3.0  # logits may be shifted
    forward = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    backward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    middle = (0.7, 0.3)
    js = 0.5 * sum(a * math.log(a / m) + b * math.log(b / m) for a, b, m in zip(p, q, middle, strict=True))
    assert forward == pytest.approx(0.5108, abs=1e-4)
    for kind, wanted in (("kl", forward), ("reverse-kl", backward), ("js", js)):
        assert float(divergence(kind, student.log_softmax(-1), teacher.log_softmax(-1))) == pytest.approx(
            wanted, rel=1e-5
        )


@pytest.mark.spread(1)
@pytest.mark.parametrize("kind", ["kl", "reverse-kl", "js"])
def test_equal_models_do_not_diverge_and_others_come_closer(kind: str) -> None:
    teacher, student = tiny_module(0).eval(), tiny_module(1)
    assert divergence_loss(kind, copy.deepcopy(teacher), teacher, batch(), 160)[0].item() == pytest.approx(0, abs=1e-4)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    found = []
    for _ in range(12):
        optimizer.zero_grad()
        loss, nll = divergence_loss(kind, student, teacher, batch(), 160)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.8 * found[0]
    assert not nll.requires_grad
