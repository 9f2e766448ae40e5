"""A weight matrix in the layouts that its products are fastest in, by the number of rows that they have.

On one CPU core in fp32, where NumPy's BLAS has a kernel for small products (`bild.engines.kernels` finds out), a matrix
is cut into `Panels`, which serve any number of rows. Elsewhere on a CPU two layouts are kept, in twice the memory: one
row is quickest over [in, out], and more of them over weights that oneDNN has packed, unless the matrix is small.
docs/measurement.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bild.engines.panels import Panels

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
    """The same in panels, in the place of the others; fp32 on a CPU only."""

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
        """Of the weights; rows must have it too."""
        return torch.float32 if self.flat is None else self.flat.dtype

    def times(self, x: Tensor) -> Tensor:
        """x [k, in] times this: [k, out]."""
        if self.panels is not None:
            return self.panels.multiply(x)
        rows = x.shape[0]
        if self.packed is None or rows == 1:
            return x @ self.plain
        if rows == 2:  # its kernel for two rows is slower than the one for four
            x = torch.cat((x, x))
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")
        return product[:rows]
