"""Compiled passes against `bild.engines.t5`, which computes the same over tensors."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.base import Engine, summarise
from bild.engines.compiled import CompiledDecoder, CompiledEncoder, compilable
from bild.engines.fused import FusedEngine, TensorDecoder
from bild.engines.kernels import Kernels
from bild.engines.layouts import COMPILED, PLAIN
from bild.engines.strips import compiled
from bild.errors import BildError
from tests.engines.tiny import EOS, MAKES, all_of, build, engine, ids, model

pytestmark = pytest.mark.skipif(compiled() is None, reason="no C compiler")
every_make = pytest.mark.parametrize("make", [make for make in MAKES if model(make).config.dense_act_fn != "gelu"])


def made(make: str, module: Any = None) -> FusedEngine:
    module = module or model(make)
    found = engine("fused", module, kernels=all_of(module, COMPILED))
    assert isinstance(found, FusedEngine)
    assert isinstance(found.decoder, CompiledDecoder)
    return found


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


@every_make
def test_a_pass_is_that_over_tensors(make: str) -> None:
    """Of every width, in parts and as a whole, and what it tells of the logits."""
    one, other = made(make), made(make)
    plain = TensorDecoder(other.weights)
    for each in (one, other):
        each.start([*ids(9), EOS])
    layers = len(one.weights.decoder)
    for n, end in pairwise([0, 1, 6, 7, 24, 26, 31]):
        text = ids(end - n, seed=end)
        expected = plain.decode(other.state, text, n, end - n)
        summary, told = one.decoder.summary(one.state, text, n, end - n), summarise(expected, text)
        assert summary.choice == told.choice
        assert summary.choice_nll == pytest.approx(told.choice_nll, rel=1e-5, abs=1e-6)
        assert summary.token_nll == pytest.approx(told.token_nll, rel=1e-5, abs=1e-6)
        close(one.decoder.decode(one.state, text, n, end - n), expected)
        x = one.embed(text)
        for i in range(layers):
            x = one.run_layers(x, n, i, i + 1)
        close(x, plain.run_layers(other.state, plain.embed(text), n, 0, layers))
        close(one.logits(x)[-1:], expected[-1:])
        last, told = one.summary(x[-2:], text, False, end), summarise(expected[-2:], text)
        assert last.choice == told.choice
        assert [*last.choice_nll, *last.token_nll] == pytest.approx([*told.choice_nll, *told.token_nll], 1e-5, 1e-6)
    close(one.cache[:, :, :, :31], other.cache[:, :, :, :31])


@every_make
@pytest.mark.parametrize(("limit", "stop_below"), [(1, 0.0), (5, 0.0), (40, 0.0), (40, 0.2), (40, 1.1)])
def test_a_draft_is_that_of_steps(make: str, limit: int, stop_below: float) -> None:
    """Also beyond the room that there is, and with an end among the tokens."""
    one, other = made(make), made(make)
    one.start([*ids(9), EOS])
    tokens = one.draft(ids(3), 40, 0.0)[0]
    for end in (EOS, tokens[len(tokens) // 2]):
        for each in (one, other):
            each.eos = end
            each.start([*ids(9), EOS])
            each.step(ids(2, seed=1))
        ours, theirs = one.draft(ids(3), limit, stop_below), Engine.draft(other, ids(3), limit, stop_below)
        assert ours[::2] == theirs[::2]
        assert ours[1] == pytest.approx(theirs[1], rel=1e-9)
        assert one.length == other.length
        close(one.cache[:, :, :, : one.length], other.cache[:, :, :, : one.length])


@every_make
@pytest.mark.parametrize("length", [1, 7, 40])
def test_an_encoder_is_that_over_tensors(make: str, length: int) -> None:
    encoder, source = made(make).weights.encoder, ids(length)
    bias = encoder.position_bias(length, torch.float32)
    ours = CompiledEncoder(encoder)
    for _ in range(2):
        close(ours.encode(source, bias), t5.encode(encoder, torch.tensor(source), bias))


def test_probabilities_hold_over_the_whole_range_of_logits() -> None:
    """From a vocabulary of nearly equal tokens to one token of all the probability."""
    for scale in (1e-3, 1.0, 30.0, 1e4):
        one = made("t5-v1.0")
        weights = replace(one.weights, decoder_gain=one.weights.decoder_gain * scale)
        ours, text = CompiledDecoder(weights), ids(12)
        one.start([*ids(5), EOS])
        nll = -torch.log_softmax(ours.decode(one.state, text, 0, 12).double(), -1)
        summary = ours.summary(one.state, text, 0, 12)
        assert summary.choice_nll == pytest.approx(nll.min(-1).values.tolist(), rel=1e-5, abs=1e-6)
        given = nll[:-1].gather(1, torch.tensor(text[1:])[:, None])[:, 0]
        assert summary.token_nll == pytest.approx(given.tolist(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("name", ["shared", "decoder.block.0.layer.1.EncDecAttention.q", "lm_head"])
def test_what_is_not_finite_is_told(bad: float, name: str) -> None:
    module = build("t5-v1.1")
    module.state_dict()[f"{name}.weight"].fill_(bad)
    one = made("t5-v1.1", module)
    one.start([*ids(5), EOS])
    with pytest.raises(BildError, match="not finite"):
        one.step([0])
    with pytest.raises(BildError, match="not finite"):
        one.logits(one.embed([3]) * float("nan"))


@pytest.mark.parametrize("token", [-1, 10**6])
def test_a_token_without_a_row_is_refused(token: int) -> None:
    one = made("mt5")
    one.start([*ids(5), EOS])
    with pytest.raises(IndexError):
        one.step([3, token])
    assert one.step([3]).choice


def test_another_kind_or_activation_is_not_for_it() -> None:
    weights = made("t5-v1.0").weights
    assert compilable(weights)
    assert compilable(weights.encoder)
    module = model("t5-v1.0")
    mixed = Kernels("told so", {name: kinds | {"1": PLAIN} for name, kinds in weights.kernels.kinds.items()})
    assert not compilable(t5.prepare(module.state_dict(), module.config, torch.float32, 40, mixed))
    other = replace(weights.shape, activation=t5.ACTIVATIONS["gelu"])
    assert not compilable(replace(weights, shape=other))
    assert {matrix.kinds[0] for layer in weights.decoder for matrix in vars(layer).values()} == {COMPILED}
