"""The places of many trees' nodes, and a batch of new ones as attention sees it: plain index arithmetic, no models.

Every node that was fed has a row. Those of one example attend to each other only, so a batch is laid out by examples:
the new nodes of an example side by side, as queries, and side by side all rows on their paths to the root, as keys.

Shapes: M new nodes, A examples among them, Q queries of an example at most, U rows on their paths at most.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
_ROWS, _DEPTH = 256, 32
"""Rows and depths to make room for at first."""


class Layout(NamedTuple):
    """One batch, by examples."""

    examples: slice | Indices
    """[A]; a slice where most examples in a range take part (the others have empty queries)."""
    most: int
    """Q."""
    slot: Indices | None
    """[M], the place of each new node among the A * Q queries; None where they are 0, 1, 2 ..."""
    rows: Indices
    """[A, U]; 0 where an example has fewer."""
    distance: Indices
    """[A, Q, U], steps from a query back to a row: 0 for itself, -1 for a row that is not on its path."""

    def pad(self, x: Any, padded: Any) -> Any:
        """Lay x [M, ...] out in `padded`, [A * Q, ...] of zeros, as [A, Q, ...]."""
        if self.slot is None:
            padded = x
        else:
            padded[self.slot] = x
        return padded.reshape(-1, self.most, *x.shape[1:])


class Paths:
    """The rows of all nodes so far. Row r's path is r, its parent, and so on; -1 beyond the root."""

    def __init__(self) -> None:
        self.count = 0
        self.deepest = 0
        """Rows on the longest path."""
        self._examples = np.empty(_ROWS, np.int64)
        self._paths = np.full((_ROWS + 1, _DEPTH), -1, np.int64)  # the last row is that of the parent -1
        self._depth = np.zeros(_ROWS + 1, np.int64)

    def add(self, examples: Indices, parents: Indices) -> int:
        """Add rows, whose parents (-1 for none) may be among them if they come earlier; return the first of them."""
        first, self.count = self.count, self.count + len(parents)
        self._make_room()
        new = np.arange(first, self.count)
        self._examples[new] = examples
        paths, depth = self._paths, self._depth
        paths[new, 0] = new
        left = new
        while len(left):
            above = parents[left - first]
            ready = (depth[above] > 0) | (above < 0)
            now, above = left[ready], above[ready]
            depth[now] = depth[above] + 1
            deepest = int(depth[now].max())
            if deepest > paths.shape[1]:
                paths = self._paths = np.pad(paths, ((0, 0), (0, paths.shape[1])), constant_values=-1)
            self.deepest = max(self.deepest, deepest)
            paths[now, 1:deepest] = paths[above, : deepest - 1]
            left = left[~ready]
        return first

    def _make_room(self) -> None:
        room = len(self._examples)
        if self.count > room:
            more = max(self.count, 2 * room) - room
            self._examples = np.pad(self._examples, (0, more))
            self._paths = np.pad(self._paths, ((0, more), (0, 0)), constant_values=-1)
            self._depth = np.pad(self._depth, (0, more))

    def places(self, first: int) -> tuple[Indices, Indices]:
        """Return the example of each row from `first` on, and the position of the token that follows it."""
        return self._examples[first : self.count], self._depth[first : self.count]

    def layout(self, first: int) -> Layout:
        """Lay out the rows from `first` on."""
        new = np.arange(first, self.count)
        examples, depth = self._examples[new], self._depth[new]
        active, index = np.unique(examples, return_inverse=True)
        among: slice | Indices = active
        if 2 * len(active) >= active[-1] + 1 - active[0]:
            # Empty queries cost less than copying the keys of most examples.
            among = slice(int(active[0]), int(active[-1]) + 1)
            index, active = examples - active[0], np.arange(among.start, among.stop)
        query, most = _places(index, len(active))
        mine = self._paths[new, : depth.max()]
        seen = np.zeros(self.count + 1, bool)
        seen[mine] = True
        seen[-1] = False  # where the paths that have ended point to
        union = np.flatnonzero(seen)
        owner = np.searchsorted(active, self._examples[union])
        key, width = _places(owner, len(active))
        rows = np.zeros((len(active), width), np.int64)
        rows[owner, key] = union
        place = np.empty(self.count, np.int64)
        place[union] = key
        distance = np.full((len(active), most, width), -1)
        distance[:, :, 0] = 0  # an empty query must see something, or it would be NaN
        distance[index, query, 0] = -1
        node, back = np.nonzero(mine >= 0)
        distance[index[node], query[node], place[mine[node, back]]] = back
        slot = index * most + query
        plain = len(active) * most == len(new) and bool((slot == np.arange(len(new))).all())
        return Layout(among, most, None if plain else slot, rows, distance)


def _places(groups: Indices, count: int) -> tuple[Indices, int]:
    """Return the place of each item among those of its group, and the most items of a group."""
    sizes = np.bincount(groups, minlength=count)
    order = np.argsort(groups, kind="stable")
    place = np.empty(len(groups), np.int64)
    place[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return place, int(sizes.max())
