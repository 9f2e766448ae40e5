"""The state of all points' walks in one growing tree: how far they have come, and which nodes they wait for."""

from __future__ import annotations

from bild.tree.family import Grouped
from bild.tree.nodes import NodeTable
from bild.tree.walk import DraftWalk, Judged, State, Step, Walker


class Frontier:
    """All points of one family in one tree. Points that meet in a state go on together."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.waiting: dict[str, list[DraftWalk | Judged]] = {"small": [], "large": []}
        """What waits for answers of each model."""
        start = walker.start()
        self.seen: dict[State, int] = {}
        """The points that came by each state."""
        self._fresh: list[tuple[State, int]] = [(start, walker.family.everyone)]

    def advance(self, author: str, small: list[int], large: list[int]) -> None:
        """Go on with what waited for a model; add the nodes to ask the small model about, and the large one."""
        waiting, self.waiting[author] = self.waiting[author], []
        for waits in waiting:
            self._take(self.walker.go_on(waits), small, large)
        while self._fresh:
            self._take(self.walker.step(*self._fresh.pop()), small, large)

    def _take(self, step: Step, small: list[int], large: list[int]) -> None:
        small += step.small
        large += step.large
        self.waiting["small"] += step.on_small
        self.waiting["large"] += step.on_large
        for edge in step.edges:
            if edge.state is not None:
                known = self.seen.get(edge.state, 0)
                new = edge.points & ~known
                if new:
                    self.seen[edge.state] = known | new
                    self._fresh.append((edge.state, new))


class Growing:
    """One example's tree while it grows."""

    def __init__(self, table: NodeTable, grouped: Grouped, *, eos: int, max_length: int) -> None:
        self.table = table
        self.eos = eos
        self.max_length = max_length
        self.frontiers = [
            Frontier(Walker(table, family, eos=eos, max_length=max_length, grow=True)) for family in grouped.families
        ]
        self.alone = list(grouped.alone)
        self.heads = dict.fromkeys(grouped.alone, 0)
        """The node that each model's own text has come to."""

    def wants(self, author: str) -> tuple[list[int], list[int]]:
        """Go on wherever a model was waited for: (nodes to ask the small model about, the large one)."""
        small: list[int] = []
        large: list[int] = []
        for frontier in self.frontiers:
            frontier.advance(author, small, large)
        for alone in self.alone:
            choices = self.table.small_choice if alone == "small" else self.table.large_choice
            node = self.heads[alone]
            while choices[node] >= 0:
                token = choices[node]
                if token == self.eos or self.table.depth[node] + 2 == self.max_length:
                    break
                child = self.table.child(node, token)
                node = self.table.add(node, token) if child < 0 else child
            else:
                (small if alone == "small" else large).append(node)
            self.heads[alone] = node
        return small, large
