"""Replaying points: every distinct walk of an example once, shared by all the points that take it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias

from bild.tree.nodes import Table
from bild.tree.walk import Edge, State, Step, Walker

_Trail: TypeAlias = "tuple[_Trail, Edge] | None"


class Rounding(NamedTuple):
    """How far a live engine's numbers may lie from the tree's, a safety factor included."""

    nll: float
    """Of -ln p, nats."""
    gap: float
    """Of the difference of two logits."""


class Sums(NamedTuple):
    """What one text adds to the counts of a point (`bild.results.parts.Counts`)."""

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

    def __init__(self, table: Table, edges: Sequence[Edge], anchor: int, tail: int) -> None:
        self.table = table
        self.edges = edges
        self.anchor = anchor
        self.tail = tail

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
        """New positions fed to the small model, pass by pass (`bild.bench.live.Run`)."""
        table, passes, fed = self.table, list[int](), -1
        for edge in self.edges:
            if edge.made:
                length = table.depth[edge.node] + 1
                shared = 0 if fed < 0 else table.shared_length(fed, edge.node)
                passes.append(length - min(shared, length - 1))
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
        edges, small, large = self.edges, self.small_passes, self.large_passes
        stops = [edge.stop for edge in edges]
        return Sums(
            tokens=self.length - 1,
            rounds=len(edges),
            small_passes=len(small),
            large_passes=len(large),
            small_positions=sum(small),
            large_positions=sum(large),
            drafted=sum(edge.drafted for edge in edges),
            kept=sum(edge.kept for edge in edges),
            fallbacks=stops.count("unsure"),
            full_drafts=stops.count("limit"),
            rollbacks=sum(edge.rollback for edge in edges),
        )

    def near(self, fb: float, bar: float, rounding: Rounding) -> bool:
        """Whether some decision at these thresholds lies within rounding."""
        fb_low, fb_high, bar_low, bar_high, gap = self.within
        return (
            gap <= rounding.gap
            or bar - bar_low <= rounding.nll
            or bar_high - bar <= rounding.nll
            or _ratio(fb, fb_low) <= rounding.nll
            or _ratio(fb_high, fb) <= rounding.nll
        )

    @cached_property
    def within(self) -> tuple[float, float, float, float, float]:
        """(fb above this, up to this, bar from this, below this, smallest gap): where the walk stays the same."""
        edges = self.edges
        return (
            max((e.fb[0] for e in edges), default=-math.inf),
            min((e.fb[1] for e in edges), default=math.inf),
            max((e.bar[0] for e in edges), default=-math.inf),
            min((e.bar[1] for e in edges), default=math.inf),
            min((e.gap for e in edges), default=math.inf),
        )


class AloneWalk(Walk):
    """One model decoding by itself."""

    def __init__(self, table: Table, author: str, anchor: int, tail: int, eos: int) -> None:
        super().__init__(table, (), anchor, tail)
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

    @cached_property
    def within(self) -> tuple[float, float, float, float, float]:
        """See `Walk`: no threshold plays a part."""
        gaps = self.table.small_gap if self.author == "small" else self.table.large_gap
        node, gap = self.anchor, math.inf
        while node >= 0:
            gap, node = min(gap, gaps[node]), self.table.parent[node]
        return -math.inf, math.inf, -math.inf, math.inf, gap


def _ratio(above: float, below: float) -> float:
    """ln of a probability over a smaller one; infinite where one of them is no probability."""
    return math.log(above / below) if below > 0.0 and 0.0 < above < math.inf else math.inf


def family_walks(walker: Walker) -> tuple[list[Walk | None], int]:
    """(the walk of each point of the family, by position; the points whose walk leads out of the tree).

    Points walk together until their thresholds part them; a state is worked out once for all who may come by.
    """
    family, table = walker.family, walker.table
    found: list[Walk | None] = [None] * len(family.indices)
    missing = 0
    known: dict[State, Step] = {}
    open_: list[tuple[State, int, _Trail]] = [(walker.start(), family.everyone, None)]
    while open_:
        state, points, trail = open_.pop()
        if state[0] < 0:
            missing |= points
            continue
        step = known.get(state)
        if step is None:
            step = known[state] = walker.step(state, family.everyone)
        missing |= points & step.missing
        for edge in step.edges:
            mine = points & edge.points
            if not mine:
                continue
            if edge.state is not None:
                open_.append((edge.state, mine, (trail, edge)))
                continue
            walk = Walk(table, _edges((trail, edge)), edge.anchor, edge.tail)
            for position in family.members(mine):
                found[position] = walk
    return found, missing


def _edges(trail: _Trail) -> list[Edge]:
    edges = []
    while trail is not None:
        trail, edge = trail
        edges.append(edge)
    return edges[::-1]


def alone_walk(table: Table, author: str, eos: int, max_length: int) -> Walk | None:
    """One model's own greedy text, None where it leads out of the tree."""
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
