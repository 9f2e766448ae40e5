"""One token at a time on a CPU in fp32: `t5.decode` for k = 1, with vectors in the place of one-row matrices.

At this width the time goes to dispatching small operations, so there are as few as the arithmetic allows: a norm is one
dot product whose result scales the next matrix product as a scalar, heads are split by views, and slices of the cache
are taken once per step for all layers. `t5.decode` is its oracle.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from bild.engines.base import check_finite
from bild.engines.t5 import State, Weights, views


class RowDecoder:
    """`decode` of one token. Keeps transposed views of the weights (no copies)."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.layers = []
        for layer in weights.decoder:
            matrices = (layer.qkv, layer.o, layer.cross_q, layer.cross_o, layer.wi, layer.wo)
            self.layers.append(tuple(matrix.plain.t() for matrix in matrices))
        self.head = weights.head.plain.t()
        self.zero = torch.zeros(())

    def decode(self, state: State, token: int, n: int) -> Tensor:
        """Feed one token at position n and return the logits [V] after it; see `t5.decode`."""
        x = self.run_layers(state, self.embed(token), n, 0, len(self.layers))
        return self.logits(x)

    def embed(self, token: int) -> Tensor:
        """The residual [D] of a token."""
        return self.weights.embed[token]

    def run_layers(self, state: State, x: Tensor, n: int, first: int, last: int) -> Tensor:
        """Take the residual x [D] of position n through the decoder layers first..last-1."""
        shape, zero = self.weights.shape, self.zero
        heads, size, eps, width = shape.heads, shape.key_size, shape.eps, x.shape[0]
        activation, gated = shape.activation, shape.gated
        addmv, bmm, baddbmm, dot, softmax = torch.addmv, torch.bmm, torch.baddbmm, torch.dot, torch.softmax
        end = n + 1
        bias = state.bias[:, n:end, :end]
        cache = state.cache if last - first == len(self.layers) else state.cache[first:last]
        across = zip(state.cross_keys[first:last], state.cross_values[first:last], strict=True)
        rows = zip(self.layers[first:last], *views(cache, n, end), across, strict=True)
        for (w_qkv, w_o, w_cross_q, w_cross_o, w_in, w_out), new, keys, values, (cross_keys, cross_values) in rows:
            scale = 1.0 / sqrt(dot(x, x).item() / width + eps)
            qkv = addmv(zero, w_qkv, x, beta=0, alpha=scale).view(3, heads, 1, size)
            new.copy_(qkv[1:])
            mixed = bmm(softmax(baddbmm(bias, qkv[0], keys), -1), values)
            x = addmv(x, w_o, mixed.view(-1))

            scale = 1.0 / sqrt(dot(x, x).item() / width + eps)
            q = addmv(zero, w_cross_q, x, beta=0, alpha=scale).view(heads, 1, size)
            mixed = bmm(softmax(bmm(q, cross_keys), -1), cross_values)
            x = addmv(x, w_cross_o, mixed.view(-1))

            scale = 1.0 / sqrt(dot(x, x).item() / width + eps)
            h = addmv(zero, w_in, x, beta=0, alpha=scale)
            if gated:
                gate, h = h.chunk(2)
                h = activation(gate).mul_(h)
            else:
                h = activation(h)
            x = addmv(x, w_out, h)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """The residual [D] behind some layer, through the final norm and the head: [V]."""
        squares = torch.dot(x, x).item()
        check_finite([squares])  # infinite squares make a scale of 0, which would hide that anything is wrong
        scale = 1.0 / sqrt(squares / x.shape[0] + self.weights.shape.eps)
        return torch.addmv(self.zero, self.head, x * self.weights.decoder_gain, beta=0, alpha=scale)
