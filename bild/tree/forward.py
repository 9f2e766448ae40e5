"""One T5 or mT5 over the branches of many trees at once: a batch of new nodes, of all examples and depths, in one pass.

The keys and values of every node that was fed stay in a row of their own; a new node attends to the rows on its path,
found by following parents, so branches share what they have in common (as SpecInfer, Miao et al., ASPLOS 2024, and
Medusa, Cai et al., ICML 2024, verify trees of drafts). All matrix products run over the flat batch. The distance to
an ancestor is the difference in depth, which is what the relative biases of T5 ask for.

Shapes: M new nodes, L the longest path among them, E examples, S source positions; the others as in `bild.engines.t5`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bild.engines import DTYPES, t5
from bild.engines.base import check_finite
from bild.engines.early_exit import truncated
from bild.models import Pair

_LOGITS = 1 << 26
"""Bytes of logits at a time."""
_SOURCE_TOKENS = 8192
"""Source positions encoded at a time."""
_PATHS = 1 << 27
"""Bytes of keys gathered at a time, about."""


class OverBudget(Exception):
    """The rows of these examples do not fit into the memory allowed: take fewer examples."""


class Told(NamedTuple):
    """What a model says after each of M nodes. `given_nll` is NaN where no token was given."""

    choice: list[int]
    choice_nll: list[float]
    gap: list[float]
    given_nll: list[float]

    def extend(self, more: Told) -> None:
        """Add what was said after other nodes."""
        self.choice.extend(more.choice)
        self.choice_nll.extend(more.choice_nll)
        self.gap.extend(more.gap)
        self.given_nll.extend(more.given_nll)


class Branches:
    """One model, and the rows of all nodes that it was fed for a set of examples."""

    def __init__(self, weights: t5.Weights, vocabulary: int, budget: int) -> None:
        self.weights = weights
        self.vocabulary = vocabulary
        self.budget = budget
        shape = weights.shape
        self.inner = shape.heads * shape.key_size
        self.layers = len(weights.decoder)
        self.dtype = weights.embed.dtype

    def source_bytes(self, positions: int) -> int:
        """Of the cross-attention's keys and values of one source."""
        return 2 * self.layers * positions * self.inner * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Of one node."""
        return 2 * self.layers * self.inner * self.dtype.itemsize

    @torch.inference_mode()
    def start(self, sources: Sequence[Sequence[int]]) -> None:
        """Encode the sources of E examples and forget the former ones."""
        device, longest = self.weights.device, max(map(len, sources))
        if len(sources) * self.source_bytes(longest) > self.budget:
            raise OverBudget
        shape = self.weights.shape
        size = (self.layers, 2, len(sources), shape.heads, longest, shape.key_size)
        self.cross = torch.zeros(size, dtype=self.dtype, device=device)
        lengths = torch.tensor([len(source) for source in sources], device=device)
        beyond = torch.arange(longest, device=device) >= lengths[:, None]
        self.cross_mask = torch.zeros(beyond.shape, dtype=self.dtype, device=device).masked_fill(beyond, -torch.inf)
        for part in _batches([len(source) for source in sources]):
            self._encode([sources[i] for i in part], part)
        self.count = 0
        self.parents = np.empty(0, np.int64)
        self.deepest = 0
        """Rows on the longest path so far."""
        self.rows = torch.empty((self.layers, 2, 0, self.inner), dtype=self.dtype, device=device)

    def _encode(self, sources: Sequence[Sequence[int]], places: Sequence[int]) -> None:
        weights, shape, device = self.weights, self.weights.shape, self.weights.device
        n, longest = len(sources), max(map(len, sources))
        ids = torch.zeros((n, longest), dtype=torch.long)
        for i, source in enumerate(sources):
            ids[i, : len(source)] = torch.tensor(source)
        lengths = torch.tensor([len(source) for source in sources], device=device)
        beyond = torch.arange(longest, device=device) >= lengths[:, None]
        bias = t5.position_bias(weights.encoder_bias, longest, shape, bidirectional=True)
        mask = bias.masked_fill(beyond[:, None, None, :], -torch.inf).to(self.dtype)
        x = t5.embed(weights, ids.to(device).flatten())
        for layer in weights.encoder:
            qkv = t5.normed_product(x, layer.qkv, shape.eps).view(n, longest, 3, shape.heads, shape.key_size)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
            x = t5.add_product(x, mixed.transpose(1, 2).reshape(n * longest, -1), layer.o)
            x = t5.feed_forward(x, layer, shape)
        states = t5.rms_norm(x, shape.eps) * weights.encoder_gain
        kv = weights.cross_kv.times(states.to(weights.cross_kv.dtype))
        kv = kv.view(n, longest, self.layers, 2, shape.heads, shape.key_size).permute(2, 3, 0, 4, 1, 5)
        self.cross[:, :, torch.tensor(places, device=device), :, :longest] = kv

    @torch.inference_mode()
    def feed(
        self, examples: Sequence[int], parents: Sequence[int], tokens: Sequence[int], given: Sequence[int]
    ) -> Told:
        """Feed M nodes, which take the next rows from `count` on: what the model says after each.

        `examples` index the sources, `parents` are rows (-1 for a first token), which may lie earlier in this batch;
        `given` are tokens whose nll is wanted, -1 for none. Raises OverBudget, and BildError where logits are not
        finite.
        """
        told, at = Told([], [], [], []), 0
        while at < len(tokens):
            end = min(len(tokens), at + self._most())
            part = slice(at, end)
            x = self._decode(np.array(examples[part]), np.array(parents[part]), list(tokens[part]))
            told.extend(self._summarise(x, given[part]))
            at = end
        check_finite(told.choice_nll)
        return told

    def _most(self) -> int:
        """How many nodes to feed at a time."""
        per_node = 2 * (self.deepest + 8) * self.inner * self.dtype.itemsize + 16 * self.weights.embed.shape[1] * 4
        return max(1, _PATHS // per_node)

    def _decode(self, examples: NDArray[np.int64], parents: NDArray[np.int64], tokens: list[int]) -> Tensor:
        weights, shape, device = self.weights, self.weights.shape, self.weights.device
        first = self._reserve(parents)
        paths, bias = self._paths(first)
        flat, m = paths.flatten(), len(tokens)
        across = _Across(examples, self.cross.shape[2], device)
        mask = across.of_examples(self.cross_mask)[:, None, None, :]
        x = t5.embed(weights, torch.tensor(tokens, device=device))
        for i, layer in enumerate(weights.decoder):
            qkv = t5.normed_product(x, layer.qkv, shape.eps)
            self.rows[i, :, first : first + m] = qkv[:, self.inner :].view(m, 2, self.inner).transpose(0, 1)
            k, v = (
                self.rows[i, j].index_select(0, flat).view(m, -1, shape.heads, shape.key_size).transpose(1, 2)
                for j in (0, 1)
            )
            q = qkv[:, : self.inner].view(m, shape.heads, 1, shape.key_size)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
            x = t5.add_product(x, mixed.reshape(m, -1), layer.o)
            q = across.pad(t5.normed_product(x, layer.cross_q, shape.eps), shape.heads)
            k, v = across.of_examples(self.cross[i, 0]), across.of_examples(self.cross[i, 1])
            mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=mask, scale=1.0)
            x = t5.add_product(x, across.unpad(mixed.transpose(1, 2).flatten(2)), layer.cross_o)
            x = t5.feed_forward(x, layer, shape)
        return x

    def _reserve(self, parents: NDArray[np.int64]) -> int:
        """Make room for new rows, and note where they hang: the first of them."""
        first, m = self.count, len(parents)
        self.count += m
        self.parents = np.concatenate((self.parents, parents))
        if self.count > self.rows.shape[2]:
            most = (self.budget - self.cross.nbytes) // self.row_bytes
            if self.count > most:
                raise OverBudget
            capacity = min(max(self.count, 2 * self.rows.shape[2], 256), most)
            grown = torch.zeros((self.layers, 2, capacity, self.inner), dtype=self.dtype, device=self.rows.device)
            grown[:, :, :first] = self.rows[:, :, :first]
            self.rows = grown
        return first

    def _paths(self, first: int) -> tuple[Tensor, Tensor]:
        """(rows on the way to the root [M, L], nearest first; biases [M, H, 1, L], -inf beyond the root)."""
        at, columns = np.arange(first, self.count), []
        while (at >= 0).any():
            columns.append(at)
            at = np.where(at >= 0, self.parents[at], -1)
        self.deepest = max(self.deepest, len(columns))
        device, shape = self.weights.device, self.weights.shape
        paths = torch.from_numpy(np.stack(columns, 1)).to(device)
        distance = -torch.arange(paths.shape[1], device=device)
        table = F.embedding(t5.bucket(distance, shape, bidirectional=False), self.weights.decoder_bias)
        bias = table.t()[None, :, None, :].masked_fill((paths < 0)[:, None, None, :], -torch.inf)
        return paths.clamp(min=0), bias.to(self.dtype)

    def _summarise(self, x: Tensor, given: Sequence[int]) -> Told:
        step = max(1, _LOGITS // (4 * self.vocabulary))
        told = Told([], [], [], [])
        for at in range(0, len(given), step):
            found = summarise(t5.logits(self.weights, x[at : at + step]), given[at : at + step])
            told.extend(found)
        return told


def summarise(logits: Tensor, given: Sequence[int]) -> Told:
    """Logits [m, V] in fp32 (overwritten) to choices, nlls and gaps on the host."""
    rows, targets = torch.arange(len(given)), torch.tensor(given)
    rows, targets = rows.to(logits.device), targets.to(logits.device)
    wanted = logits[rows, targets.clamp(min=0)]
    best = logits.amax(-1)
    if logits.device.type == "cpu":
        choice = torch.from_numpy(logits.numpy().argmax(-1))  # NumPy's is vectorised, torch's is not
    else:
        choice = logits.argmax(-1)
    logits[rows, choice] = -torch.inf
    gap = best - logits.amax(-1)
    log_sum = logits.sub_(best[:, None]).exp_().sum(-1).log1p()
    wanted = torch.where(targets == choice, log_sum, log_sum + best - wanted)
    wanted = torch.where(targets < 0, torch.nan, wanted)
    nlls, gaps, given_nlls = torch.stack((log_sum, gap, wanted)).tolist()
    return Told(choice.tolist(), nlls, gaps, given_nlls)


class _Across:
    """Nodes [M, ...] side by side by their example [A, Q, ...], as cross-attention takes them."""

    def __init__(self, examples: NDArray[np.int64], total: int, device: torch.device) -> None:
        active, index, counts = np.unique(examples, return_inverse=True, return_counts=True)
        if 2 * len(active) > total:  # copying the keys of most examples costs more than empty queries do
            active, index, counts = np.arange(total), examples, np.bincount(examples, minlength=total)
        order = np.argsort(index, kind="stable")
        starts = np.cumsum(counts) - counts
        place = np.empty(len(index), np.int64)
        place[order] = np.arange(len(index)) - np.repeat(starts, counts)
        self.shape = (len(active), int(counts.max()))
        self.slot = torch.from_numpy(index * self.shape[1] + place).to(device)
        self.active = None if len(active) == total else torch.from_numpy(active).to(device)

    def pad(self, x: Tensor, heads: int) -> Tensor:
        """[M, H*K] to [A, Q, H, K]."""
        padded = x.new_zeros((self.shape[0] * self.shape[1], x.shape[1]))
        padded[self.slot] = x
        return padded.view(*self.shape, heads, -1)

    def unpad(self, x: Tensor) -> Tensor:
        """[A, Q, n] to [M, n]."""
        return x.flatten(0, 1)[self.slot]

    def of_examples(self, x: Tensor) -> Tensor:
        """[E, ...] to [A, ...]."""
        return x if self.active is None else x.index_select(0, self.active)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Sources of about equal length together."""
    found: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if found[-1] and (len(found[-1]) + 1) * lengths[i] > _SOURCE_TOKENS:
            found.append([])
        found[-1].append(i)
    return found


def weights_of(pair: Pair, role: str) -> t5.Weights:
    """The weights of a pair's large or small model, laid out for many rows."""
    module = (pair.large if role == "large" else pair.small).module
    if role == "small" and pair.exit is not None:
        module = truncated(module, pair.exit)
    return t5.prepare(module.state_dict(), module.config, DTYPES[pair.dtype], pair.vocabulary)
