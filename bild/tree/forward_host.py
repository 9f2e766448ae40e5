"""`bild.tree.forward` on one CPU core in fp32, over NumPy arrays and the parts of `bild.engines.t5_host`.

The products are those of the live engine; attention is a NumPy product per example and head, over views of the keys
and values. Passes over many nodes save copies and padding this way, those over a few nodes most of the dispatching.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.kernels import Kernels
from bild.engines.layouts import Floats, empty
from bild.engines.sampling import Chosen
from bild.engines.t5_host import QUIET, HostDecoder, Room
from bild.models import Pair
from bild.tree.forward import Branches, Told, TorchBranches
from bild.tree.paths import Layout

_SOURCE_TOKENS = 256
"""Source positions encoded at a time."""
_SCORED = 64
"""Rows of logits at a time: they stay in the cache."""


class HostBranches(Branches):
    """On a CPU in fp32."""

    def __init__(self, weights: t5.Weights, vocabulary: int) -> None:
        super().__init__(weights, vocabulary)
        self.host = HostDecoder(weights)
        self._bias = np.empty((0, 0), np.float32)

    @QUIET
    def _start(self, sources: Sequence[Sequence[int]]) -> None:
        shape, longest = self.weights.shape, int(self.lengths.max())
        self.cross = empty((self.layers, 2, len(sources), shape.heads, longest, shape.key_size))
        self.cross[:] = 0.0
        self.rows = np.empty((self.layers, 0, 2, shape.heads, shape.key_size), np.float32)
        ranked = np.argsort(self.lengths, kind="stable").tolist()
        for length, same in groupby(ranked, lambda i: len(sources[i])):
            places, step = list(same), max(1, _SOURCE_TOKENS // length)
            bias = self.weights.encoder.position_bias(length, torch.float32)
            for at in range(0, len(places), step):
                part = places[at : at + step]
                self._encode([sources[i] for i in part], part, bias)

    def _encode(self, sources: Sequence[Sequence[int]], places: Sequence[int], bias: Tensor) -> None:
        """Encode sources of one length."""
        states = t5.encode(self.weights.encoder, torch.tensor(sources), bias.expand(len(sources), *bias.shape))
        kv = t5.cross_keys_values(self.weights, states, len(sources))
        self.cross[:, :, places, :, : kv.shape[4]] = kv.numpy()

    def _grow(self, capacity: int) -> None:
        grown = empty((self.layers, capacity, *self.rows.shape[2:]))
        grown[:, : self.rows.shape[1]] = self.rows
        self.rows = grown

    @QUIET
    def _decode(self, layout: Layout, first: int, tokens: Sequence[int], given: Sequence[int]) -> list[Told]:
        host, shape, m, among = self.host, self.weights.shape, len(tokens), layout.examples
        lengths = self.lengths[among]
        longest = int(lengths.max())
        mask = np.where(np.arange(longest) < lengths[:, None], np.float32(0), np.float32(-np.inf))[:, None, None, :]
        bias = self._biases(layout)
        padded, mixed = np.zeros((2, bias.shape[0] * layout.most, shape.heads, shape.key_size), np.float32)
        target = mixed.reshape(-1, layout.most, *mixed.shape[1:]).transpose(0, 2, 1, 3)
        room = host.room(m)
        room.x[:m] = host.embeddings.take(tokens, 0)

        def mix(q: Floats, keys: Floats, values: Floats, bias: Floats | None) -> None:
            by_example = layout.pad(q.transpose(1, 0, 2), padded).transpose(0, 2, 1, 3)
            attend(by_example, keys, values, bias, target)
            flat = mixed if layout.slot is None else mixed[layout.slot]
            room.mixed.array[:m] = flat.reshape(m, -1)

        for i, layer in enumerate(host.decoder):
            room.normalise(shape.eps)
            layer.qkv[room.kind](room.normed, room.qkv)
            self.rows[i, first : first + m] = room.keys_values.transpose(2, 0, 1, 3)
            kv = self.rows[i].take(layout.rows, 0).transpose(2, 0, 3, 1, 4)
            mix(room.query, kv[0], kv[1], bias)
            layer.o[room.kind](room.mixed, room.added)
            room.x += room.added.array

            room.normalise(shape.eps)
            layer.cross_q[room.kind](room.normed, room.q)
            keys, values = (self.cross[i, j, among, :, :longest] for j in (0, 1))
            mix(room.cross_query, keys, values, None if (lengths == longest).all() else mask)
            layer.cross_o[room.kind](room.mixed, room.added)
            room.x += room.added.array
            host.feed_forward(layer, room)
        return self._summarise(room, first, given)

    def _biases(self, layout: Layout) -> Floats:
        """Return the biases of a batch, [A, H, Q, U]."""
        if self._bias.shape[1] <= self.paths.deepest:
            self._bias = np.ascontiguousarray(self._bias_table().numpy().T)
        examples, most, width = layout.distance.shape
        bias = np.empty((examples, len(self._bias), most, width), np.float32)
        for head, by_distance in enumerate(self._bias):
            bias[:, head] = by_distance[layout.distance]
        return bias

    def _summarise(self, room: Room, first: int, given: Sequence[int]) -> list[Told]:
        told, sampler = list[Told](), self.sampler
        for at in range(0, room.count, _SCORED):
            part = room
            if room.count > _SCORED:
                rows = room.x[at : min(at + _SCORED, room.count)]
                part = self.host.room(len(rows))
                part.x[: len(rows)] = rows
            logits = self.host.score(part).numpy()
            chosen = sampler and sampler.draw(logits, self._keys(first + at)[: len(logits)], gaps=True)
            told.append(summarise(logits, np.array(given[at : at + _SCORED]), chosen))
        return told


def attend(q: Floats, keys: Floats, values: Floats, bias: Floats | None, target: Floats) -> None:
    """Attend by q [A, H, Q, K] to keys and values [A, H, n, K] with biases [A, H, Q, n], into `target` [A, H, Q, K]."""
    scores = np.matmul(q, keys.swapaxes(2, 3))
    if bias is not None:
        scores += bias
    weights = torch.softmax(torch.from_numpy(scores), -1).numpy()
    np.matmul(weights, values, target)


def summarise(
    logits: Floats, given: np.ndarray[tuple[int, ...], np.dtype[np.int64]], chosen: Chosen | None = None
) -> Told:
    """Return choices (greedy, or as `chosen`), nlls and so on of logits [m, V], which are overwritten."""
    rows = np.arange(len(given))
    wanted = logits[rows, given]
    top = logits.argmax(-1)
    choice = top if chosen is None else np.array(chosen.choice)
    best = logits[rows, top]
    differ = np.flatnonzero((given >= 0) & (given != choice))
    rank, rank_gap = np.ones(len(given), np.int64), np.full(len(given), np.inf, np.float32)
    if len(differ):
        away = logits[differ] - wanted[differ, None]
        away[np.arange(len(differ)), given[differ]] = -np.inf
        rank[differ] += (away > 0).sum(-1)
        rank_gap[differ] = np.abs(away, out=away).min(-1)
    logits[rows, top] = -np.inf
    gap = best - logits.max(-1) if chosen is None else chosen.gap
    logits -= best[:, None]
    weights = np.exp(logits)
    others = weights.sum(-1)
    logits[rows, top] = 0.0
    log_sum = np.log1p(others)
    entropy = log_sum - np.vecdot(weights, logits) / (1 + others)
    nll = np.where(given == top, log_sum, log_sum + best - wanted)
    nll[given < 0] = np.nan
    told: tuple[Any, ...] = (choice, log_sum, gap, entropy, nll, rank, rank_gap)
    return Told(*(values.tolist() for values in told))


def branches_of(pair: Pair, role: str, kernels: Kernels | None = None) -> Branches:
    """Return a pair's large or small model over branches."""
    weights = pair.weights(role, kernels)
    on_host = weights.device.type == "cpu" and weights.embed.dtype == torch.float32 and torch.get_num_threads() == 1
    return (HostBranches if on_host else TorchBranches)(weights, pair.vocabulary)
