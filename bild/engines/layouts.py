"""A weight matrix in the layouts that its products take, and the products.

A kind of product is a library and a layout. No kind is the fastest everywhere: which one a matrix takes for one row,
for a few and for more is measured (`bild.engines.kernels`).

- "torch in-out", "torch out-in": torch's product over a contiguous [in, out], or over [out, in] as checkpoints have it.
- "numpy in-out", "numpy out-in": the same by NumPy's BLAS. fp32 on one thread of a CPU, as all kinds below.
- "packed": weights that oneDNN has packed, by oneDNN. Any number of threads.
- "panels": by NumPy's BLAS over panels of 64 columns. Where the CPU has AVX-512, OpenBLAS has a kernel for small
  products that packs nothing: rows x inner x columns of at most a million. One panel and a few rows make such a
  product, and a panel is read from its first byte to its last. One row is fed as two, since a single one would go to
  a slower kernel, and many are cut into blocks that take turns with a panel in the cache.

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

Floats = NDArray[np.float32]

NUMPY_KINDS = ("numpy in-out", "numpy out-in", "panels")
"""Kinds that need a NumPy with an OpenBLAS of its own."""
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
    layouts: dict[str, Tensor | Panels]
    """Those that the kinds need: "in-out", "out-in" (also [in, out], transposed), "packed", "panels"."""
    out_dtype: torch.dtype | None = None
    """The dtype of products; None for that of the weights."""

    @staticmethod
    def of(rows: Tensor, kinds: Sequence[str] = (PLAIN,) * 3, out_dtype: torch.dtype | None = None) -> Matrix:
        """From a weight as checkpoints have it, [out, in]."""
        one, few, more = kinds
        layouts = {name: _laid_out(rows, name) for name in {layout_of(kind) for kind in kinds}}
        return Matrix(rows.shape[1], rows.shape[0], rows.dtype, (one, few, more), layouts, out_dtype)

    def times(self, x: Tensor) -> Tensor:
        """x [k, in] times this: [k, out], in memory of its own."""
        kind = self.kinds[width_class(x.shape[0])]
        weights = self.layouts[layout_of(kind)]
        if isinstance(weights, Panels):
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


def _laid_out(rows: Tensor, layout: str) -> Tensor | Panels:
    if layout == "panels":
        return Panels.of(rows)
    if layout == "packed":
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(rows.contiguous(), _PACKED_ROWS)
        return packed
    if layout == "out-in":
        return rows.contiguous().t()
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return rows.t().contiguous()
    with torch.inference_mode(False):
        flat = torch.from_numpy(empty((rows.shape[1], rows.shape[0])))
    return flat.copy_(rows.detach().t())


def _packed_product(x: Tensor, packed: Tensor) -> Tensor:
    rows = x.shape[0]
    if rows in (2, 3):  # its kernel for two rows is slower than the one for four
        x = torch.cat((x, x))
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    return product[:rows]


class Block:
    """Rows of numbers in one piece of memory, as NumPy, torch and panels see it.

    A product is fed `fed` rows, of which the first `count` mean something; the others begin as zero. A single row is
    fed alone, but to panels.
    """

    def __init__(self, count: int, width: int, rows: Rows | None = None, memory: Floats | None = None) -> None:
        self.count, self.rows = count, rows or Rows.of(count, width)
        self.memory = np.zeros(self.size(self.rows, width), np.float32) if memory is None else memory
        whole = self.memory.reshape(self.rows.fed, -1)
        self.fed: Floats = whole[:, :width]
        self.array: Floats = self.fed[:1] if count == 1 else self.fed
        self.panels: Floats = whole.reshape(len(whole), -1, PANEL).transpose(1, 0, 2)
        with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside of it
            self.tensor = torch.from_numpy(self.array)

    @staticmethod
    def size(rows: Rows, width: int) -> int:
        """Return the number of entries of a block's memory."""
        return rows.fed * ceil(width / PANEL) * PANEL

    def first(self, width: int) -> Block:
        """Return the first columns as a block over the same memory."""
        return Block(self.count, width, self.rows, self.memory)


Product = Callable[[Block, Block], object]


