"""The product of a few rows with a matrix, by Triton: kind "triton out-in".

A product of one row reads a matrix once and does little else, so it is as fast as its reads. Each program takes a few
outputs, whose weights lie behind each other in [out, in], and keeps their sums apart until the end. Sums are in fp32.

Engine `graph-triton` multiplies so where it was measured to be faster than cuBLAS (`bild.engines.kernels`); to launch
kernels of Triton one by one takes longer than the product, so the engines without captures take torch's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bild.engines.layouts import Matrix

_WIDE = 3072
"""Outputs from which a matrix fills a GPU with programs of four outputs each."""
_DEEP = 2048
"""Inputs from which a row of weights fills a program by itself."""


def multiply(x: Tensor, matrix: Matrix) -> Tensor:
    """Multiply rows x [k, in], at most eight, with a matrix [in, out] of this kind: [k, out]."""
    weights = matrix.layouts["out-in"]
    assert isinstance(weights, Tensor)
    y: Tensor = torch.ops.bild.product(x, weights.t(), matrix.out_dtype or matrix.dtype)
    return y


@torch.library.custom_op("bild::product", mutates_args=())
def _product(x: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Multiply rows x [k, in] with weights [out, in]: [k, out] in `dtype`."""
    x = x.contiguous()
    count, inner = x.shape
    out = weights.shape[0]
    y = torch.empty((count, out), dtype=dtype, device=x.device)
    outs, deep, warps = _divided(count, inner, out)
    even = out % outs == 0 and inner % deep == 0
    rows = triton.next_power_of_2(count)
    sizes = {"ROWS": rows, "OUTS": outs, "DEEP": deep, "EVEN": even, "num_warps": warps}
    _times[(triton.cdiv(out, outs),)](x, weights, y, count, inner, out, **sizes)
    return y


@_product.register_fake
def _(x: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty((x.shape[0], weights.shape[0]), dtype=dtype)


def _divided(count: int, inner: int, out: int) -> tuple[int, int, int]:
    """Return the outputs of a program, the inputs that it looks at together, and its warps: the fastest on an H100."""
    if count == 1:
        return (1, 1024, 4) if inner >= _DEEP else (2, 512, 2)
    if count <= 4:
        return (4, 128, 2) if out >= _WIDE else (2, 256, 4)
    return (4, 128, 4) if out >= _WIDE else (2, 128, 4)


@triton.jit
def _times(
    x,
    weights,
    y,
    count,
    inner,
    out,
    ROWS: tl.constexpr,
    OUTS: tl.constexpr,
    DEEP: tl.constexpr,
    EVEN: tl.constexpr,
) -> None:
    row, column = tl.arange(0, ROWS), tl.program_id(0) * OUTS + tl.arange(0, OUTS)
    sums = tl.zeros((ROWS, OUTS, DEEP), tl.float32)
    for first in range(0, inner, DEEP):
        at = first + tl.arange(0, DEEP)
        if EVEN:
            weight = tl.load(weights + column[:, None] * inner + at[None, :])
            value = tl.load(x + row[:, None] * inner + at[None, :], mask=row[:, None] < count, other=0.0)
        else:
            inside = at[None, :] < inner
            weight = tl.load(
                weights + column[:, None] * inner + at[None, :], mask=(column[:, None] < out) & inside, other=0.0
            )
            value = tl.load(x + row[:, None] * inner + at[None, :], mask=(row[:, None] < count) & inside, other=0.0)
        sums += value.to(tl.float32)[:, None, :] * weight.to(tl.float32)[None, :, :]
    place = y + row[:, None] * out + column[None, :]
    there = (row[:, None] < count) & (column[None, :] < out)
    tl.store(place, tl.sum(sums, 2).to(y.dtype.element_ty), mask=there)
