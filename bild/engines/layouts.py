"""A weight matrix in the layouts that its products take, and the products.

A kind of product is a library and a layout. No kind is the fastest everywhere: which one a matrix takes for one row,
for a few and for more is measured (`bild.engines.kernels`).

- "torch in-out", "torch out-in": torch's product over a contiguous [in, out], or over [out, in] as checkpoints have it.
- "numpy in-out", "numpy out-in": the same by NumPy's BLAS. fp32 on one thread of a CPU.
- "packed": weights that oneDNN has packed, by oneDNN. fp32 on a CPU, any number of threads.
- "compiled strips": by `bild.engines.strips`, where a C compiler is. fp32 on one thread of a CPU.
- "triton out-in": by `bild.engines.triton_product` in the captured passes of engine `graph-triton`, elsewhere as "torch
  out-in". One row to eight, on a GPU.

docs/measurement.md has the figures.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bild.engines.strips import STRIP, Strips

Floats = NDArray[np.float32]

NUMPY_KINDS = ("numpy in-out", "numpy out-in")
"""Kinds that need a NumPy with an OpenBLAS of its own."""
COMPILED = "compiled strips"
TRITON = "triton out-in"
PLAIN = "torch in-out"
"""The kind that every device and dtype has."""
_PACKED_ROWS = 8
"""The number of rows that oneDNN packs for; the packed weights serve all others too."""
PACKS = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
_FEW = 8
WIDTHS = ("1", f"2-{_FEW}", "more")
"""Classes of numbers of rows, each with a kind of its own."""


def width_class(rows: int) -> int:
    """Return the place in `WIDTHS` of a number of rows."""
    return 0 if rows == 1 else 1 if rows <= _FEW else 2


@dataclass(frozen=True)
class Matrix:
    """[in, out], to be multiplied from the left by rows."""

    inner: int
    out: int
    dtype: torch.dtype
    """Of the weights; rows must have it too."""
    kinds: tuple[str, str, str]
    """The kind of product by width class."""
    layouts: dict[str, Tensor | Strips]
    """Those that the kinds need: "in-out", "out-in" (also [in, out], transposed), "packed", "strips"."""
    out_dtype: torch.dtype | None = None
    """The dtype of products; None for that of the weights."""

    @staticmethod
    def of(rows: Tensor, kinds: Sequence[str] = (PLAIN,) * 3, out_dtype: torch.dtype | None = None) -> Matrix:
        """From a weight as checkpoints have it, [out, in]."""
        one, few, more = kinds
        layouts = {name: _laid_out(rows, name) for name in {layout_of(kind) for kind in kinds}}
        return Matrix(rows.shape[1], rows.shape[0], rows.dtype, (one, few, more), layouts, out_dtype)

    def kind(self, rows: int) -> str:
        """Return the kind of product with so many rows."""
        return self.kinds[width_class(rows)]

    def times(self, x: Tensor) -> Tensor:
        """x [k, in] times this: [k, out], in memory of its own."""
        kind = self.kind(x.shape[0])
        weights = self.layouts[layout_of(kind)]
        if isinstance(weights, Strips):
            return weights.multiply(x)
        if kind == "packed":
            return _packed_product(x, weights)
        if kind in NUMPY_KINDS:
            return torch.from_numpy(np.matmul(x.numpy(), weights.numpy()))
        if self.out_dtype is not None:
            return torch.mm(x, weights, out_dtype=self.out_dtype)
        return torch.mm(x, weights)

    def products(self) -> tuple[Product, Product, Product]:
        """Return by width class the function that writes the product of a block with this to another block; fp32."""
        one, few, more = (_product(kind, self.layouts[layout_of(kind)]) for kind in self.kinds)
        return one, few, more


def layout_of(kind: str) -> str:
    """Return the layout that a kind of product goes over."""
    return kind.rpartition(" ")[2]


def _laid_out(rows: Tensor, layout: str) -> Tensor | Strips:
    if layout == "strips":
        return Strips.of(rows, empty_weights)
    if layout == "packed":
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(rows.contiguous(), _PACKED_ROWS)
        return packed
    if layout == "out-in":
        return rows.contiguous().t()
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return rows.t().contiguous()
    with torch.inference_mode(False):
        flat = torch.from_numpy(empty_weights((rows.shape[1], rows.shape[0])))
    return flat.copy_(rows.detach().t())


def _packed_product(x: Tensor, packed: Tensor) -> Tensor:
    rows = x.shape[0]
    if rows in (2, 3):  # its kernel for two rows is slower than the one for four
        x = torch.cat((x, x))
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    return product[:rows]


class Block:
    """Rows of numbers in one piece of memory, as NumPy, torch and compiled code see it.

    The libraries' products are fed `array`: one row, or at least four, which takes them no longer than two or three;
    the rows beyond `count` begin as zero and mean nothing.
    """

    def __init__(self, count: int, width: int, memory: Floats | None = None) -> None:
        self.count = count
        self.memory = np.zeros(self.size(count, width), np.float32) if memory is None else memory
        whole = self.memory.reshape(_fed(count), -1)
        self.array: Floats = whole[:, :width]
        self.address, self.step = whole.ctypes.data, whole.shape[1]
        with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside of it
            self.tensor = torch.from_numpy(self.array)

    @staticmethod
    def size(count: int, width: int) -> int:
        """Return the number of entries of a block's memory."""
        return _fed(count) * ceil(width / STRIP) * STRIP

    def first(self, width: int) -> Block:
        """Return the first columns as a block over the same memory."""
        return Block(self.count, width, self.memory)


def _fed(count: int) -> int:
    return 1 if count == 1 else max(count, 4)


Product = Callable[[Block, Block], object]


def _product(kind: str, weights: Tensor | Strips) -> Product:
    if isinstance(weights, Strips):
        return lambda x, out: weights.times(x.address, x.step, x.count, out.address, out.step)
    if kind == "packed":
        return lambda x, out: out.tensor.copy_(_packed_product(x.tensor, weights))
    if kind in NUMPY_KINDS:
        array = weights.numpy()
        return lambda x, out: np.matmul(x.array, array, out.array)
    return lambda x, out: torch.mm(x.tensor, weights, out=out.tensor)


_HUGE_PAGE, _PIECE = 2 << 20, 32 << 20
_left = np.empty(0, np.uint8)
"""What is left of the memory that `empty_weights` took last."""


def empty_weights(shape: tuple[int, ...]) -> Floats:
    """Make an array behind the one before, so that a model's matrices lie together on huge pages, small ones too."""
    global _left
    size = -(-4 * prod(shape) // 64) * 64
    if size > len(_left):
        _left = _pages(max(size, _PIECE))
    memory, _left = _left[:size], _left[size:]
    array: Floats = memory[: 4 * prod(shape)].view(np.float32).reshape(shape)
    return array


def empty(shape: tuple[int, ...]) -> Floats:
    """Make an array that begins at a cache line, on huge pages where it is large and the system has them."""
    size = 4 * prod(shape)
    array: Floats = _pages(size)[:size].view(np.float32).reshape(shape)
    return array


def _pages(size: int) -> NDArray[np.uint8]:
    """Return at least so many bytes."""
    if size < _HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        memory = np.empty(size + 64, np.uint8)
        return memory[-memory.ctypes.data % 64 :]
    whole = -(-size // _HUGE_PAGE) * _HUGE_PAGE + _HUGE_PAGE
    pages = mmap.mmap(-1, whole, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # a shared one is not on huge pages
    pages.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(pages, np.uint8)
    return memory[-memory.ctypes.data % _HUGE_PAGE :]
