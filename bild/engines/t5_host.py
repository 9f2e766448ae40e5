"""The decoder of T5 on a CPU in fp32: `bild.engines.t5` over arrays that NumPy and torch share. That is its oracle.

At batch size 1 the time goes to reading matrices and to dispatching small operations. Each matrix is multiplied by the
kind that is fastest for it (`bild.engines.layouts`); the small operations are NumPy's, which take half of torch's time
to dispatch, or torch's where its loops are faster (softmax, activations). The arrays of a pass, and views of them, are
made once for a number of rows (`Room`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.base import check_finite
from bild.engines.layouts import Block, Floats, empty, width_class

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
    """The functions of `bild.engines.t5` of the same names, for a number of rows that is met again and again."""

    def __init__(self, weights: t5.Weights) -> None:
        self.weights = weights
        self.embeddings: Floats = weights.embed.numpy()
        self.decoder = [Products(layer) for layer in weights.decoder]
        self._head = weights.head.products()
        self._decoder_gain: Floats = weights.decoder_gain.numpy()
        self._rooms: dict[int, Room] = {}
        self._logits = empty((0,))
        self._state: t5.State | None = None

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """See `t5.embed`."""
        return torch.from_numpy(self.embeddings.take(tokens, 0))

    @QUIET
    def run_layers(self, state: t5.State, x: Tensor, n: int, first: int, last: int) -> Tensor:
        """See `t5.run_layers`."""
        count = x.shape[0]
        room = self.room(count)
        room.x[:count] = x.numpy()
        self._run(state, room, n, first, last)
        return torch.from_numpy(room.x[:count].copy())

    @QUIET
    def logits(self, x: Tensor) -> Tensor:
        """See `t5.logits`. The next call writes to the same memory."""
        room = self.room(x.shape[0])
        room.x[: room.count] = x.numpy()
        return self.score(room)

    @QUIET
    def decode(self, state: t5.State, tokens: Sequence[int], n: int, want: int) -> Tensor:
        """See `t5.decode`. The next call writes to the same memory."""
        count = len(tokens)
        room = self.room(count)
        room.x[:count] = self.embeddings[tokens[0]] if count == 1 else self.embeddings.take(tokens, 0)
        self._run(state, room, n, 0, len(self.decoder))
        if want == count:
            return self.score(room)
        last = self.room(want)
        last.x[:want] = room.x[count - want : count]
        return self.score(last)

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
        views, shape, kind = self._see(state), self.weights.shape, room.kind
        end = n + room.count
        bias = views.bias[:, n:end, :end]
        within = _Weighing(shape.heads, room.count, end)
        across = _Weighing(shape.heads, room.count, views.cross_values[0].shape[1])
        for i in range(first, last):
            layer = self.decoder[i]
            room.normalise(shape.eps)
            layer.qkv[kind](room.normed, room.qkv)
            views.cache[i][:, :, n:end] = room.keys_values
            within.attend(room.query, views.keys[i][:, :, :end], views.values[i][:, :end], bias, room.mixed_heads)
            layer.o[kind](room.mixed, room.added)
            room.x += room.added.array

            room.normalise(shape.eps)
            layer.cross_q[kind](room.normed, room.q)
            across.attend(room.cross_query, views.cross_keys[i], views.cross_values[i], None, room.mixed_heads)
            layer.cross_o[kind](room.mixed, room.added)
            room.x += room.added.array
            self.feed_forward(layer, room)

    def feed_forward(self, layer: Products, room: Room) -> None:
        """Add a layer's feed-forward to the residuals in the room."""
        shape = self.weights.shape
        room.normalise(shape.eps)
        layer.wi[room.kind](room.normed, room.h)
        activated = shape.activation(room.gate.tensor)
        if shape.gated:
            np.multiply(activated.numpy(), room.up, out=room.gate.array)
        elif activated is not room.gate.tensor:
            room.gate.tensor.copy_(activated)
        layer.wo[room.kind](room.gate, room.added)
        room.x += room.added.array

    def score(self, room: Room) -> Tensor:
        """Take the residuals in the room through the final norm and the head: [count, V]; the next call reuses it."""
        # Infinite squares make a norm of 0, which would hide that anything is wrong.
        check_finite(np.vecdot(room.x, room.x).tolist())
        room.normalise(self.weights.shape.eps)
        room.normed.array *= self._decoder_gain
        logits = self._logits_of(room)
        self._head[room.kind](room.normed, logits)
        return logits.tensor[: room.count]

    def _logits_of(self, room: Room) -> Block:
        """Return the place of a room's logits: all rooms share one, as large as the widest vocabulary needs."""
        if room.logits is None:
            out = self.weights.head.out
            size = Block.size(room.count, out)
            if size > self._logits.size:
                self._logits = empty((size,))
                for other in self._rooms.values():
                    other.logits = None
            room.logits = Block(room.count, out, self._logits[:size])
        return room.logits


