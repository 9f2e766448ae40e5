"""Every kind of product against the plain one, and blocks of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bild.engines import kernels, t5
from bild.engines.compiled import CompiledDecoder
from bild.engines.fused import FusedEngine, TensorDecoder
from bild.engines.graph import GraphEngine
from bild.engines.kernels import UNMEASURED
from bild.engines.layouts import COMPILED, NUMPY_KINDS, PACKS, PLAIN, Block, Matrix, empty, width_class
from bild.engines.strips import STRIP, Strips, compiled
from bild.engines.t5_host import HostDecoder
from tests.engines.tiny import EOS, all_of, build, engine, ids, model

# [in, out]: less than a strip, not whole strips, deep, so large that it gets pages of its own
SHAPES = [(24, 6), (40, 48), (64, 64), (96, 130), (1024, 64), (2500, 70), (1025, 700)]
COUNTS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 130]
KINDS = (PLAIN, "torch out-in", *NUMPY_KINDS, *(["packed"] if PACKS else []), *([COMPILED] if compiled() else []))


def weight(inner: int, out: int) -> torch.Tensor:
    return torch.randn(out, inner, generator=torch.Generator().manual_seed(inner))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("inner", "out"), SHAPES)
def test_products_of_any_number_of_rows_are_those_of_the_plain_matrix(inner: int, out: int, kind: str) -> None:
    rows = weight(inner, out)
    matrix = Matrix.of(rows, (kind,) * 3)
    assert (matrix.inner, matrix.out, matrix.dtype) == (inner, out, torch.float32)
    for count in COUNTS:
        x = torch.randn(count, inner, generator=torch.Generator().manual_seed(count))
        product = matrix.times(x)
        assert product.shape == (count, out)
        torch.testing.assert_close(product, x @ rows.t(), rtol=1e-4, atol=1e-3)
        fed = Block(count, inner)
        fed.array[:count] = x.numpy()
        written = Block(count, out)
        matrix.products()[width_class(count)](fed, written)
        torch.testing.assert_close(written.tensor[:count], x @ rows.t(), rtol=1e-4, atol=1e-3)


def test_a_matrix_keeps_the_layouts_of_its_kinds_alone() -> None:
    assert list(Matrix.of(weight(64, 64), ("torch in-out", "numpy in-out", "torch in-out")).layouts) == ["in-out"]
    assert set(Matrix.of(weight(64, 64), ("numpy out-in", PLAIN, PLAIN)).layouts) == {"out-in", "in-out"}


def test_each_width_class_has_its_own_product() -> None:
    kinds = ("torch in-out", "numpy out-in", "torch out-in")
    matrix = Matrix.of(weight(64, 64), kinds)
    assert [kinds.index(matrix.kinds[width_class(rows)]) for rows in (1, 2, 8, 9, 200)] == [0, 1, 1, 2, 2]


@pytest.mark.skipif(compiled() is None, reason="no C compiler")
def test_columns_beyond_the_last_are_zero() -> None:
    strips = Strips.of(weight(32, 70), empty)
    assert strips.data.shape == (5, 32, STRIP)
    assert not strips.data[4, :, 70 - 4 * STRIP :].any()


@pytest.mark.parametrize(
    "does", [None, "exit 1", "exit 0", 'while [ "$1" != -o ]; do shift; done; echo no library > "$2"']
)
def test_without_a_compiler_that_works_the_kind_is_not_there(
    does: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    if does is not None:
        compiler.write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(kernels, "compiled", compiled.__wrapped__)
    kinds = kernels.kinds_on("cpu", torch.float32, 1)
    assert COMPILED not in kinds
    assert PLAIN in kinds


def test_the_first_columns_of_a_block_are_the_same_memory() -> None:
    block = Block(3, 100)
    part = block.first(40)
    part.tensor[:] = 2.0
    assert (block.array[:, :40] == 2.0).all()
    assert not block.array[:, 40:].any()


@pytest.mark.parametrize("shape", [(1,), (3, 5), (700, 800)])
def test_arrays_begin_at_a_cache_line_and_can_be_written(shape: tuple[int, ...]) -> None:
    array = empty(shape)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.ctypes.data % 64 == 0
    array[:] = 1.0
    assert (array == 1.0).all()


@pytest.mark.parametrize("make", ["t5-v1.0", "mt5", "wide"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_kernels_say_the_same(make: str, kind: str) -> None:
    """As the plain functions over tensors do."""
    told = []
    module = model(make)
    for way in (PLAIN, kind):
        made = engine("fused", module, kernels=all_of(module, way))
        assert isinstance(made, FusedEngine)
        assert isinstance(made.decoder, CompiledDecoder if way == COMPILED else HostDecoder)
        assert {made.weights.head.kinds, made.weights.encoder.layers[0].wi.kinds} == {(way,) * 3}
        if way == PLAIN:
            made.decoder = TensorDecoder(made.weights)
        made.start([*ids(9), EOS])
        summaries = [made.step(ids(width, seed=width), want=width) for width in (1, 5, 1, 17, 2)]
        made.rewind(3)
        told.append([*summaries, made.step(ids(3), want=2)])
    for ours, theirs in zip(*told, strict=True):
        assert ours.choice == theirs.choice
        assert ours.choice_nll == pytest.approx(theirs.choice_nll, rel=1e-4, abs=1e-5)
        assert ours.token_nll == pytest.approx(theirs.token_nll, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["fused", "graph"])
def test_a_gpu_need_not_read_wo_in_fp32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its products of fp16 matrices are in fp32 there, for which plain torch stands here."""
    module = build("mt5").half()
    plain = engine(name, module, dtype="fp16", kernels=UNMEASURED)
    product = torch.mm

    def mm(x: torch.Tensor, w: torch.Tensor, out_dtype: torch.dtype | None = None) -> torch.Tensor:
        return product(x, w) if out_dtype is None else product(x.to(out_dtype), w.to(out_dtype))

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(t5, "narrow_wo", lambda _: True)
    narrow = engine(name, module, dtype="fp16", kernels=UNMEASURED)
    assert isinstance(plain, FusedEngine | GraphEngine)
    assert isinstance(narrow, FusedEngine | GraphEngine)
    assert [made.weights.decoder[0].wo.dtype for made in (plain, narrow)] == [torch.float32, torch.float16]
    assert narrow.weights.decoder[0].wo.out_dtype == torch.float32
    assert narrow.weights.decoder[0].wi.out_dtype is None
    told = []
    for made in (plain, narrow):
        made.start([*ids(9), EOS])
        told.append([made.step(ids(width, seed=width), want=width) for width in (1, 5)])
    for ours, theirs in zip(*told, strict=True):
        assert ours.choice == theirs.choice
        assert ours.choice_nll == pytest.approx(theirs.choice_nll, rel=2e-2, abs=2e-2)
