"""One T5 or mT5 over the branches of many trees at once: a batch of new nodes, of all examples and depths, in one pass.

The keys and values of every node that was fed stay in a row of their own; a new node attends to the rows on its path,
so branches share what they have in common (as SpecInfer, Miao et al., ASPLOS 2024, and Medusa, Cai et al., ICML 2024,
verify trees of drafts). All matrix products run over the flat batch; attention runs example by example
(`bild.tree.paths`). The distance to an ancestor is the difference in depth, which is what the relative biases of T5
ask for. `bild.tree.forward_host` does the same in NumPy where that is the quicker way; this is its oracle.

Shapes: M new nodes, E examples, S source positions; the others as in `bild.engines.t5` and `bild.tree.paths`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bild.config import DecodeConfig
from bild.engines import t5
from bild.engines.base import check_finite
from bild.engines.sampling import Chosen, Sampler, position_keys, source_key
from bild.tree.paths import Layout, Paths

_LOGITS = {"cpu": 1 << 26, "cuda": 1 << 29}
"""Bytes of logits at a time, by the kind of device: each time is a read by the host."""
_SOURCE_TOKENS = 8192
"""Source positions encoded at a time."""
_PATHS = 1 << 27
"""Bytes of keys gathered at a time, about."""
_BLOCK = 256
"""Nodes at a time on a CPU: wide enough for its products, and all of it stays in the cache."""
_ROWS = 64
"""Rows of an example to make room for at first."""


class OverBudget(Exception):
    """The rows of these examples do not fit into the memory allowed: take fewer examples."""


class Told(NamedTuple):
    """A model's answers after each of M nodes; see `Nodes` for the terms.

    Where no token was given, `given_nll` is NaN; there, and where it is the model's choice, its rank is 1 and the gap
    to its neighbour infinite.
    """

    choice: list[int]
    choice_nll: list[float]
    gap: list[float]
    entropy: list[float]
    given_nll: list[float]
    rank: list[int]
    rank_gap: list[float]


class Branches(ABC):
    """One model, and the rows of all nodes that it was fed for a set of examples."""

    budget = 1 << 40
    """Bytes for keys and values."""

    def __init__(self, weights: t5.Weights, vocabulary: int) -> None:
        self.weights = weights
        self.vocabulary = vocabulary
        shape = weights.shape
        self.inner = shape.heads * shape.key_size
        self.layers = len(weights.decoder)
        self.dtype = weights.embed.dtype

    def source_bytes(self, positions: int) -> int:
        """Count the bytes of the cross-attention's keys and values of one source."""
        return 2 * self.layers * positions * self.inner * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one node's keys and values."""
        return 2 * self.layers * self.inner * self.dtype.itemsize

    @property
    def count(self) -> int:
        """Rows so far."""
        return self.paths.count

    @torch.inference_mode()
    def start(self, sources: Sequence[Sequence[int]], decode: DecodeConfig | None = None) -> None:
        """Encode the sources of E examples, forget the former ones, and choose as `decode` says. Raises OverBudget."""
        across = len(sources) * self.source_bytes(max(map(len, sources)))
        if across > self.budget:
            raise OverBudget
        self.forget()
        self.paths = Paths()
        self.most = (self.budget - across) // self.row_bytes
        self.capacity = 0
        self.lengths = np.array([len(source) for source in sources])
        self.sampler = Sampler.of(decode, ())
        self._source_keys = np.array([source_key(decode.seed, source) if decode else 0 for source in sources])
        self._start(sources)
        self._make_room(min(self.most, _ROWS * len(sources)))

    @torch.inference_mode()
    def feed(
        self, examples: Sequence[int], parents: Sequence[int], tokens: Sequence[int], given: Sequence[int]
    ) -> Told:
        """Feed M nodes, which take the next rows from `count` on, and return the model's answers after each.

        `examples` index the sources, `parents` are rows (-1 for a first token), which may lie earlier in this batch;
        `given` are tokens whose nll is wanted, -1 for none. Raises OverBudget, and BildError where logits are not
        finite.
        """
        parts: list[Told] = []
        step = ceil(len(tokens) / max(1, ceil(len(tokens) / self._at_once())))
        for at in range(0, len(tokens), step):
            part = slice(at, at + step)
            first = self.paths.add(np.array(examples[part]), np.array(parents[part]))
            self._make_room(self.count)
            parts += self._decode(self.paths.layout(first), first, tokens[part], given[part])
        told = Told(*(list(chain(*columns)) for columns in zip(*parts, strict=True)))
        check_finite(told.choice_nll)
        return told

    def forget(self) -> None:
        """Let go of the keys and values of the sources before, so that new ones find their room."""
        for name in ("cross", "rows"):
            vars(self).pop(name, None)

    def _keys(self, first: int) -> Any:
        """Return the keys of the tokens that follow the rows from `first` on."""
        examples, positions = self.paths.places(first)
        return position_keys(self._source_keys[examples], positions)

    def _bias_table(self) -> Tensor:
        """Return biases by distance [2 * deepest + 1, H]; the last are those of the distance -1: -inf."""
        back = -torch.arange(2 * self.paths.deepest, device=self.weights.device)
        buckets = t5.bucket(back, self.weights.shape, bidirectional=False)
        return F.pad(F.embedding(buckets, self.weights.decoder_bias), (0, 0, 0, 1), value=-torch.inf)

    def _make_room(self, count: int) -> None:
        if count > self.most:
            raise OverBudget
        if count > self.capacity:
            self.capacity = min(max(count, 2 * self.capacity), self.most)
            self._grow(self.capacity)

    def _at_once(self) -> int:
        """Return the number of nodes to feed at a time."""
        return _BLOCK

    @abstractmethod
    def _start(self, sources: Sequence[Sequence[int]]) -> None:
        """Encode sources."""

    @abstractmethod
    def _grow(self, capacity: int) -> None:
        """Make room for this many rows."""

    @abstractmethod
    def _decode(self, layout: Layout, first: int, tokens: Sequence[int], given: Sequence[int]) -> list[Told]:
        """Feed the rows from `first` on; return the answers after some of them at a time."""