class Products:
    """The functions that multiply with the matrices of a layer, by width class."""

    def __init__(self, layer: t5.DecoderLayer) -> None:
        self.qkv, self.o, self.wi, self.wo = (w.products() for w in (layer.qkv, layer.o, layer.wi, layer.wo))
        self.cross_q, self.cross_o = layer.cross_q.products(), layer.cross_o.products()


class _Weighing:
    """Attention of a number of positions to a number of others, in all layers."""

    def __init__(self, heads: int, count: int, others: int) -> None:
        self.scores, self.weights = np.empty((2, heads, count, others), np.float32)
        self._scores, self._weights = torch.from_numpy(self.scores), torch.from_numpy(self.weights)

    def attend(self, query: Floats, keys: Floats, values: Floats, bias: Floats | None, mixed: Floats) -> None:
        """Leave in mixed [H, k, K] what query [H, k, K], keys [H, K, n], values [H, n, K] and bias [H, k, n] make."""
        np.matmul(query, keys, self.scores)
        if bias is not None:
            self.scores += bias
        torch.softmax(self._scores, -1, out=self._weights)
        np.matmul(self.weights, values, mixed)


class Room:
    """The arrays of a pass over `count` rows. Products may be fed more, which are zero."""

    def __init__(self, weights: t5.Weights, count: int) -> None:
        shape, layer = weights.shape, weights.decoder[0]
        width, inner, dense = layer.o.out, layer.o.inner, layer.wo.inner
        self.count, self.kind = count, width_class(count)
        self.normed, self.mixed, self.added = (Block(count, size) for size in (width, inner, width))
        self.qkv, self.q = Block(count, 3 * inner), Block(count, inner)
        self.h = Block(count, layer.wi.out)
        self.gate = self.h.first(dense)
        self.logits: Block | None = None
        self.x = np.zeros_like(self.normed.array)
        # The same memory, cut in other ways.
        split = (count, 3, shape.heads, shape.key_size)
        heads = self.qkv.array[:count].reshape(split).transpose(1, 2, 0, 3)
        self.query, self.keys_values = heads[0], heads[1:]
        self.cross_query, self.mixed_heads = (
            block.array[:count].reshape(count, shape.heads, -1).transpose(1, 0, 2) for block in (self.q, self.mixed)
        )
        self.up = self.h.array[:, dense : 2 * dense]

    def normalise(self, eps: float) -> None:
        """Set `normed` to the RMS norm of `x`, without its gain."""
        x = self.x
        if self.count == 1:
            row = x[0]
            np.multiply(x, 1.0 / sqrt(float(row.dot(row)) / row.shape[0] + eps), self.normed.array)
            return
        sizes = np.vecdot(x, x)
        sizes *= 1.0 / x.shape[1]
        sizes += eps
        np.sqrt(sizes, sizes)
        np.divide(x, sizes[:, None], self.normed.array)
