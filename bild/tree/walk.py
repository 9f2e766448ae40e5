"""One round of the loop for many points at once: where each of them goes from a node, and why.

This is `bild.decoding.loop.big_little` over a tree: a draft is a chain of small choices, cut by the first confidence
below a point's threshold; a verdict is the first objection above its bar. `bild.tree.answers` runs the policies
themselves over the same nodes and is the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from bild.tree.nodes import Table
from bild.tree.points import Family

State = tuple[int, bool, int]
"""(node, whether the small model writes next, the draft's limit)."""


class Edge(NamedTuple):
    """A round as it went for some points. Their new text is the prefix `anchor` and the token `tail`."""

    points: int
    node: int
    """Where the round began."""
    made: int
    """Small steps."""
    drafted: int
    """Tokens that were drafted, less the one that was dropped."""
    kept: int
    stop: str
    verified: bool
    wrote: bool
    """Whether the large model put a token after what it kept."""
    fed: int
    """The last node that the small model was fed in this round, or -1."""
    anchor: int
    tail: int
    state: State | None
    """Where it goes on; None: the text is finished."""
    fb: tuple[float, float]
    """The round is the same for fallback thresholds above the first value, up to the second."""
    bar: tuple[float, float]
    """... and for bars from the first value to below the second."""
    gap: float
    """The smallest gap between two best logits among the choices that mattered."""

    @property
    def rollback(self) -> bool:
        """Whether a drafted token was taken back."""
        return self.kept < self.drafted


@dataclass
class Step:
    """All that happens in one state: edges, and the points that wait for nodes which nobody asked about."""

    edges: list[Edge] = field(default_factory=list)
    small: list[int] = field(default_factory=list)
    """Nodes to ask the small model about, for the points `waits_small`."""
    large: list[int] = field(default_factory=list)
    waits_small: int = 0
    waits_large: int = 0


class Walker:
    """Rounds of one family in one tree. With `grow`, nodes that are asked for are made; else they are missing."""

    def __init__(self, table: Table, family: Family, *, eos: int, max_length: int, grow: bool = False) -> None:
        self.table = table
        self.family = family
        self.rules = family.rules
        self.eos = eos
        self.max_length = max_length
        self.grow = grow

    def start(self) -> State:
        """The state of every point before the first token."""
        return 0, self.rules.first == "small", self.rules.max_draft

    def step(self, state: State, points: int) -> Step:
        """One round of these points."""
        step = Step()
        node, small_writes, window = state
        if small_writes:
            self._draft(step, node, window, points)
        else:
            self._verify(step, [node], 0, 0, "none", window, points, (-inf, inf), inf)
        return step

    def _draft(self, step: Step, node: int, window: int, points: int) -> None:
        table, family, rules = self.table, self.family, self.rules
        limit = min(window, self.max_length - 1 - table.depth[node])
        chain, sure, likely, gap = [node], inf, 1.0, inf
        while True:
            choice, made = table.small_choice[node], len(chain)
            if choice < 0:
                step.small.append(node)
                step.waits_small |= points
                return
            confidence = table.small_prob[node]
            if rules.stop == "likely":
                likely = confidence = likely * confidence
            gap = min(gap, table.small_gap[node])
            if rules.stop == "oracle":
                if table.large_choice[node] < 0:
                    step.large.append(node)
                    step.waits_large |= points
                    return
                stops = points & family.objecting(self._objection(node)[0])
                if stops:
                    self._verify(step, chain, made - 1, made - 1, "oracle", window, stops, (-inf, inf), gap)
            else:
                stops = points & family.unsure(confidence)
                if stops:
                    drafted = made - 1 if rules.unsure == "drop" else made
                    self._verify(step, chain, made, drafted, "unsure", window, stops, (confidence, sure), gap)
            points &= ~stops
            if not points:
                return
            sure = min(sure, confidence)
            if choice == self.eos or made == limit:
                stop = "eos" if choice == self.eos else "limit"
                self._verify(step, chain, made, made, stop, window, points, (-inf, sure), gap)
                return
            node = self._child(node, choice)
            if node < 0:
                step.waits_small |= points
                return
            chain.append(node)

    def _verify(
        self,
        step: Step,
        chain: Sequence[int],
        made: int,
        drafted: int,
        stop: str,
        window: int,
        points: int,
        fb: tuple[float, float],
        gap: float,
    ) -> None:
        """The large model's verdict on the first `drafted` small choices along a chain of nodes."""
        table, rules = self.table, self.rules
        tail = table.small_choice[chain[drafted - 1]] if drafted else -1
        full = table.depth[chain[0]] + 1 + drafted == self.max_length
        complete = drafted > 0 and (tail == self.eos or full)
        common = (chain[0], made, drafted)
        fed = chain[made - 1] if made else -1
        if complete and not rules.verify_eos and stop != "unsure":  # the tail stands unverified
            bars = (-inf, inf)
            step.edges.append(
                Edge(points, *common, drafted, stop, False, False, fed, chain[drafted - 1], tail, None, fb, bars, gap)
            )
            return
        asked = list(chain[:drafted])
        if not complete:
            asked.append(chain[drafted] if drafted < len(chain) else self._child(chain[-1], tail))
        unknown = [node for node in asked if node < 0 or table.large_choice[node] < 0]
        if unknown:
            step.large += unknown
            step.waits_large |= points
            return

        def edge(points: int, kept: int, bars: tuple[float, float], gap: float) -> None:
            ends = complete and kept == drafted
            at, token = (chain[kept - 1], tail) if ends else (asked[kept], table.large_choice[asked[kept]])
            state = None if ends else self._next(at, token, kept < drafted, drafted, window)
            step.edges.append(Edge(points, *common, kept, stop, True, not ends, fed, at, token, state, fb, bars, gap))

        low = -inf
        for i, node in enumerate(asked[:drafted]):
            objection, same = self._objection(node)
            gap = min(gap, table.large_gap[node])
            if objection <= low:
                continue
            hit = points & self.family.objecting(objection)
            if hit:
                # As the authors' code: a token above the bar that is the large model's own hides all that follow.
                edge(hit, drafted if same else i, (low, objection), gap)
                points ^= hit
                if not points:
                    return
            low = objection
        edge(points, drafted, (low, inf), gap if complete else min(gap, table.large_gap[asked[-1]]))

    def _objection(self, node: int) -> tuple[float, bool]:
        """How much the large model objects to the small choice at a node; whether it would have written the same."""
        table = self.table
        same = table.large_choice[node] == table.small_choice[node]
        told = (table.small_prob[node], table.large_choice_nll[node], table.large_nll[node])
        return self.rules.objection(same, *told), same

    def _next(self, anchor: int, tail: int, rollback: bool, drafted: int, window: int) -> State | None:
        rules = self.rules
        full = self.table.depth[anchor] + 2 >= self.max_length
        if full or (tail == self.eos and (rules.rollback_eos_ends or not rollback)):
            return None
        if rules.adapts and drafted:
            window = max(1, window - 1) if rollback else window + 2
        return self._child(anchor, tail), not rollback or rules.after_rollback == "small", window

    def _child(self, node: int, token: int) -> int:
        found = self.table.child(node, token)
        return self.table.add(node, token) if found < 0 and self.grow else found