class TorchBranches(Branches):
    """On any device, in any dtype."""

    def _start(self, sources: Sequence[Sequence[int]]) -> None:
        device, shape, longest = self.weights.device, self.weights.shape, int(self.lengths.max())
        size = (self.layers, 2, len(sources), shape.heads, longest, shape.key_size)
        self.cross = torch.zeros(size, dtype=self.dtype, device=device)
        beyond = torch.from_numpy(np.arange(longest) >= self.lengths[:, None]).to(device)
        self.cross_mask = torch.zeros(beyond.shape, dtype=self.dtype, device=device).masked_fill(beyond, -torch.inf)
        for part in _batches(self.lengths.tolist()):
            self._encode([sources[i] for i in part], part)
        self.rows = torch.empty((self.layers, 2, 0, self.inner), dtype=self.dtype, device=device)
        self._bias = torch.empty((0, shape.heads), device=device)

    def _grow(self, capacity: int) -> None:
        size = (self.layers, 2, capacity, self.inner)
        grown = torch.zeros(size, dtype=self.dtype, device=self.weights.device)
        grown[:, :, : self.rows.shape[2]] = self.rows
        self.rows = grown

    def _encode(self, sources: Sequence[Sequence[int]], places: Sequence[int]) -> None:
        weights, device = self.weights, self.weights.device
        n, longest = len(sources), max(map(len, sources))
        ids = torch.zeros((n, longest), dtype=torch.long)
        for i, source in enumerate(sources):
            ids[i, : len(source)] = torch.tensor(source)
        lengths = torch.tensor([len(source) for source in sources], device=device)
        beyond = torch.arange(longest, device=device) >= lengths[:, None]
        bias = weights.encoder.position_bias(longest, torch.float32)
        mask = bias.masked_fill(beyond[:, None, None, :], -torch.inf).to(self.dtype)
        states = t5.encode(weights.encoder, ids.to(device), mask)
        kv = t5.cross_keys_values(weights, states, n)
        self.cross[:, :, torch.tensor(places, device=device), :, :longest] = kv

    def _at_once(self) -> int:
        if self.weights.device.type == "cpu":
            return _BLOCK
        keys_values = 2 * (self.paths.deepest + 8) * self.inner * self.dtype.itemsize
        return max(1, _PATHS // (keys_values + 16 * self.weights.embed.shape[1] * 4))

    def _decode(self, layout: Layout, first: int, tokens: Sequence[int], given: Sequence[int]) -> list[Told]:
        weights, shape, device, m = self.weights, self.weights.shape, self.weights.device, len(tokens)
        rows = torch.from_numpy(layout.rows).to(device)
        slot = None if layout.slot is None else torch.from_numpy(layout.slot).to(device)
        index = layout.examples
        among = index if isinstance(index, slice) else torch.from_numpy(index).to(device)
        beyond = int(self.lengths[index].max())
        mask = self.cross_mask[among, None, None, :beyond]
        bias = self._biases()[torch.from_numpy(layout.distance).to(device)].permute(0, 3, 1, 2).to(self.dtype)
        places = len(layout.rows) * layout.most

        def mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
            padded = q if slot is None else q.new_zeros((places, self.inner)).index_copy_(0, slot, q)
            q = padded.view(-1, layout.most, shape.heads, shape.key_size).transpose(1, 2)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).transpose(1, 2)
            flat = mixed.reshape(places, self.inner)
            return flat if slot is None else flat[slot]

        x = t5.embed(weights, torch.tensor(tokens, device=device))
        for i, layer in enumerate(weights.decoder):
            qkv = t5.normed_product(x, layer.qkv, shape.eps)
            self.rows[i, :, first : first + m] = qkv[:, self.inner :].view(m, 2, self.inner).transpose(0, 1)
            k, v = (
                self.rows[i, j].index_select(0, rows.flatten()).view(*rows.shape, shape.heads, -1).transpose(1, 2)
                for j in (0, 1)
            )
            x = t5.add_product(x, mix(qkv[:, : self.inner], k, v, bias), layer.o)
            q = t5.normed_product(x, layer.cross_q, shape.eps)
            k, v = (self.cross[i, j, among, :, :beyond] for j in (0, 1))
            x = t5.add_product(x, mix(q, k, v, mask), layer.cross_o)
            x = t5.feed_forward(x, layer, shape)
        return self._summarise(x, first, given)

    def _biases(self) -> Tensor:
        """By distance [deepest + 1, H]; the last is that of the distance -1: -inf."""
        if len(self._bias) <= self.paths.deepest:
            self._bias = self._bias_table()
        return self._bias

    def _summarise(self, x: Tensor, first: int, given: Sequence[int]) -> list[Told]:
        step = max(1, _LOGITS[x.device.type] // (4 * self.vocabulary))
        told, sampler = list[Told](), self.sampler
        for at in range(0, len(given), step):
            logits = t5.logits(self.weights, x[at : at + step])
            chosen = sampler and sampler.draw(logits, self._keys(first + at)[: len(logits)], gaps=True)
            told.append(summarise(logits, given[at : at + step], chosen))
        return told


def summarise(logits: Tensor, given: Sequence[int], chosen: Chosen | None = None) -> Told:
    """Bring logits [m, V] in fp32 (overwritten) to the host as choices (greedy, or as `chosen`), nlls and so on."""
    rows, targets = (each.to(logits.device) for each in (torch.arange(len(given)), torch.tensor(given)))
    wanted = logits[rows, targets.clamp(min=0)]
    best = logits.amax(-1)
    on_host = logits.device.type == "cpu"  # where NumPy's argmax is vectorised, and torch's is not
    top = torch.from_numpy(logits.numpy().argmax(-1)) if on_host else logits.argmax(-1)
    choice = top if chosen is None else chosen.choice
    differ = torch.nonzero((targets >= 0) & (targets != choice))[:, 0]
    rank, rank_gap = torch.ones_like(best), torch.full_like(best, torch.inf)
    if len(differ):
        away = logits[differ] - wanted[differ, None]
        away[torch.arange(len(differ)), targets[differ]] = -torch.inf
        rank[differ] = (away > 0).sum(-1).to(best.dtype) + 1
        rank_gap[differ] = away.abs_().amin(-1)
    logits[rows, top] = -torch.inf
    gap = best - logits.amax(-1) if chosen is None else chosen.gap
    weights = logits.sub_(best[:, None]).exp()
    others = weights.sum(-1)
    logits[rows, top] = 0.0
    log_sum = others.log1p()
    entropy = log_sum - (weights * logits).nan_to_num_(0.0).sum(-1) / (1.0 + others)
    wanted = torch.where(targets == top, log_sum, log_sum + best - wanted)
    wanted = torch.where(targets < 0, torch.nan, wanted)
    # One read by the host; token ids below 2**24 are exact in fp32.
    choices, nlls, gaps, entropies, given_nlls, ranks, rank_gaps = torch.stack(
        (choice.to(best.dtype), log_sum, gap, entropy, wanted, rank, rank_gap)
    ).tolist()
    return Told([int(c) for c in choices], nlls, gaps, entropies, given_nlls, [int(r) for r in ranks], rank_gaps)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Put sources of about equal length together."""
    found: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if found[-1] and (len(found[-1]) + 1) * lengths[i] > _SOURCE_TOKENS:
            found.append([])
        found[-1].append(i)
    return found
