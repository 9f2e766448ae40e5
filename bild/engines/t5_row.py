"""The decoder of engine `fused` over torch tensors: the functions of `bild.engines.t5`, and a quick form for one token.

One token on a CPU in fp32 spends its time on dispatching small operations, so `RowDecoder` has as few as the arithmetic
allows, over vectors in the place of one-row matrices: a norm is one dot product whose result scales the next matrix
product, heads are split by views, and slices of the cache are taken once per step for all layers. `t5.decode` is its
oracle; docs/measurement.md says what it gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.base import check_finite


class TorchDecoder:
    """A model on any device, in any dtype. `HostDecoder` has the same methods."""

    def __init__(self, weights: t5.Weights, *, by_row: bool = True) -> None:
        """With `by_row`, take single tokens through `RowDecoder` where it can run."""
        self.weights = weights
        fits = weights.device.type == "cpu" and weights.embed.dtype == torch.float32
        self._row = RowDecoder(weights) if by_row and fits else None

    def _ids(self, tokens: Sequence[int]) -> Tensor:
        return torch.tensor(tokens, device=self.weights.device)

    def encode(self, source: Sequence[int], bias: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the cross-attention's (keys, values) of a source; bias [H, S, S]."""
        return t5.cross_attention(self.weights, t5.encode(self.weights, self._ids(source), bias))

    def decode(self, state: t5.State, tokens: Sequence[int], n: int, want: int) -> Tensor:
        """See `t5.decode`."""
        if self._row is not None and len(tokens) == 1:
            return self._row.decode(state, tokens[0], n)[None]
        return t5.decode(self.weights, state, self._ids(tokens), n, want)

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """See `t5.embed`."""
        return t5.embed(self.weights, self._ids(tokens))

    def run_layers(self, state: t5.State, x: Tensor, n: int, first: int, last: int) -> Tensor:
        """See `t5.run_layers`."""
        if self._row is not None and x.shape[0] == 1:
            return self._row.run_layers(state, x[0], n, first, last)[None]
        return t5.run_layers(self.weights, state, x, n, first, last)

    def logits(self, x: Tensor) -> Tensor:
        """See `t5.logits`."""
        if self._row is not None and x.shape[0] == 1:
            return self._row.logits(x[0])[None]
        return t5.logits(self.weights, x)


class RowDecoder:
    """`t5.decode` of one token. Keeps transposed views of the weights (no copies)."""

    def __init__(self, weights: t5.Weights) -> None:
        self.weights = weights
        self.layers = []
        for layer in weights.decoder:
            matrices = (layer.qkv, layer.o, layer.cross_q, layer.cross_o, layer.wi, layer.wo)
            self.layers.append(tuple(matrix.plain.t() for matrix in matrices))
        self.head = weights.head.plain.t()
        self.zero = torch.zeros(())

    def decode(self, state: t5.State, token: int, n: int) -> Tensor:
        """Feed one token at position n and return the logits [V] after it."""
        return self.logits(self.run_layers(state, self.weights.embed[token], n, 0, len(self.layers)))

    def run_layers(self, state: t5.State, x: Tensor, n: int, first: int, last: int) -> Tensor:
        """Take the residual x [D] of position n through the decoder layers first..last-1."""
        shape, zero = self.weights.shape, self.zero
        heads, size, eps, width = shape.heads, shape.key_size, shape.eps, x.shape[0]
        activation, gated = shape.activation, shape.gated
        addmv, bmm, baddbmm, dot, softmax = torch.addmv, torch.bmm, torch.baddbmm, torch.dot, torch.softmax
        end = n + 1
        bias = state.bias[:, n:end, :end]
        cache = state.cache if last - first == len(self.layers) else state.cache[first:last]
        across = zip(state.cross_keys[first:last], state.cross_values[first:last], strict=True)
        rows = zip(self.layers[first:last], *t5.views(cache, n, end), across, strict=True)
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
        """Take a residual [D] behind some layer through the final norm and the head: [V]."""
        squares = torch.dot(x, x).item()
        check_finite([squares])  # infinite squares make a scale of 0, which would hide that anything is wrong
        scale = 1.0 / sqrt(squares / x.shape[0] + self.weights.shape.eps)
        return torch.addmv(self.zero, self.head, x * self.weights.decoder_gain, beta=0, alpha=scale)
