"""A weight matrix in the layouts in which its products are fastest, by the number of rows.

On a CPU in fp32 there are two sets of layouts, of which `bild.engines.kernels` picks one:

- Panels of 64 columns, for one core where NumPy's BLAS (OpenBLAS) has a kernel for small products that packs nothing:
  rows x inner x columns of at most a million. One panel and a few rows make such a product, and a panel is read from
  its first byte to its last, as fast as the memory allows. So one layout serves a single row (fed as two, because one
  row would go to a slower kernel) and a verification pass, and a wider pass is cut into blocks of rows.
- Two layouts, in twice the memory: one row is quickest over [in, out], and several rows over weights that oneDNN has
  packed, unless the matrix is small.

docs/measurement.md has the figures.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PACKED_ROWS = 8
"""The number of rows that the packed layout is chosen for; it serves all others too."""
PACKED_FROM = 1 << 18
"""Entries from which a matrix is packed: 1 MB in fp32."""
_PACKS = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


@dataclass(frozen=True)
class Matrix:
    """[in, out], to be multiplied from the left by rows."""

    inner: int
    out: int
    flat: Tensor | None
    """[in, out], contiguous; None where there are panels."""
    packed: Tensor | None
    """The same in oneDNN's own layout; None where that cannot be had (not fp32, not a CPU), or is not worth it."""
    panels: Panels | None = None
    """The same in panels, instead of the others; fp32 on a CPU only."""

    @staticmethod
    def of(rows: Tensor, *, in_panels: bool = False) -> Matrix:
        """From a weight as checkpoints have it, [out, in]."""
        out, inner = rows.shape
        if in_panels:
            return Matrix(inner, out, None, None, Panels.of(rows))
        large = rows.numel() >= PACKED_FROM and rows.device.type == "cpu" and rows.dtype == torch.float32
        packed = torch.ops.mkldnn._reorder_linear_weight(rows.contiguous(), PACKED_ROWS) if _PACKS and large else None
        return Matrix(inner, out, rows.t().contiguous(), packed)

    @property
    def plain(self) -> Tensor:
        """[in, out]; a copy where there are panels."""
        if self.flat is not None:
            return self.flat
        assert self.panels is not None
        return self.panels.plain()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, which rows must have, too."""
        return torch.float32 if self.flat is None else self.flat.dtype

    def times(self, x: Tensor) -> Tensor:
        """Multiply x [k, in] by this: [k, out]."""
        if self.panels is not None:
            return self.panels.multiply(x)
        rows = x.shape[0]
        if self.packed is None or rows == 1:
            return x @ self.plain
        if rows == 2:  # its kernel for two rows is slower than the one for four
            x = torch.cat((x, x))
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")
        return product[:rows]


Floats = NDArray[np.float32]

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
        """For matrices of at most `inner` rows."""
        most = _SMALL // (PANEL * min(inner, _INNER))
        blocks = ceil(count / most)
        return Rows(blocks, max(ceil(count / blocks), 2))

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

    def plain(self) -> Tensor:
        """Return a copy as one [in, out]."""
        return torch.from_numpy(self.data.transpose(1, 0, 2).reshape(self.data.shape[1], -1)[:, : self.out].copy())

    def times(self, x: Floats, rows: Rows, product: Floats) -> None:
        """Write x [rows.fed, in] times this to `product`, [panels, rows.fed, PANEL]: see `product_buffer`."""
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
        rows = Rows.of(count, inner)
        fed = np.zeros((rows.fed, inner), np.float32)
        fed[:count] = x.numpy()
        return torch.from_numpy(columns(self, fed, rows)[:count])


def columns(matrix: Panels, x: Floats, rows: Rows) -> Floats:
    """Return x [rows.fed, in] times a matrix: [rows.fed, out]."""
    product, panels = product_buffer(rows, matrix)
    matrix.times(x, rows, panels)
    return product[:, : matrix.out]


def product_buffer(rows: Rows, matrix: Panels) -> tuple[Floats, Floats]:
    """Make room for a product, [rows.fed, padded out], and a view of it as [panels, rows.fed, PANEL]."""
    panels = matrix.data.shape[0]
    whole = np.empty((rows.fed, panels * PANEL), np.float32)
    return whole, whole.reshape(rows.fed, panels, PANEL).transpose(1, 0, 2)


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
