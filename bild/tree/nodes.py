"""The nodes of one example's decision tree: prefixes, and what both models say after each.

Greedy decoding is deterministic: after a given prefix the small model has one choice and one probability for it, the
large one has one choice and one nll for the small one's. Every setting of every method is a walk over these numbers.

Python's cyclic garbage collector, put off while very many small objects are made that hold no cycles.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Self

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
    """-ln q of the small choice; NaN: not asked."""
    small_gap: Floats
    """Logit of the small choice less that of the next best."""
    large_choice: Ints
    """-1: not asked."""
    large_choice_nll: Floats
    """-ln p of the large choice."""
    large_nll: Floats
    """-ln p of the small choice; NaN: not known."""
    large_gap: Floats
    """Logit of the large choice less that of the next best."""

    def __len__(self) -> int:
        return len(self.parent)


NAMES = tuple(field.name for field in fields(Nodes))
TYPES: dict[str, Any] = {
    name: np.int32 if name in ("parent", "token", "small_choice", "large_choice") else np.float32 for name in NAMES
}


class Table:
    """The same nodes as lists, which grow, with the children of each node at hand."""

    def __init__(self, start: int) -> None:
        self.parent: list[int] = []
        self.token: list[int] = []
        self.depth: list[int] = []
        self.small_choice: list[int] = []
        self.small_nll: list[float] = []
        self.small_prob: list[float] = []
        self.small_gap: list[float] = []
        self.large_choice: list[int] = []
        self.large_choice_nll: list[float] = []
        self.large_nll: list[float] = []
        self.large_gap: list[float] = []
        self.small_child: list[int] = []
        self.large_child: list[int] = []
        self._append(-1, start, 0)

    @classmethod
    def of(cls, nodes: Nodes) -> Self:
        """From columns."""
        table = cls(int(nodes.token[0]))
        parents, tokens = nodes.parent.tolist(), nodes.token.tolist()
        for parent, token in zip(parents[1:], tokens[1:], strict=True):
            table._append(parent, token, table.depth[parent] + 1)
        for name in NAMES[2:]:
            setattr(table, name, getattr(nodes, name).tolist())
        table.small_prob = [math.exp(-nll) for nll in table.small_nll]
        for node in range(1, len(parents)):
            table._link(node)
        return table

    def __len__(self) -> int:
        return len(self.parent)

    def add(self, parent: int, token: int) -> int:
        """A new node, which must be one of the two choices at its parent."""
        node = len(self.parent)
        self._append(parent, token, self.depth[parent] + 1)
        self._link(node)
        return node

    def child(self, node: int, token: int) -> int:
        """The node that a choice leads to, -1 where there is none yet."""
        if token == self.small_choice[node]:
            return self.small_child[node]
        return self.large_child[node] if token == self.large_choice[node] else -1

    def hear_small(self, node: int, choice: int, nll: float, gap: float) -> None:
        """What the small model says at a node."""
        self.small_choice[node], self.small_nll[node], self.small_gap[node] = choice, nll, gap
        self.small_prob[node] = math.exp(-nll)
        if choice == self.large_choice[node]:
            self.small_child[node] = self.large_child[node]

    def hear_large(self, node: int, choice: int, choice_nll: float, nll: float, gap: float) -> None:
        """What the large model says at a node, also of the small model's choice there."""
        self.large_choice[node], self.large_choice_nll[node] = choice, choice_nll
        self.large_nll[node], self.large_gap[node] = nll, gap
        if choice == self.small_choice[node]:
            self.large_child[node] = self.small_child[node]

    def path(self, node: int) -> list[int]:
        """The tokens of a prefix, start token included."""
        tokens = []
        while node >= 0:
            tokens.append(self.token[node])
            node = self.parent[node]
        return tokens[::-1]

    def shared_length(self, a: int, b: int) -> int:
        """How many leading tokens two prefixes share."""
        depth, parent = self.depth, self.parent
        while depth[a] > depth[b]:
            a = parent[a]
        while depth[b] > depth[a]:
            b = parent[b]
        while a != b:
            a, b = parent[a], parent[b]
        return depth[a] + 1

    def columns(self, first: int = 0) -> Nodes:
        """The nodes from `first` on."""
        return Nodes(*(np.array(getattr(self, name)[first:], TYPES[name]) for name in NAMES))

    def _append(self, parent: int, token: int, depth: int) -> None:
        self.parent.append(parent)
        self.token.append(token)
        self.depth.append(depth)
        for column in (self.small_choice, self.large_choice, self.small_child, self.large_child):
            column.append(-1)
        self.small_prob.append(0.0)
        for values in (self.small_nll, self.small_gap, self.large_choice_nll, self.large_nll, self.large_gap):
            values.append(math.nan)

    def _link(self, node: int) -> None:
        parent, token = self.parent[node], self.token[node]
        if token == self.small_choice[parent]:
            self.small_child[parent] = node
        if token == self.large_choice[parent]:
            self.large_child[parent] = node


@contextmanager
def collector_off() -> Iterator[None]:
    """It would look at all rounds of all walks again and again, which takes longer than walking; also a decorator."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
