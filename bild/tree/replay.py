"""Replay points: each distinct walk of an example once, shared by all the points that take it.

The rounds of many walks form a tree of their own (`History`): walks that part share what they have in common.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from bild.tree.nodes import NodeTable
from bild.tree.walk import Edge, State, Walker


class Rounding(NamedTuple):
    """The most by which a live engine's numbers may differ from the tree's, a safety factor included."""

    nll: float
    """Difference of two -ln p, nats."""
    gap: float
    """Difference of two gaps between logits."""


class Sums(NamedTuple):
    """The share of one text in the counts of a point (`bild.results.parts.Counts`)."""

    tokens: int
    rounds: int
    small_passes: int
    large_passes: int
    small_positions: int
    large_positions: int
    drafted: int
    kept: int
    fallbacks: int
    full_drafts: int
    rollbacks: int


class Walk:
    """One finished text of one example, and the rounds that led to it."""

    def __init__(self, table: NodeTable, history: History | None, anchor: int, tail: int) -> None:
        self.table = table
        self.history = history
        self.anchor = anchor
        self.tail = tail
        self.text: str | None = None
        """None until it is decoded."""

    @cached_property
    def edges(self) -> list[Edge]:
        """The rounds."""
        return [] if self.history is None else self.history.edges()

    @cached_property
    def tokens(self) -> list[int]:
        """Token ids, start token included."""
        return [*self.table.path(self.anchor), self.tail]

    @property
    def length(self) -> int:
        """Tokens, start token included."""
        return self.table.depth[self.anchor] + 2

    @cached_property
    def small_passes(self) -> list[int]:
        """New positions fed to the small model, pass by pass (`bild.measure.live.Run`)."""
        passes, fed = list[int](), -1
        for edge in self.edges:
            if edge.made:
                passes.append(lacking(self.table, fed, edge.node))
                passes += [1] * (edge.made - 1)
                fed = edge.fed
        return passes

    @cached_property
    def large_passes(self) -> list[int]:
        """New positions fed to the large model: what it wrote last, and the draft."""
        return [1 + edge.drafted for edge in self.edges if edge.verified]

    @cached_property
    def sums(self) -> Sums:
        """Calls and their fates."""
        history, tokens = self.history, self.length - 1
        if history is None:
            small, large = len(self.small_passes), len(self.large_passes)
            return Sums(tokens, 0, small, large, small, large, 0, 0, 0, 0, 0)
        return Sums(tokens, len(self.edges), *(history.sums or history.add_up(self.table)))

    @property
    def within(self) -> tuple[float, float, float, float, float]:
        """(fb above this, up to this, keep threshold from this, below this, least gap): where the walk is the same."""
        return EVERYWHERE if self.history is None else self.history.narrow()


class AloneWalk(Walk):
    """One model decoding by itself."""

    def __init__(self, table: NodeTable, author: str, anchor: int, tail: int, eos: int) -> None:
        super().__init__(table, None, anchor, tail)
        self.author = author
        self.eos = eos

    @cached_property
    def small_passes(self) -> list[int]:
        """See `Walk`."""
        return [1] * (self.length - 1) if self.author == "small" else []

    @cached_property
    def large_passes(self) -> list[int]:
        """See `Walk`."""
        return [1] * (self.length - 1) if self.author == "large" else []

    @cached_property
    def sums(self) -> Sums:
        """See `Walk`. What the small model writes by itself is one draft; what the large one writes is none."""
        plain = super().sums
        if self.author == "large":
            return plain
        return plain._replace(rounds=1, drafted=plain.tokens, kept=plain.tokens, full_drafts=int(self.tail != self.eos))

    @property
    def within(self) -> tuple[float, float, float, float, float]:
        """See `Walk`: no threshold plays a part."""
        gaps = self.table.small_gap if self.author == "small" else self.table.large_gap
        node, gap = self.anchor, math.inf
        while node >= 0:
            gap, node = min(gap, gaps[node]), self.table.parent[node]
        return -math.inf, math.inf, -math.inf, math.inf, gap


def family_walks(walker: Walker) -> tuple[list[tuple[Walk, int]], int]:
    """Return the distinct walks of a family, each with its points, and the points whose walk leads out of the tree.

    Points walk together until their thresholds part them. A round leads to deeper nodes only, so states are taken by
    depth: when the turn of one comes, all points that pass it are known, and it is worked out once, for them alone.
    """
    table, start = walker.table, walker.start()
    found: list[tuple[Walk, int]] = []
    missing = 0
    arrivals: list[dict[State, list[tuple[int, History | None]]]] = [{} for _ in range(walker.max_length)]
    arrivals[0][start] = [(walker.family.everyone, None)]
    for here in arrivals:
        for state, groups in here.items():
            everyone = 0
            for points, _ in groups:
                everyone |= points
            step = walker.step(state, everyone)
            missing |= step.missing
            for edge in step.edges:
                for points, before in groups:
                    mine = points & edge.points
                    if not mine:
                        continue
                    history = History(before, edge)
                    if edge.state is None:
                        found.append((Walk(table, history, edge.anchor, edge.tail), mine))
                    elif edge.state[0] < 0:
                        missing |= mine
                    else:
                        arrivals[table.depth[edge.state[0]]].setdefault(edge.state, []).append((mine, history))
    return found, missing


def alone_walk(table: NodeTable, author: str, eos: int, max_length: int) -> Walk | None:
    """Return one model's own text, None where it leads out of the tree."""
    choices = table.small_choice if author == "small" else table.large_choice
    node = 0
    while True:
        token = choices[node]
        if token < 0:
            return None
        if token == eos or table.depth[node] + 2 == max_length:
            return AloneWalk(table, author, node, token, eos)
        node = table.child(node, token)
        if node < 0:
            return None


