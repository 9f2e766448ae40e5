"""A weight matrix in the layouts that its products are fastest in, by the number of rows that they have.

Measured on one CPU core in fp32 (docs/measurement.md): one row over [in, out] comes within 1.4 times of reading the
matrix, and a plain [out, in] weight takes 1.35 to 2.3 times as long; four rows take 1.8 to 4.3 times one in either, but
1.1 to 1.5 times over weights that oneDNN has packed, which is what makes a verification cheap. So both are kept, in
twice the memory. Small matrices gain nothing by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PACKED_ROWS = 8
"""The number of rows that the packed layout is chosen for; it serves all others too."""
PACKED_FROM = 1 << 18
"""Entries from which a matrix is packed: 1 MB in fp32."""
_PACKS = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


@dataclass(frozen=True)
class Matrix:
    """[in, out], to be multiplied from the left by rows."""

    plain: Tensor
    """[in, out], contiguous."""
    packed: Tensor | None
    """The same in oneDNN's own layout; None where that cannot be had (not fp32, not a CPU), or is not worth it."""

    @staticmethod
    def of(rows: Tensor) -> Matrix:
        """From a weight as checkpoints have it, [out, in]."""
        large = rows.numel() >= PACKED_FROM and rows.device.type == "cpu" and rows.dtype == torch.float32
        packed = torch.ops.mkldnn._reorder_linear_weight(rows.contiguous(), PACKED_ROWS) if _PACKS and large else None
        return Matrix(rows.t().contiguous(), packed)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; rows must have it too."""
        return self.plain.dtype

    def times(self, x: Tensor) -> Tensor:
        """x [k, in] times this: [k, out]."""
        rows = x.shape[0]
        if self.packed is None or rows == 1:
            return x @ self.plain
        if rows == 2:  # its kernel for two rows is slower than the one for four
            x = torch.cat((x, x))
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")
        return product[:rows]
