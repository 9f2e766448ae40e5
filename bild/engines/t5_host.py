"""T5 on one CPU core in fp32: the functions of `bild.engines.t5` over NumPy arrays. Those are its oracle.

At batch size 1 the time goes to reading matrices and to dispatching small operations. The matrices are `Panels`; the
small operations are NumPy's, which take half of torch's time to dispatch, or torch's where its loops are faster
(softmax, activations), over the same memory. The arrays of a pass, and views of them, are made once for a number of
rows (`Room`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bild.engines import t5
from bild.engines.base import check_finite
from bild.engines.layouts import PANEL, Floats, Matrix, Panels, Rows, columns, empty, product_buffer

_ROOMS = 32
"""Numbers of rows that keep their rooms."""
QUIET = np.errstate(over="ignore", invalid="ignore")  # what is not finite is told by `check_finite`, in words
_ROOM_MAX = 64


class _Views(NamedTuple):
    """A `t5.State` as NumPy sees it; lists have an entry per layer."""

    cache: list[Floats]  # [2, H, capacity, K]
    keys: list[Floats]  # [H, K, capacity]
    values: list[Floats]  # [H, capacity, K]
    cross_keys: list[Floats]  # [H, K, S]
    cross_values: list[Floats]  # [H, S, K]
    bias: Floats  # [H, capacity, capacity]


class HostDecoder:
    """A model whose matrices are `Panels`: its encoder, and its decoder for one row and for many."""

    def __init__(self, weights: t5.Weights) -> None:
        self.weights = weights
        self.embeddings: Floats = weights.embed.numpy()
        self.encoder = [Products(layer) for layer in weights.encoder]
        self.decoder = [Products(layer) for layer in weights.decoder]
        self.cross_kv, self._head = _panels(weights.cross_kv), _panels(weights.head)
        self.encoder_gain: Floats = weights.encoder_gain.numpy()
        self._decoder_gain: Floats = weights.decoder_gain.numpy()
        self._rooms: dict[int, Room] = {}
        self._logits = empty((0,))
        self._state: t5.State | None = None

    # The methods of `TorchDecoder`, over torch tensors

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """See `t5.embed`."""
        return torch.from_numpy(self.embeddings.take(tokens, 0))

    @QUIET
    def run_layers(self, state: t5.State, x: Tensor, n: int, first: int, last: int) -> Tensor:
        """See `t5.run_layers`."""
        count = x.shape[0]
        room = self.room(count)
        room.fill(x.numpy())
        self._run(state, room, n, first, last)
        return torch.from_numpy(room.x[:count].copy())

    @QUIET
    def logits(self, x: Tensor) -> Tensor:
        """See `t5.logits`. The next call writes to the same memory."""
        room = self.room(x.shape[0])
        room.fill(x.numpy())
        return self.score(room)

    @QUIET
    def decode(self, state: t5.State, tokens: Sequence[int], n: int, want: int) -> Tensor:
        """See `t5.decode`. The next call writes to the same memory."""
        count = len(tokens)
        room = self.room(count)
        room.fill(self.embeddings[tokens[0]] if count == 1 else self.embeddings.take(tokens, 0))
        self._run(state, room, n, 0, len(self.decoder))
        if want == count:
            return self.score(room)
        last = self.room(want)
        last.fill(room.x[count - want : count])
        return self.score(last)

    @QUIET
    def encode(self, source: Sequence[int], bias: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the cross-attention's (keys, values) of a source; bias [H, S, S]."""
        shape, count = self.weights.shape, len(source)
        room = self.room(count)
        room.fill(self.embeddings.take(source, 0))
        weighing = _Weighing(shape.heads, count, count)
        biases, (keys, values) = bias.numpy(), room.keys_values
        across = keys.transpose(0, 2, 1)
        for layer in self.encoder:
            room.normalise(shape.eps)
            layer.qkv.times(room.normed, room.rows, room.qkv_panels)
            weighing.attend(room.query, across, values, biases, room)
            layer.o.times(room.mixed, room.rows, room.d_panels)
            room.x += room.added
            self.feed_forward(layer, room)
        room.normalise(shape.eps)
        room.normed *= self.encoder_gain
        both = columns(self.cross_kv, room.normed, room.rows)[:count]
        # [layers * (keys, values) * heads, S, K]
        rows = np.ascontiguousarray(both.reshape(count, -1, shape.key_size).transpose(1, 0, 2))
        split = torch.from_numpy(rows).view(len(self.decoder), 2, shape.heads, count, shape.key_size)
        return split[:, 0].transpose(2, 3).unbind(0), split[:, 1].unbind(0)

    # Over rooms, also for `bild.tree.forward_host`, which attends to more than one text

    def room(self, count: int) -> Room:
        """Return the room for passes of `count` rows; its content stays until the next pass of as many."""
        room = self._rooms.get(count)
        if room is None:
            room = Room(self.weights, count)
            if count <= _ROOM_MAX:
                if len(self._rooms) == _ROOMS:
                    self._rooms.pop(next(iter(self._rooms)))
                self._rooms[count] = room
        return room

    def _see(self, state: t5.State) -> _Views:
        if state is not self._state:
            cache = list(state.cache.numpy())
            self._views = _Views(
                cache,
                [layer[0].transpose(0, 2, 1) for layer in cache],
                [layer[1] for layer in cache],
                [keys.numpy() for keys in state.cross_keys],
                [values.numpy() for values in state.cross_values],
                state.bias.numpy(),
            )
            self._state = state
        return self._views

    def _run(self, state: t5.State, room: Room, n: int, first: int, last: int) -> None:
        """Take the residuals in the room, of positions n.., through the decoder layers first..last-1."""
        views, shape = self._see(state), self.weights.shape
        end = n + room.count
        bias = views.bias[:, n:end, :end]
        within = _Weighing(shape.heads, room.count, end)
        across = _Weighing(shape.heads, room.count, views.cross_values[0].shape[1])
        for i in range(first, last):
            layer = self.decoder[i]
            room.normalise(shape.eps)
            layer.qkv.times(room.normed, room.rows, room.qkv_panels)
            views.cache[i][:, :, n:end] = room.keys_values
            within.attend(room.query, views.keys[i][:, :, :end], views.values[i][:, :end], bias, room)
            layer.o.times(room.mixed, room.rows, room.d_panels)
            room.x += room.added

            room.normalise(shape.eps)
            layer.cross_q.times(room.normed, room.rows, room.q_panels)
            across.attend(room.cross_query, views.cross_keys[i], views.cross_values[i], None, room)
            layer.cross_o.times(room.mixed, room.rows, room.d_panels)
            room.x += room.added
            self.feed_forward(layer, room)

    def feed_forward(self, layer: Products, room: Room) -> None:
        """Add a layer's feed-forward to the residuals in the room."""
        shape = self.weights.shape
        room.normalise(shape.eps)
        layer.wi.times(room.normed, room.rows, room.h_panels)
        if shape.activation is F.relu and not shape.gated:
            torch.relu_(room.gate)
        elif shape.gated:
            np.multiply(shape.activation(room.gate).numpy(), room.up, out=room.h_in)
        else:
            room.gate.copy_(shape.activation(room.gate))
        layer.wo.times(room.h_in, room.rows, room.d_panels)
        room.x += room.added

    def score(self, room: Room) -> Tensor:
        """Take the residuals in the room through the final norm and the head: [count, V]; the next call reuses it."""
        # Infinite squares make a norm of 0, which would hide that anything is wrong.
        check_finite(np.vecdot(room.x, room.x).tolist())
        room.normalise(self.weights.shape.eps)
        room.normed *= self._decoder_gain
        padded = self._head.data.shape[0] * PANEL
        size = room.rows.fed * padded
        if size > self._logits.size:
            self._logits = empty((size,))
        product = self._logits[:size].reshape(room.rows.fed, -1, PANEL)
        self._head.times(room.normed, room.rows, product.transpose(1, 0, 2))
        logits = torch.from_numpy(product.reshape(room.rows.fed, padded))
        return logits[: room.count, : self._head.out]


