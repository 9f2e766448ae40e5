"""The choice of the kinds of product: what it is made of, and when a default stays."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch
from threadpoolctl import ThreadpoolController

from bild.engines import build_engine, kernels
from bild.engines.fused import FusedEngine
from bild.engines.graph import GraphEngine
from bild.engines.kernels import COLUMNS, Kernels, chosen, kernels_for, kinds_on, pin_precision, sizes_of
from bild.engines.layouts import COMPILED, NUMPY_KINDS, PLAIN, TRITON
from tests.engines.tiny import EOS, model

CPU = torch.device("cpu")
SIZES = [(96, 130), (64, 8000), (96, 130)]


def us(**columns: tuple[float, float, float]) -> dict[str, dict[str, float]]:
    """Times of three kinds, the default first; columns that are not named are alike."""
    names = {"one": COLUMNS[0], "few": COLUMNS[1], "more": COLUMNS[2], "encoder": COLUMNS[3]}
    kinds = ("numpy in-out", "torch in-out", "packed")
    return {name: dict(zip(kinds, columns.get(key, (10.0, 10.0, 10.0)), strict=True)) for key, name in names.items()}


@pytest.mark.parametrize(
    ("times", "kinds"),
    [
        (us(), ["numpy in-out"] * 4),
        (us(one=(10.5, 10.0, 20.0)), ["numpy in-out"] * 4),  # hardly faster: the default stays
        (us(one=(12.0, 10.0, 20.0)), ["torch in-out"] * 3 + ["numpy in-out"]),
        (us(few=(12.0, 10.0, 10.0)), ["numpy in-out", "torch in-out", "numpy in-out", "numpy in-out"]),
        (us(few=(12.0, 12.0, 10.0)), ["numpy in-out"] * 4),  # not worth a second layout
        (us(few=(13.0, 13.0, 10.0)), ["numpy in-out", "packed", "numpy in-out", "numpy in-out"]),
        (us(few=(13.0, 13.0, 10.0), more=(12.0, 12.0, 10.0)), ["numpy in-out", "packed", "packed", "numpy in-out"]),
        (us(encoder=(12.0, 13.0, 10.0)), ["numpy in-out"] * 3 + ["packed"]),  # its matrices are others
    ],
)
def test_a_default_stays_unless_another_is_clearly_faster(times: dict, kinds: list[str]) -> None:
    assert list(chosen(times)) == list(COLUMNS)
    assert list(chosen(times).values()) == kinds


def test_without_a_triton_that_compiles_its_products_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "bild.engines.triton_product", raising=False)
    kernels._compiles.cache_clear()
    asked = list[tuple[str, ...]]()
    times = {name: dict.fromkeys((PLAIN, "torch out-in"), 10.0) for name in COLUMNS}
    monkeypatch.setattr(kernels, "_measured", lambda device, dtype, kinds, *_: asked.append(kinds) or times)
    kernels_for(torch.device("cuda"), torch.float16, SIZES, triton=True)
    assert asked == [(PLAIN, "torch out-in")] * 2
    kernels._compiles.cache_clear()


def test_a_kind_for_few_rows_leaves_its_layout_to_more_of_them() -> None:
    few = {PLAIN: 10.0, "torch out-in": 10.0, TRITON: 8.0}
    more = {PLAIN: 10.0, "torch out-in": 10.0}
    times = {name: few if name in COLUMNS[:2] else more for name in COLUMNS}
    assert list(chosen(times).values()) == [TRITON, TRITON, "torch out-in", PLAIN]


@pytest.mark.skipif(COMPILED not in kinds_on("cpu", torch.float32, 1), reason="no C compiler")
@pytest.mark.parametrize(
    ("strips", "wide", "told"),
    [
        (10.0, 10.0, [COMPILED] * 4),
        (12.0, 10.0, [COMPILED] * 4),  # whole compiled passes save more than that
        (12.0, 14.0, [COMPILED, COMPILED, "numpy in-out", COMPILED]),
        (13.0, 10.0, ["numpy in-out"] * 4),
    ],
)
def test_compiled_passes_are_taken_for_a_whole_model(
    strips: float, wide: float, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {name: {"numpy in-out": 10.0, COMPILED: wide if name == COLUMNS[2] else strips} for name in COLUMNS}
    monkeypatch.setattr("bild.engines.kernels._measured", lambda *_: times)
    assert [list(kinds.values()) for kinds in kernels_for(CPU, torch.float32, SIZES).kinds.values()] == [told] * 2


def test_every_size_is_measured_once_by_every_kind() -> None:
    kernels = kernels_for(CPU, torch.float32, SIZES)
    assert set(kernels.kinds) == {"96x130", "64x8000"}
    can = set(kinds_on("cpu", torch.float32, 1))
    for size, by_column in kernels.kinds.items():
        assert list(by_column) == list(COLUMNS)
        assert set(by_column.values()) <= can
        for by_kind in kernels.us[size].values():
            assert can - {"packed"} <= set(by_kind) <= can
            assert all(value > 0 for value in by_kind.values())
    again = kernels_for(CPU, torch.float32, SIZES)
    assert again.us == kernels.us
    assert Kernels(**json.loads(json.dumps(dataclasses.asdict(kernels)))) == kernels


def test_a_tiny_matrix_takes_the_default_unmeasured() -> None:
    kernels = kernels_for(CPU, torch.float32, [(8, 8)])
    kinds = kinds_on("cpu", torch.float32, torch.get_num_threads())
    assert kernels.kinds == {"8x8": dict.fromkeys(COLUMNS, COMPILED if COMPILED in kinds else kinds[0])}
    assert not kernels.us


def test_a_matrix_takes_the_kinds_of_its_size_and_the_encoder_its_own() -> None:
    kinds = dict(zip(COLUMNS, ("torch in-out", "numpy out-in", "packed", "torch out-in"), strict=True))
    kernels = Kernels("told so", {"3x4": kinds})
    assert kernels.of(3, 4) == ("torch in-out", "numpy out-in", "packed")
    assert kernels.of(3, 4, encoder=True) == ("torch out-in",) * 3
    assert kernels.of(4, 4) == (PLAIN,) * 3


@pytest.mark.parametrize("make", ["t5-v1.0", "t5-v1.1", "deep-decoder"])
@pytest.mark.parametrize("name", ["fused", "graph"])
def test_the_sizes_are_those_of_the_matrices(make: str, name: str) -> None:
    module = model(make)
    made = build_engine(name, module, dtype="fp32", eos=EOS, vocabulary=40)
    assert isinstance(made, FusedEngine | GraphEngine)
    weights = made.weights
    layers = [*weights.encoder.layers, *weights.decoder]
    found = [m for layer in layers for m in vars(layer).values()] + [weights.cross_kv, weights.head]
    assert sorted((m.inner, m.out) for m in found) == sorted(sizes_of(module.config, 40))
    assert set(weights.kernels.kinds) == {f"{m.inner}x{m.out}" for m in found}


@pytest.mark.parametrize(
    ("device", "dtype", "threads"),
    [("cpu", torch.bfloat16, 1), ("cpu", torch.float32, 2), ("cuda", torch.float32, 1), ("cuda", torch.float16, 1)],
)
def test_numpy_is_for_fp32_on_one_thread_of_a_cpu(device: str, dtype: torch.dtype, threads: int) -> None:
    kinds = kinds_on(device, dtype, threads)
    assert kinds[0] == PLAIN
    assert not set(kinds) & set(NUMPY_KINDS)
    assert ("packed" in kinds) <= (device == "cpu" and dtype == torch.float32)


def test_precision_is_pinned_whatever_it_was() -> None:
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = True
    expected = {"float32_matmul": "highest", "fp16_reduced_reduction": False, "bf16_reduced_reduction": False}
    assert pin_precision() == expected
    assert torch.get_float32_matmul_precision() == "highest"


def test_numpy_multiplies_with_one_thread() -> None:
    if any(kind in NUMPY_KINDS for kind in kinds_on("cpu", torch.float32, 1)):
        kernels_for(CPU, torch.float32, SIZES)
        blas = ThreadpoolController().select(internal_api="openblas").info()
        assert 1 in {one["num_threads"] for one in blas}


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_other_dtypes_measure_the_plain_kinds(dtype: str) -> None:
    kernels = kernels_for(CPU, {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype], [(64, 256)])
    assert kernels.us
    assert set(kernels.kinds["64x256"].values()) <= {PLAIN, "torch out-in"}
