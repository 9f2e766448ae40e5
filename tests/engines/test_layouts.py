"""Products over panels against plain ones, and the choice of kernels."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController

from bild.engines import fused
from bild.engines.fused import FusedEngine
from bild.engines.kernels import CLEARLY, Kernels, kernels_for, kernels_told
from bild.engines.layouts import PANEL, Matrix, Panels, Rows, empty
from bild.engines.t5_host import HostDecoder
from tests.engines.tiny import EOS, engine, ids, model

# [in, out]: less than a panel, not whole panels, so deep that a panel is cut, so large that it gets pages of its own
SHAPES = [(24, 6), (40, 48), (64, 64), (96, 130), (1024, 64), (2500, 70), (1025, 700)]
COUNTS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 130]


def weight(inner: int, out: int) -> torch.Tensor:
    return torch.randn(out, inner, generator=torch.Generator().manual_seed(inner))


@pytest.mark.parametrize(("inner", "out"), SHAPES)
def test_products_of_any_number_of_rows_are_those_of_the_plain_matrix(inner: int, out: int) -> None:
    rows = weight(inner, out)
    matrix = Matrix.of(rows, in_panels=True)
    for count in COUNTS:
        x = torch.randn(count, inner, generator=torch.Generator().manual_seed(count))
        product = matrix.times(x)
        assert product.shape == (count, out)
        torch.testing.assert_close(product, x @ rows.t(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("inner", "out"), SHAPES)
def test_a_matrix_can_be_had_back(inner: int, out: int) -> None:
    rows = weight(inner, out)
    for in_panels in (True, False):
        matrix = Matrix.of(rows, in_panels=in_panels)
        assert torch.equal(matrix.plain, rows.t())
        assert (matrix.inner, matrix.out, matrix.dtype) == (inner, out, torch.float32)


def test_columns_beyond_the_last_are_zero() -> None:
    panels = Panels.of(weight(32, 70))
    assert panels.data.shape == (2, 32, PANEL)
    assert not panels.data[1, :, 70 - PANEL :].any()


@pytest.mark.parametrize("inner", [8, 256, 1000, 1024, 4096])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 15, 16, 25, 61, 62, 512])
def test_the_rows_of_a_product_fit_the_kernel_for_small_ones(count: int, inner: int) -> None:
    rows = Rows.of(count, inner)
    assert count <= rows.fed
    assert rows.fed - count < max(rows.blocks, 2)
    assert rows.block >= 2
    assert rows.block * min(inner, 1024) * PANEL <= 1_000_000


@pytest.mark.parametrize("shape", [(1,), (3, 5), (700, 800)])
def test_arrays_begin_at_a_cache_line_and_can_be_written(shape: tuple[int, ...]) -> None:
    array = empty(shape)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.ctypes.data % 64 == 0
    array[:] = 1.0
    assert (array == 1.0).all()


# The choice


def test_the_choice_is_one_of_two_and_says_what_it_rests_on() -> None:
    kernels = kernels_for(torch.device("cpu"), torch.float32)
    assert kernels.name in ("panels", "torch")
    assert kernels is kernels_for(torch.device("cpu"), torch.float32)
    if kernels.us:
        totals = {name: sum(us.values()) for name, us in kernels.us.items()}
        assert (kernels.name == "panels") == (CLEARLY * totals["panels"] < totals["torch"])
    assert kernels.why
    assert set(dataclasses.asdict(kernels)) == {"name", "why", "us"}


def test_numpy_multiplies_with_one_thread_where_panels_are_used() -> None:
    if kernels_for(torch.device("cpu"), torch.float32).us:
        blas = ThreadpoolController().select(internal_api="openblas").info()
        assert {one["num_threads"] for one in blas} == {1}


def test_a_record_is_told_the_choice_of_fused_only() -> None:
    told = kernels_told("fused", "cpu", "fp32")
    assert told == dataclasses.asdict(kernels_for(torch.device("cpu"), torch.float32))
    assert json.loads(json.dumps(told)) == told
    assert kernels_told("hf", "cpu", "fp32") is None


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", torch.bfloat16), ("cuda", torch.float32), ("cuda", torch.float16)]
)
def test_panels_are_for_fp32_on_a_cpu(device: str, dtype: torch.dtype) -> None:
    assert kernels_for(torch.device(device), dtype).name == "torch"


def test_panels_are_for_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert kernels_for(torch.device("cpu"), torch.float32).name == "torch"


@pytest.mark.parametrize("make", ["t5-v1.0", "mt5", "wide"])
def test_both_kinds_of_kernels_say_the_same(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for name in ("panels", "torch"):
        monkeypatch.setattr(fused, "kernels_for", lambda *_, name=name: Kernels(name, "told so"))
        made = engine("fused", model(make))
        assert isinstance(made, FusedEngine)
        assert isinstance(made.decoder, HostDecoder) == (name == "panels")
        made.start([*ids(9), EOS])
        summaries = [made.step(ids(width, seed=width), want=width) for width in (1, 5, 1, 17, 2)]
        made.rewind(3)
        told.append([*summaries, made.step(ids(3), want=2)])
    for ours, theirs in zip(*told, strict=True):
        assert ours.choice == theirs.choice
        assert ours.choice_nll == pytest.approx(theirs.choice_nll, rel=1e-4, abs=1e-5)
        assert ours.token_nll == pytest.approx(theirs.token_nll, rel=1e-4, abs=1e-5)