def _product(kind: str, weights: Tensor | Panels) -> Product:
    if isinstance(weights, Panels):
        return lambda x, out: weights.times(x.fed, x.rows, out.panels)
    if kind == "packed":
        return lambda x, out: out.tensor.copy_(_packed_product(x.tensor, weights))
    if kind in NUMPY_KINDS:
        array = weights.numpy()
        return lambda x, out: np.matmul(x.array, array, out.array)
    return lambda x, out: torch.mm(x.tensor, weights, out=out.tensor)


PANEL = 64
"""Columns of a panel: 256 bytes of each of its rows."""
_SMALL = 1_000_000
"""Multiplications up to which OpenBLAS takes its kernel for small products."""
_INNER = 1024
"""Rows of a panel from which it is cut, if need be, rather than the rows that it is multiplied with."""
_HUGE_PAGE = 2 << 20


@dataclass(frozen=True)
class Rows:
    """The rows that a product of `count` rows is fed: `blocks` of `block` each; the surplus rows mean nothing."""

    blocks: int
    block: int

    @staticmethod
    def of(count: int, inner: int) -> Rows:
        """For matrices of at most `inner` rows. Two and three rows are fed as four, which is quicker in every kind."""
        most = _SMALL // (PANEL * min(inner, _INNER))
        count = 2 if count == 1 else max(count, 4)
        blocks = ceil(count / most)
        return Rows(blocks, ceil(count / blocks))

    @property
    def fed(self) -> int:
        """All rows, surplus ones included."""
        return self.blocks * self.block


@dataclass(frozen=True)
class Panels:
    """[in, out] as panels; columns from `out` on are zero."""

    data: Floats  # [panels, in, PANEL]
    out: int

    @staticmethod
    def of(rows: Tensor) -> Panels:
        """From a weight as checkpoints have it, [out, in], fp32 on a CPU."""
        out, inner = rows.shape
        count = ceil(out / PANEL)
        data = empty((count, inner, PANEL))
        whole = out // PANEL
        target = torch.from_numpy(data)
        target[:whole] = rows[: whole * PANEL].view(whole, PANEL, inner).transpose(1, 2)
        if whole < count:
            target[whole] = 0.0
            target[whole, :, : out - whole * PANEL] = rows[whole * PANEL :].t()
        return Panels(data, out)

    def times(self, x: Floats, rows: Rows, product: Floats) -> None:
        """Write x [rows.fed, in] times this to `product`, [panels, rows.fed, PANEL]."""
        inner = x.shape[1]
        parts = ceil(rows.block * inner * PANEL / _SMALL)
        if rows.blocks == 1 and parts == 1:
            np.matmul(x, self.data, product)
            return
        # A panel stays in the cache while all blocks of rows pass by.
        blocked = x.reshape(1, rows.blocks, rows.block, inner)
        target = product.reshape(product.shape[0], rows.blocks, rows.block, PANEL)
        step = ceil(inner / parts)
        for at in range(0, inner, step):
            one = np.matmul(
                blocked[..., at : at + step], self.data[:, None, at : at + step], out=target if at == 0 else None
            )
            if at:
                target += one

    def multiply(self, x: Tensor) -> Tensor:
        """Return x [k, in] times this, [k, out], in memory of its own."""
        count, inner = x.shape
        fed = Block(count, inner)
        fed.fed[:count] = x.numpy()
        product = Block(count, self.out, fed.rows)
        self.times(fed.fed, fed.rows, product.panels)
        return product.tensor[:count]


def empty(shape: tuple[int, ...]) -> Floats:
    """Make an array that begins at a cache line, on huge pages where it is large and the system has them."""
    size = 4 * prod(shape)
    if size < _HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        memory = np.empty(size + 64, np.uint8)
        first = -memory.ctypes.data % 64
    else:
        pages = mmap.mmap(-1, -(-size // _HUGE_PAGE) * _HUGE_PAGE + _HUGE_PAGE)
        pages.madvise(mmap.MADV_HUGEPAGE)
        memory = np.frombuffer(pages, np.uint8)
        first = -memory.ctypes.data % _HUGE_PAGE
    array: Floats = memory[first : first + size].view(np.float32).reshape(shape)
    return array
