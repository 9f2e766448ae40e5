"""bf16 and fp16: close to fp32 where they can be, and an error rather than nonsense where they cannot."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from bild.api import generate
from bild.engines import Engine
from bild.errors import BildError
from bild.models import Pair
from tests.engines.tiny import EOS, START, engine, ids, library_logits, saved_pair
from tests.golden.sets import OWN, Golden

NAMES = ["fused", "hf"]
every_engine = pytest.mark.parametrize("name", NAMES)
every_pair = pytest.mark.parametrize("golden", ["t5", "mt5"])
"""Trained models: random ones magnify every rounding."""
SOURCE = [*ids(9), EOS]
TEXT = [START, *ids(20, seed=1)]
ROUNDING = {"fp16": 2**-11, "bf16": 2**-8}


def large(golden: str) -> Any:
    return Golden(OWN, golden).pair().large.module


def scaled(module: Any, part: str, factor: float) -> Any:
    """A copy in which the weights of this part are larger."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        found = [weight.mul_(factor) for name, weight in other.named_parameters() if part in name]
    assert found
    return other


def nlls(made: Engine, *, one_by_one: bool = False) -> list[float]:
    """Return the nlls of every token of TEXT, or of every choice where the steps are of one token."""
    made.start(SOURCE)
    if one_by_one:
        return [nll for token in TEXT for nll in made.step([token]).choice_nll]
    return made.step(TEXT, want=len(TEXT)).token_nll


def distance(a: list[float], b: list[float]) -> float:
    """Mean distance of two lists of nlls."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)


@cache
def _pair(folder: Path, golden: str, dtype: str) -> Pair:
    return saved_pair(folder / golden / dtype, large(golden), Golden(OWN, golden).pair().small.module, dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("halves")


@pytest.mark.spread(5)
@every_pair
@pytest.mark.parametrize("dtype", ROUNDING)
@every_engine
@pytest.mark.parametrize("one_by_one", [True, False])
def test_half_precision_is_close_to_fp32(golden: str, dtype: str, name: str, one_by_one: bool, folder: Path) -> None:
    exact = nlls(engine("hf", large(golden)), one_by_one=one_by_one)
    half = nlls(_pair(folder, golden, dtype).engine("large", name), one_by_one=one_by_one)
    assert 0.0 < distance(half, exact) < 16 * ROUNDING[dtype]


@every_pair
@pytest.mark.parametrize("dtype", ROUNDING)
def test_fused_loses_no_more_than_twice_what_the_library_loses(golden: str, dtype: str, folder: Path) -> None:
    exact = nlls(engine("hf", large(golden)))
    pair = _pair(folder, golden, dtype)
    ours, theirs = (distance(nlls(pair.engine("large", name)), exact) for name in NAMES)
    assert ours < 2 * theirs + ROUNDING[dtype]


@pytest.mark.spread(8)
@every_pair
@pytest.mark.parametrize("dtype", ROUNDING)
@every_engine
@pytest.mark.parametrize("method", ["vanilla", "small", "bild", "speculative"])
def test_every_method_runs_in_half_precision(golden: str, dtype: str, name: str, method: str, folder: Path) -> None:
    options = {"rb": 2.0} if method == "bild" else {}
    output = generate(_pair(folder, golden, dtype), SOURCE, method=method, engine=name, max_length=24, **options)
    assert output.tokens[0] == START
    assert output.tokens[-1] == EOS or len(output.tokens) == 24


@every_pair
@pytest.mark.parametrize("dtype", ROUNDING)
def test_rewinds_leave_no_trace_in_half_precision(golden: str, dtype: str, folder: Path) -> None:
    made = _pair(folder, golden, dtype).engine("large", "fused")
    made.start(SOURCE)
    straight = made.step(TEXT, want=4)
    made.rewind(0)
    made.step(TEXT[:9])
    made.step(ids(7, seed=3))
    made.rewind(9)
    made.step(TEXT[9:-4])
    assert made.step(TEXT[-4:], want=4).choice_nll == pytest.approx(straight.choice_nll, abs=32 * ROUNDING[dtype])


# fp16 holds nothing above 65,504


@pytest.mark.spread(2)
@every_pair
@pytest.mark.parametrize("one_by_one", [True, False])
def test_in_fp16_the_second_feed_forward_matrix_keeps_fp32(golden: str, one_by_one: bool, tmp_path: Path) -> None:
    """Its weights, and what it writes into the residual, are far beyond fp16 here."""
    module = scaled(large(golden), "DenseReluDense.wo", 1e6)
    exact = nlls(engine("hf", module), one_by_one=one_by_one)
    made = saved_pair(tmp_path, module, module, "fp16").engine("large", "fused")
    assert distance(nlls(made, one_by_one=one_by_one), exact) < 16 * ROUNDING["fp16"]


OVERFLOWS = [
    "decoder.block.0.layer.0.SelfAttention.v",
    "SelfAttention.k",
    "encoder.block",
    "EncDecAttention.v",
    "EncDecAttention.k",
    "DenseReluDense.wi",
    "decoder.final_layer_norm",
    "shared",
]


@pytest.mark.spread(3)
@pytest.mark.parametrize(("golden", "part"), [(("t5", "mt5")[i % 2], part) for i, part in enumerate(OVERFLOWS)])
def test_an_overflow_in_fp16_is_told_in_words(golden: str, part: str, tmp_path: Path) -> None:
    module = scaled(large(golden), part, 1e7)
    pair = saved_pair(tmp_path, module, module, "fp16")
    for name in NAMES:
        for one_by_one in (True, False):
            with pytest.raises(BildError, match=r"NaN.*overflow.*fp32"):
                nlls(pair.engine("large", name), one_by_one=one_by_one)
        with pytest.raises(BildError, match="overflow"):
            generate(pair, SOURCE, engine=name, rules="paper")


@pytest.mark.spread(1)
@pytest.mark.parametrize("golden", ["mt5"])
@pytest.mark.parametrize("part", ["DenseReluDense.wi", "DenseReluDense.wo", "SelfAttention.v", "EncDecAttention.v"])
def test_on_the_way_to_an_overflow_there_is_no_nonsense(golden: str, part: str, tmp_path: Path) -> None:
    """Whatever the size of the weights: close to fp32, or an error."""
    refused = 0
    for power in (2, 4, 7):
        module = scaled(large(golden), part, 10.0**power)
        exact = nlls(engine("hf", module))
        made = saved_pair(tmp_path / str(power), module, module, "fp16").engine("large", "fused")
        try:
            found = nlls(made)
        except BildError:
            refused += 1
        else:
            assert distance(found, exact) < 0.1, f"{part} times 1e{power}"
    assert refused < 3


@every_engine
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_broken_checkpoint_is_told_in_fp32_too(name: str, bad: float, one_by_one: bool) -> None:
    module = scaled(large("t5"), "decoder.block.0.layer.0.SelfAttention.o", bad)
    with pytest.raises(BildError, match=r"NaN.*check the checkpoint"):
        nlls(engine(name, module), one_by_one=one_by_one)


@every_engine
def test_an_infinite_residual_is_told_in_fp32_too(name: str) -> None:
    """An infinite value has an infinite mean square, and a product scaled by 1/inf is no longer seen to be wrong."""
    module = scaled(large("t5"), "decoder.block.2.layer.1.EncDecAttention.o", 3e38)
    made = engine(name, module)
    for token in TEXT:
        made.start(SOURCE)
        assert not library_logits(module, SOURCE, [token]).isfinite().all()
        with pytest.raises(BildError, match="NaN"):
            made.step([token])