class Products:
    """A layer's matrices."""

    def __init__(self, layer: t5.Layer) -> None:
        self.qkv, self.o = _panels(layer.qkv), _panels(layer.o)
        self.wi, self.wo = _panels(layer.wi), _panels(layer.wo)
        if isinstance(layer, t5.DecoderLayer):
            self.cross_q, self.cross_o = _panels(layer.cross_q), _panels(layer.cross_o)


class _Weighing:
    """Attention of a number of positions to a number of others, in all layers."""

    def __init__(self, heads: int, count: int, others: int) -> None:
        self.scores, self.weights = np.empty((2, heads, count, others), np.float32)
        self._scores, self._weights = torch.from_numpy(self.scores), torch.from_numpy(self.weights)

    def attend(self, query: Floats, keys: Floats, values: Floats, bias: Floats | None, room: Room) -> None:
        """Leave a mixture in the room: query [H, k, K], keys [H, K, n], values [H, n, K], bias [H, k, n]."""
        np.matmul(query, keys, self.scores)
        if bias is not None:
            self.scores += bias
        torch.softmax(self._scores, -1, out=self._weights)
        np.matmul(self.weights, values, room.mixed_heads)
        if room.count == 1:
            room.mixed[1] = room.mixed[0]


def _panels(matrix: Matrix) -> Panels:
    assert matrix.panels is not None
    return matrix.panels


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
        """Set `normed` to the RMS norm of `x`, without its gain."""
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
