"""One round of the loop for many points at once: where each of them goes from a node, and why.

Points that differ in their two thresholds only walk together (`bild.tree.family`).

This is `bild.decoding.loop.big_little` over a tree: a draft is a chain of small choices, cut by the first confidence
below a point's threshold; a verdict is the first rejection score above its threshold. `bild.tree.answers` runs the
policies themselves over the same nodes, slowly, and is the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from bild.tree.family import Family
from bild.tree.nodes import NodeTable

State = tuple[int, bool, int]
"""(node, whether the small model writes next, the draft's limit)."""


class Edge(NamedTuple):
    """A round as it went for some points. Their new text is the prefix `anchor` and the token `tail`."""

    points: int
    node: int
    """The node that the round began at."""
    made: int
    """Small steps."""
    drafted: int
    """Tokens that were drafted, less the one that was dropped."""
    kept: int
    stop: str
    verified: bool
    wrote: bool
    """True where the large model put a token after what it kept."""
    fed: int
    """The last node that the small model was fed in this round, or -1."""
    anchor: int
    tail: int
    state: State | None
    """The state that it goes on in; None: the text is finished."""
    fb: tuple[float, float]
    """The round is the same for fallback thresholds above the first value, up to the second."""
    threshold: tuple[float, float]
    """... and for keep thresholds from the first value to below the second."""
    gap: float
    """The smallest gap between two best logits among the choices that mattered."""


class DraftWalk(NamedTuple):
    """A draft under way."""

    chain: list[int]
    """The nodes that its tokens were chosen at; the last one is still to be looked at."""
    window: int
    sure: float
    """The least confidence so far."""
    likely: float
    """The product of the probabilities so far."""
    gap: float
    points: int


class Judged(NamedTuple):
    """A finished draft before its verdict."""

    chain: list[int]
    made: int
    drafted: int
    stop: str
    window: int
    fb: tuple[float, float]
    gap: float
    points: int


@dataclass
class Step:
    """All that happens to some points in one state: edges, and drafts that wait for nodes not asked about yet."""

    edges: list[Edge] = field(default_factory=list)
    small: list[int] = field(default_factory=list)
    """Nodes to ask the small model about."""
    large: list[int] = field(default_factory=list)
    on_small: list[DraftWalk] = field(default_factory=list)
    on_large: list[DraftWalk | Judged] = field(default_factory=list)
    missing: int = 0
    """Points that wait, or that lead out of a tree which does not grow."""

    def wait(self, node: int, draft: DraftWalk, *, large: bool) -> None:
        """Go on with a draft when one of the models has been asked about a node."""
        if large:
            self.large.append(node)
            self.on_large.append(draft)
        else:
            self.small.append(node)
            self.on_small.append(draft)
        self.missing |= draft.points


class Walker:
    """Rounds of one family in one tree. With `grow`, nodes that are asked for are made; else they are missing."""

    def __init__(self, table: NodeTable, family: Family, *, eos: int, max_length: int, grow: bool = False) -> None:
        self.table = table
        self.family = family
        self.rules = family.rules
        self.eos = eos
        self.max_length = max_length
        self.grow = grow

    def start(self) -> State:
        """Return the state of every point before the first token."""
        return 0, self.rules.first == "small", self.rules.max_draft

    def step(self, state: State, points: int) -> Step:
        """Take these points through one round."""
        node, small_writes, window = state
        if small_writes:
            return self.go_on(DraftWalk([node], window, inf, 1.0, inf, points))
        return self.go_on(Judged([node], 0, 0, "none", window, (-inf, inf), inf, points))

    def go_on(self, waiting: DraftWalk | Judged) -> Step:
        """Go on with a draft or a verdict that waited; a draft's chain is continued."""
        step = Step()
        if isinstance(waiting, DraftWalk):
            self._draft(step, *waiting)
        else:
            self._verify(step, waiting)
        return step

    def _draft(
        self, step: Step, chain: list[int], window: int, sure: float, likely: float, gap: float, points: int
    ) -> None:
        table, family, rules = self.table, self.family, self.rules
        limit = min(window, self.max_length - 1 - table.depth[chain[0]])
        oracle, product = rules.stop == "oracle", rules.stop == "likely"
        node = chain[-1]
        while True:
            choice, made = table.small_choice[node], len(chain)
            if choice < 0 or (oracle and table.large_choice[node] < 0):
                step.wait(node, DraftWalk(chain, window, sure, likely, gap, points), large=choice >= 0)
                return
            confidence = table.small_prob[node]
            if product:
                likely = confidence = likely * confidence
            if table.small_gap[node] < gap:
                gap = table.small_gap[node]
            if oracle:
                stops = points & family.rejecting(self._rejection(node)[0])
                if stops:
                    drafted, fb = made - 1, (-inf, inf)
                    self._verify(step, Judged(chain[:made], drafted, drafted, "oracle", window, fb, gap, stops))
            else:
                stops = points & family.unsure(confidence)
                if stops:
                    drafted, fb = made - 1 if rules.unsure == "drop" else made, (confidence, sure)
                    self._verify(step, Judged(chain[:made], made, drafted, "unsure", window, fb, gap, stops))
            points ^= stops
            if not points:
                return
            if confidence < sure:
                sure = confidence
            if choice == self.eos or made == limit:
                stop = "eos" if choice == self.eos else "limit"
                self._verify(step, Judged(chain, made, made, stop, window, (-inf, sure), gap, points))
                return
            node = self._child(node, choice)
            if node < 0:
                step.missing |= points
                return
            chain.append(node)

    def _verify(self, step: Step, judged: Judged) -> None:
        """Add the edges of the large model's verdict on the first `drafted` small choices along a chain of nodes."""
        chain, made, drafted, stop, window, fb, gap, points = judged
        table, rules = self.table, self.rules
        tail = table.small_choice[chain[drafted - 1]] if drafted else -1
        full = table.depth[chain[0]] + 1 + drafted == self.max_length
        complete = drafted > 0 and (tail == self.eos or full)
        common = (chain[0], made, drafted)
        fed = chain[made - 1] if made else -1
        if complete and not rules.verify_eos and stop != "unsure":  # the tail stands unverified
            alike = (-inf, inf)
            step.edges.append(
                Edge(points, *common, drafted, stop, False, False, fed, chain[drafted - 1], tail, None, fb, alike, gap)
            )
            return
        asked = list(chain[:drafted])
        if not complete:
            asked.append(chain[drafted] if drafted < len(chain) else self._child(chain[-1], tail))
        unknown = [node for node in asked if node < 0 or table.large_choice[node] < 0]
        if unknown:
            step.large += unknown
            step.on_large.append(judged)
            step.missing |= points
            return

        def edge(points: int, kept: int, alike: tuple[float, float], gap: float) -> None:
            ends = complete and kept == drafted
            at, token = (chain[kept - 1], tail) if ends else (asked[kept], table.large_choice[asked[kept]])
            state = None if ends else self._next(at, token, kept < drafted, drafted, window)
            step.edges.append(Edge(points, *common, kept, stop, True, not ends, fed, at, token, state, fb, alike, gap))

        low = -inf
        for i, node in enumerate(asked[:drafted]):
            score, same = self._rejection(node)
            gap = min(gap, table.large_gap[node], table.large_rank_gap[node] if rules.ranks else inf)
            if score <= low:
                continue
            hit = points & self.family.rejecting(score)
            if hit:
                # As the authors' code: a token above the threshold that is the large model's own hides all that follow.
                edge(hit, drafted if same else i, (low, score), gap)
                points ^= hit
                if not points:
                    return
            low = score
        edge(points, drafted, (low, inf), gap if complete else min(gap, table.large_gap[asked[-1]]))

    def _rejection(self, node: int) -> tuple[float, bool]:
        """Return the rejection score of the small choice at a node; whether the large model would write the same."""
        table = self.table
        same = table.large_choice[node] == table.small_choice[node]
        told = (table.small_prob[node], table.large_choice_nll[node], table.large_nll[node], table.large_rank[node])
        return self.rules.rejection(same, *told), same

    def _next(self, anchor: int, tail: int, rollback: bool, drafted: int, window: int) -> State | None:
        rules = self.rules
        full = self.table.depth[anchor] + 2 >= self.max_length
        if full or (tail == self.eos and (rules.rollback_eos_ends or not rollback)):
            return None
        window = rules.next_window(window, drafted, rollback)
        return self._child(anchor, tail), not rollback or rules.after_rollback == "small", window

    def _child(self, node: int, token: int) -> int:
        found = self.table.child(node, token)
        return self.table.add(node, token) if found < 0 and self.grow else found
