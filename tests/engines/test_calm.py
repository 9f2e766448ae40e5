"""Early exits of one model against the library's blocks run one by one, and against what they must equal."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
import torch

from bild.decoding.loop import ExitRule, adaptive, alone
from bild.engines import CalmEngine, build_engine, build_exit_engines, calm_engine
from bild.engines.early_exit import truncated
from bild.engines.fused import TensorDecoder
from bild.errors import BildError
from bild.measure.live import run_live
from tests.engines.calm_oracle import Early, early_exit_text
from tests.engines.tiny import EOS, START, build, engine, ids, model

DEPTH = 5
MAKES = ("t5-v1.0", "t5-v1.1", "mt5", "gated-silu")
LIMIT = 20
CLOSE = 1e-4
"""A confidence so near to its bar that rounding may decide."""


@cache
def deep(make: str) -> Any:
    return build(make, num_decoder_layers=DEPTH)


def calm(module: Any, **options: Any) -> CalmEngine:
    return calm_engine(engine("fused", module, **options))


def write(made: CalmEngine, source: list[int], prefix: list[int], bars: list[float], confidence: str, first: int):
    made.start(source)
    written, stop = made.write(prefix, bars, confidence, first)
    return [w.token for w in written], [w.layers for w in written], stop, [w.nll for w in written]


def oracle(module: Any, source: list[int], prefix: list[int], bars: list[float], confidence: str, first: int) -> Early:
    return early_exit_text(module, source, prefix, bars, confidence=confidence, first_exit=first, eos=EOS)


def cases(confidence: str, seeds: int) -> list[tuple[list[int], list[float], int]]:
    dice = random.Random(f"{confidence}-{seeds}")
    made = []
    for seed in range(seeds):
        source = [*ids(dice.randint(3, 16), seed), EOS]
        level = dice.uniform(0.2, 0.95)
        bars = [min(max(level + dice.uniform(-0.3, 0.3), 0.0), 1.0) for _ in range(LIMIT)]
        made.append((source, bars, dice.choice([1, 2, 3])))
    return made


@pytest.mark.spread(4)
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("confidence", ["state", "softmax"])
@pytest.mark.parametrize("way", ["row", "matrix"])
def test_tokens_layers_and_probabilities_are_those_of_the_librarys_blocks(make: str, confidence: str, way: str) -> None:
    module = deep(make)
    made = calm(module, capacity=4)  # it also has to grow
    if way == "matrix":
        made.engine.decoder = TensorDecoder(made.engine.weights)
    deeper = left = 0
    for source, bars, first in cases(confidence, 6):
        expected = oracle(module, source, [START], bars, confidence, first)
        if expected.margin < CLOSE:
            continue
        tokens, layers, stop, nlls = write(made, source, [START], bars, confidence, first)
        assert tokens == expected.tokens
        assert layers == expected.layers
        assert stop == ("eos" if tokens[-1] == EOS else "limit")
        assert torch.tensor(nlls).neg().exp().tolist() == pytest.approx(expected.probs, rel=1e-3)
        left += sum(used < DEPTH for used in layers)
        deeper += sum(b > min(layers[:i]) for i, b in enumerate(layers) if i)
    assert left, "the cases are of no use: no token left early"
    assert deeper, "the cases are of no use: no token went deeper than an earlier one"


def test_a_given_beginning_goes_through_all_layers() -> None:
    module = deep("mt5")
    source, bars = [*ids(7), EOS], [0.5] * 8
    prefix = [START, *ids(4, seed=3)]
    expected = oracle(module, source, prefix, bars, "state", 2)
    tokens, layers, *_ = write(calm(module), source, prefix, bars, "state", 2)
    assert expected.margin > CLOSE
    assert (tokens, layers) == (expected.tokens, expected.layers)


def test_after_a_rewind_it_writes_as_if_the_rest_had_not_been() -> None:
    """Also where what is taken back had left early, so that its state waits in no layer."""
    module = deep("t5-v1.0")
    source = [*ids(9), EOS]
    made = calm(module)
    for bar, kept in ((0.0, 3), (0.4, 5), (0.7, 1), (1.0, 4)):
        made.start(source)
        first, _ = made.write([START], [0.45] * 6, "softmax", 1)
        text = [START, *(w.token for w in first)]
        made.write(text[6:], [bar] * 5, "softmax", 1)
        made.rewind(kept)
        again, _ = made.write(text[kept:], [0.45] * 8, "softmax", 1)
        other = calm(module)
        other.start(source)
        other.write([START], [0.45] * kept, "softmax", 1)
        expected, _ = other.write(text[kept:], [0.45] * 8, "softmax", 1)
        assert [(w.token, w.layers) for w in again] == [(w.token, w.layers) for w in expected]


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("confidence", ["state", "softmax"])
def test_a_threshold_of_one_is_vanilla_to_the_last_bit(make: str, confidence: str) -> None:
    module = deep(make)
    large = engine("fused", module)
    edges: dict[str, int] = {"start": START, "eos": EOS, "max_length": LIMIT}
    for seed in range(4):
        source = [*ids(5 + seed, seed), EOS]
        vanilla = run_live(alone("large", **edges), source, large, None)
        rule = ExitRule(1.0, confidence, None)  # type: ignore[arg-type]
        early = run_live(adaptive(rule, **edges), source, calm_engine(large), None)
        assert early.decoded.tokens == vanilla.decoded.tokens
        assert early.decoded.origins == vanilla.decoded.origins
        assert early.large_passes == vanilla.large_passes
        assert set(early.decoded.layers) == {DEPTH}
        assert early.decoded.depth == DEPTH
    large.start(source)
    probs = large.draft([START], LIMIT, 0.0)[1]
    made = calm_engine(large)
    assert write(made, source, [START], [1.0] * LIMIT, "state", 2)[3][: len(probs)] == pytest.approx(
        [-torch.tensor(p).double().log().item() for p in probs], abs=1e-6
    )


@pytest.mark.spread(5)
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize(("confidence", "layers"), [("softmax", 1), ("softmax", 3), ("state", 2), ("state", 4)])
def test_a_threshold_of_zero_is_the_model_of_the_first_layers(make: str, confidence: str, layers: int) -> None:
    """Every token leaves there, so no layer behind it is ever run, and none before it lacks a state."""
    module = deep(make)
    small = engine("fused", truncated(module, layers))
    edges: dict[str, int] = {"start": START, "eos": EOS, "max_length": LIMIT}
    for seed in range(3):
        source = [*ids(6 + seed, seed), EOS]
        rule = ExitRule(0.0, confidence, None, layers)  # type: ignore[arg-type]
        early = run_live(adaptive(rule, **edges), source, calm(module), None)
        assert early.decoded.tokens == run_live(alone("large", **edges), source, small, None).decoded.tokens
        assert set(early.decoded.layers) == {layers}


def test_keys_and_values_are_computed_once_and_only_where_they_are_needed() -> None:
    module = deep("t5-v1.0")
    made = calm(module)
    filled: list[tuple[int, int, int]] = []
    fill = made._fill
    made._fill = lambda layer: filled.append((layer, made._filled[layer], made.length)) or fill(layer)  # type: ignore[method-assign, func-returns-value]
    made.start([*ids(6), EOS])
    made.eos = -1
    made.write([START], [0.0] * 4, "softmax", 2)
    assert filled == []  # nobody has asked for the layers behind the second
    made.write([5], [1.0], "softmax", 2)
    assert filled == [(2, 0, 4), (3, 0, 4), (4, 0, 4)]
    made.write([6], [1.0], "softmax", 2)
    assert len(filled) == 3


def test_it_shares_the_buffers_of_an_early_exit_pair_and_leaves_it_as_good_as_new() -> None:
    module = deep("mt5")
    large, small = build_exit_engines("fused", module, 2, dtype="fp32", eos=EOS, vocabulary=48, capacity=4)
    made = calm_engine(large)
    edges: dict[str, int] = {"start": START, "eos": EOS, "max_length": LIMIT}
    alike = engine("fused", module)
    for seed in range(3):
        source = [*ids(6, seed), EOS]
        early = run_live(adaptive(ExitRule(0.5), **edges), source, made, None).decoded
        apart = run_live(adaptive(ExitRule(0.5), **edges), source, calm_engine(alike), None).decoded
        assert (early.tokens, early.layers) == (apart.tokens, apart.layers)
        vanilla = run_live(alone("large", **edges), source, large, None).decoded
        assert vanilla.tokens == run_live(alone("large", **edges), source, alike, None).decoded.tokens
        assert small.length == 0


def test_bars_that_overflow_to_nan_are_refused_rather_than_compared() -> None:
    module = build("t5-v1.0", num_decoder_layers=3)
    with torch.no_grad():
        module.decoder.block[0].layer[-1].DenseReluDense.wo.weight.fill_(float("inf"))
    made = calm(module)
    made.start([5, 6, EOS])
    for confidence in ("state", "softmax"):
        made.rewind(0)
        with pytest.raises(BildError, match="not finite"):
            made.write([START], [0.5], confidence, 2)


@pytest.mark.parametrize("name", ["hf", "graph"])
def test_other_engines_are_refused_in_one_sentence(name: str) -> None:
    made = build_engine(name, deep("mt5"), dtype="fp32", eos=EOS, vocabulary=48)
    with pytest.raises(BildError, match=f"method=calm does not run on engine={name}.*engine=fused"):
        calm_engine(made)


@pytest.mark.parametrize(("confidence", "first"), [("softmax", 2), ("state", 2), ("state", 7)])
def test_a_first_exit_that_leaves_no_layer_out_is_refused(confidence: str, first: int) -> None:
    made = calm(model("mt5"))
    made.start([5, EOS])
    with pytest.raises(BildError, match="never stops early, because this checkpoint has 2 decoder layers"):
        made.write([START], [0.5], confidence, first)
