"""What a pass of `bild.engines.t5_host` works in: arrays for a number of rows, and views of them, made once."""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch

from bild.engines import t5
from bild.engines.matrix import Matrix
from bild.engines.panels import Floats, Panels, Rows, product_buffer


class Room:
    """Arrays of `rows.fed` rows, of which the first `count` mean something. The others are zero.

    A single row is there twice, because products of two rows are quicker than those of one.
    """

    def __init__(self, weights: t5.Weights, count: int) -> None:
        shape, layer = weights.shape, weights.decoder[0]
        width, inner, ff = layer.o.out, layer.o.inner, layer.wo.inner
        self.count = count
        self.rows = Rows.of(count, max(width, inner, ff))
        fed = self.rows.fed
        self.x = np.zeros((fed, width), np.float32)
        self.normed = np.zeros((fed, width), np.float32)
        self.mixed = np.zeros((fed, inner), np.float32)
        qkv, self.qkv_panels = self._product(layer.qkv)
        q, self.q_panels = self._product(layer.cross_q)
        d, self.d_panels = self._product(layer.o)
        h, self.h_panels = self._product(layer.wi)
        # The same memory, cut in other ways.
        self.added = d[:, :width]
        split = (count, 3, shape.heads, shape.key_size)
        heads = qkv[:count, : 3 * inner].reshape(split).transpose(1, 2, 0, 3)
        self.query, self.keys_values = heads[0], heads[1:]
        self.cross_query = self._by_head(q[:count, :inner], shape.heads)
        self.mixed_heads = self._by_head(self.mixed[:count], shape.heads)
        self.h_in, self.up = h[:, :ff], h[:, ff : 2 * ff]
        with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside of it
            self.gate = torch.from_numpy(self.h_in)

    def _product(self, matrix: Matrix) -> tuple[Floats, Floats]:
        assert isinstance(matrix.panels, Panels)
        return product_buffer(self.rows, matrix.panels)

    @staticmethod
    def _by_head(x: Floats, heads: int) -> Floats:
        return x.reshape(x.shape[0], heads, -1).transpose(1, 0, 2)

    def fill(self, x: Floats) -> None:
        """Begin with the residuals x, [count, D] or one row."""
        if self.count == 1:
            self.x[:] = x
        else:
            self.x[: self.count] = x

    def normalise(self, eps: float) -> None:
        """`normed` becomes the RMS norm of `x`, without its gain."""
        x = self.x
        if self.count == 1:
            row = x[0]
            np.multiply(x, 1.0 / sqrt(float(row.dot(row)) / row.shape[0] + eps), self.normed)
            return
        sizes = np.vecdot(x, x)
        sizes *= 1.0 / x.shape[1]
        sizes += eps
        np.sqrt(sizes, sizes)
        np.divide(x, sizes[:, None], self.normed)
