"""The rounds of many walks as a tree of their own: those that part share what they have in common."""

from __future__ import annotations

import math

from bild.tree.nodes import Table
from bild.tree.walk import Edge


class Trail:
    """A round, and the rounds before it; trails that part share what they have in common, sums included."""

    __slots__ = ("before", "edge", "fed", "sums", "within")

    def __init__(self, before: Trail | None, edge: Edge) -> None:
        self.before = before
        self.edge = edge
        self.sums: tuple[int, ...] | None = None
        """Small and large passes and positions, drafted, kept, fallbacks, full drafts and rollbacks; None: not yet."""
        self.fed = -1
        """The last node that the small model was fed."""
        self.within: tuple[float, float, float, float, float] | None = None
        """See `Walk.within`; None: not yet."""

    def all(self) -> list[Trail]:
        """From the first round on."""
        found: list[Trail] = []
        at: Trail | None = self
        while at is not None:
            found.append(at)
            at = at.before
        return found[::-1]

    def add_up(self, table: Table) -> tuple[int, ...]:
        """`sums` and `fed`, of all rounds up to this one."""
        todo: list[Trail] = []
        at: Trail | None = self
        while at is not None and at.sums is None:
            todo.append(at)
            at = at.before
        sums, fed = (_NOTHING, -1) if at is None else (at.sums or _NOTHING, at.fed)
        small, large, small_new, large_new, drafted, kept, unsure, full, taken_back = sums
        for trail in reversed(todo):
            edge = trail.edge
            if edge.made:
                small += edge.made
                small_new += edge.made - 1 + lacking(table, fed, edge.node)
                fed = edge.fed
            if edge.verified:
                large += 1
                large_new += 1 + edge.drafted
            drafted += edge.drafted
            kept += edge.kept
            unsure += edge.stop == "unsure"
            full += edge.stop == "limit"
            taken_back += edge.kept < edge.drafted
            sums = (small, large, small_new, large_new, drafted, kept, unsure, full, taken_back)
            trail.sums, trail.fed = sums, fed
        return sums

    def narrow(self) -> tuple[float, float, float, float, float]:
        """`within`, of all rounds up to this one."""
        todo: list[Trail] = []
        at: Trail | None = self
        while at is not None and at.within is None:
            todo.append(at)
            at = at.before
        found = EVERYWHERE if at is None or at.within is None else at.within
        for trail in reversed(todo):
            (fb_low, fb_high), (bar_low, bar_high), gap = trail.edge.fb, trail.edge.bar, trail.edge.gap
            found = (
                max(found[0], fb_low),
                min(found[1], fb_high),
                max(found[2], bar_low),
                min(found[3], bar_high),
                min(found[4], gap),
            )
            trail.within = found
        return found


_NOTHING = (0,) * 9
EVERYWHERE = (-math.inf, math.inf, -math.inf, math.inf, math.inf)


def lacking(table: Table, fed: int, node: int) -> int:
    """Positions that the small model must be fed to know a node; at least its last."""
    length = table.depth[node] + 1
    shared = 0 if fed < 0 else table.shared_length(fed, node)
    return length - min(shared, length - 1)
