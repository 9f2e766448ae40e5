"""The nodes of one example's decision tree: prefixes, and what both models say after each.

Greedy decoding, and sampling under one seed, is deterministic: after a given prefix the small model has one choice and
one largest probability, the large one has one choice and one nll for the small one's. Every setting of every method is
a walk over these numbers.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Nodes:
    """Columns of equal length, one entry per node. Node 0 is the prefix [start]; parents come before their children.

    A node has at most two children: its small choice and its large choice (one where they agree).
    """

    parent: Ints
    """-1 for node 0."""
    token: Ints
    """Leads here from the parent."""
    small_choice: Ints
    """-1: not asked."""
    small_nll: Floats
    """-ln of the largest q, that of a greedy choice; NaN: not asked."""
    small_gap: Floats
    """Logit of the small choice less that of the next best; if sampled, how far the logits are from another choice."""
    small_entropy: Floats
    """Entropy of the small model's next token, nats."""
    large_choice: Ints
    """-1: not asked."""
    large_choice_nll: Floats
    """-ln of the largest p, that of a greedy choice."""
    large_nll: Floats
    """-ln p of the small choice; NaN: not known."""
    large_gap: Floats
    """As `small_gap`."""
    large_entropy: Floats
    """Entropy of the large model's next token, nats."""
    large_rank: Ints
    """Place of the small choice among the large model's logits, 1 for the best; 0: not known (trees of format 1)."""
    large_rank_gap: Floats
    """Distance of the small choice's logit from the nearest other one; infinite where the two models agree."""

    def __len__(self) -> int:
        return len(self.parent)


NAMES = tuple(each.name for each in fields(Nodes))
TYPES: dict[str, Any] = {
    name: np.int32 if name in ("parent", "token", "small_choice", "large_choice", "large_rank") else np.float32
    for name in NAMES
}
_MEASURES = tuple(name for name in NAMES if TYPES[name] is np.float32)


class NodeTable:
    """The same nodes as lists, which grow, with the children of each node at hand."""

    def __init__(self, start: int) -> None:
        self.parent: list[int] = []
        self.token: list[int] = []
        self.depth: list[int] = []
        self.small_choice: list[int] = []
        self.small_nll: list[float] = []
        self.small_prob: list[float] = []
        self.small_gap: list[float] = []
        self.small_entropy: list[float] = []
        self.large_choice: list[int] = []
        self.large_choice_nll: list[float] = []
        self.large_nll: list[float] = []
        self.large_gap: list[float] = []
        self.large_entropy: list[float] = []
        self.large_rank: list[int] = []
        self.large_rank_gap: list[float] = []
        self.small_child: list[int] = []
        self.large_child: list[int] = []
        self.stored = 0
        """Nodes that are on disk (`bild.tree.blocks`)."""
        self.heard: list[int] = []
        """Nodes that the large model has spoken of since they were stored."""
        self._append(-1, start, 0)

    def copied(self) -> NodeTable:
        """Return a table of the same nodes that grows by itself."""
        made = copy.copy(self)
        vars(made).update({name: list(each) for name, each in vars(self).items() if isinstance(each, list)})
        return made

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def dirty(self) -> bool:
        """Tell whether there is anything to store."""
        return bool(self.heard) or len(self) > self.stored

    def become(self, other: NodeTable) -> None:
        """Take another table's nodes in the place of one's own, whoever holds this one."""
        vars(self).update(vars(other))

    def add(self, parent: int, token: int) -> int:
        """Add a node, which must be one of the two choices at its parent."""
        node = len(self.parent)
        self._append(parent, token, self.depth[parent] + 1)
        self._link(node)
        return node

    def child(self, node: int, token: int) -> int:
        """Return the node that a choice leads to, -1 where there is none yet."""
        if token == self.small_choice[node]:
            return self.small_child[node]
        return self.large_child[node] if token == self.large_choice[node] else -1

    def hear_small(self, node: int, choice: int, nll: float, gap: float, entropy: float) -> None:
        """Note what the small model says at a node."""
        self.small_choice[node], self.small_nll[node] = choice, nll
        self.small_gap[node], self.small_entropy[node] = gap, entropy
        self.small_prob[node] = math.exp(-nll)
        if choice == self.large_choice[node]:
            self.small_child[node] = self.large_child[node]

    def hear_large(
        self,
        node: int,
        choice: int,
        choice_nll: float,
        nll: float,
        gap: float,
        entropy: float,
        rank: int,
        rank_gap: float,
    ) -> None:
        """Note what the large model says at a node, also of the small model's choice there."""
        self.large_choice[node], self.large_choice_nll[node] = choice, choice_nll
        self.large_nll[node], self.large_gap[node], self.large_entropy[node] = nll, gap, entropy
        self.large_rank[node], self.large_rank_gap[node] = rank, rank_gap
        if choice == self.small_choice[node]:
            self.large_child[node] = self.small_child[node]

    def path(self, node: int) -> list[int]:
        """Return the tokens of a prefix, start token included."""
        tokens = []
        while node >= 0:
            tokens.append(self.token[node])
            node = self.parent[node]
        return tokens[::-1]

    def shared_length(self, a: int, b: int) -> int:
        """Count the leading tokens that two prefixes share."""
        depth, parent = self.depth, self.parent
        while depth[a] > depth[b]:
            a = parent[a]
        while depth[b] > depth[a]:
            b = parent[b]
        while a != b:
            a, b = parent[a], parent[b]
        return depth[a] + 1

    def columns(self, first: int = 0) -> Nodes:
        """Return the nodes from `first` on."""
        return Nodes(*(np.array(getattr(self, name)[first:], TYPES[name]) for name in NAMES))

    def _append(self, parent: int, token: int, depth: int) -> None:
        self.parent.append(parent)
        self.token.append(token)
        self.depth.append(depth)
        for column in (self.small_choice, self.large_choice, self.small_child, self.large_child):
            column.append(-1)
        self.small_prob.append(0.0)
        self.large_rank.append(0)
        for name in _MEASURES:
            getattr(self, name).append(math.nan)

    def _link(self, node: int) -> None:
        parent, token = self.parent[node], self.token[node]
        if token == self.small_choice[parent]:
            self.small_child[parent] = node
        if token == self.large_choice[parent]:
            self.large_child[parent] = node


@dataclass(frozen=True)
class StoredExample:
    """One example as a tree's folder has it, beside its nodes."""

    id: str
    source: str
    reference: str
    source_tokens: list[int]
    """Prompt and end token included."""
    truncated: bool
    """True where the source was cut to its limit."""


@dataclass(frozen=True)
class TreeExample(StoredExample):
    """One example: its texts, the token ids of its source, and its nodes."""

    table: NodeTable = field(repr=False)

    @cached_property
    def nodes(self) -> Nodes:
        """The nodes as columns."""
        return self.table.columns()