class History:
    """A round, and the rounds before it; histories that part share what they have in common, sums included."""

    __slots__ = ("before", "edge", "fed", "sums", "within")

    def __init__(self, before: History | None, edge: Edge) -> None:
        self.before = before
        self.edge = edge
        self.sums: tuple[int, ...] | None = None
        """Small and large passes and positions, drafted, kept, fallbacks, full drafts and rollbacks; None: not yet."""
        self.fed = -1
        """The last node that the small model was fed."""
        self.within: tuple[float, float, float, float, float] | None = None
        """See `Walk.within`; None: not yet."""

    def edges(self) -> list[Edge]:
        """Return the rounds in their order."""
        return [history.edge for history in self._since(lambda _: False)[0]]

    def _since(self, known: Callable[[History], bool]) -> tuple[list[History], History | None]:
        """Return the rounds after the last known one, in their order, and that one (None: none is known)."""
        found: list[History] = []
        at: History | None = self
        while at is not None and not known(at):
            found.append(at)
            at = at.before
        return found[::-1], at

    def add_up(self, table: NodeTable) -> tuple[int, ...]:
        """Add up `sums` and `fed` over all rounds up to this one."""
        todo, at = self._since(lambda history: history.sums is not None)
        sums, fed = (_NOTHING, -1) if at is None else (at.sums or _NOTHING, at.fed)
        small, large, small_new, large_new, drafted, kept, unsure, full, taken_back = sums
        for history in todo:
            edge = history.edge
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
            history.sums, history.fed = sums, fed
        return sums

    def narrow(self) -> tuple[float, float, float, float, float]:
        """Narrow `within` by all rounds up to this one."""
        todo, at = self._since(lambda history: history.within is not None)
        found = EVERYWHERE if at is None or at.within is None else at.within
        for history in todo:
            (fb_low, fb_high), (least, most), gap = history.edge.fb, history.edge.threshold, history.edge.gap
            found = (
                max(found[0], fb_low),
                min(found[1], fb_high),
                max(found[2], least),
                min(found[3], most),
                min(found[4], gap),
            )
            history.within = found
        return found


_NOTHING = (0,) * 9
EVERYWHERE = (-math.inf, math.inf, -math.inf, math.inf, math.inf)


def lacking(table: NodeTable, fed: int, node: int) -> int:
    """Count the positions that the small model must be fed to know a node; at least its last."""
    length = table.depth[node] + 1
    shared = 0 if fed < 0 else table.shared_length(fed, node)
    return length - min(shared, length - 1)
