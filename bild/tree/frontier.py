"""The state of all points' walks in one growing tree: how far they have come, and which nodes they wait for."""

from __future__ import annotations

from collections.abc import Sequence

from bild.tree.family import Grouped
from bild.tree.nodes import NodeTable
from bild.tree.walk import DraftWalk, Judged, State, Step, Walker


class Frontier:
    """All points of one family in one tree. Points that meet in a state go on together."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.on_small: list[DraftWalk] = []
        """Drafts that wait for the small model."""
        self.on_large: list[DraftWalk | Judged] = []
        start = walker.start()
        self.seen: dict[State, int] = {}
        """The points that came by each state."""
        self._fresh: list[tuple[State, int]] = [(start, walker.family.everyone)]

    def advance(self, waiting: Sequence[DraftWalk | Judged]) -> tuple[list[int], list[int]]:
        """Go on with what waited for nodes that were answered: (nodes to ask the small model about, the large one)."""
        small: list[int] = []
        large: list[int] = []
        walker, open_ = self.walker, self._fresh
        for waits in waiting:
            self._take(walker.go_on(waits), small, large)
        while open_:
            self._take(walker.step(*open_.pop()), small, large)
        return small, large

    def _take(self, step: Step, small: list[int], large: list[int]) -> None:
        small += step.small
        large += step.large
        self.on_small += step.on_small
        self.on_large += step.on_large
        for edge in step.edges:
            if edge.state is not None:
                known = self.seen.get(edge.state, 0)
                new = edge.points & ~known
                if new:
                    self.seen[edge.state] = known | new
                    self._fresh.append((edge.state, new))

    @property
    def fresh(self) -> bool:
        """Tell whether it has not begun yet."""
        return bool(self._fresh)


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

    def wants_small(self) -> tuple[list[int], list[int]]:
        """Go on wherever the small model was waited for: (nodes to ask it about, the large one)."""
        small: list[int] = []
        large: list[int] = []
        for frontier in self.frontiers:
            if frontier.on_small or frontier.fresh:
                waiting, frontier.on_small = frontier.on_small, []
                _extend(small, large, frontier.advance(waiting))
        return self._with_alone(small, large) if self.alone else (small, large)

    def wants_large(self) -> tuple[list[int], list[int]]:
        """Go on wherever the large model was waited for."""
        small: list[int] = []
        large: list[int] = []
        for frontier in self.frontiers:
            if frontier.on_large:
                waiting, frontier.on_large = frontier.on_large, []
                _extend(small, large, frontier.advance(waiting))
        return self._with_alone(small, large) if self.alone else (small, large)

    def _with_alone(self, small: list[int], large: list[int]) -> tuple[list[int], list[int]]:
        for author in self.alone:
            choices = self.table.small_choice if author == "small" else self.table.large_choice
            node = self.heads[author]
            while choices[node] >= 0:
                token = choices[node]
                if token == self.eos or self.table.depth[node] + 2 == self.max_length:
                    break
                child = self.table.child(node, token)
                node = self.table.add(node, token) if child < 0 else child
            else:
                (small if author == "small" else large).append(node)
            self.heads[author] = node
        return small, large


def _extend(small: list[int], large: list[int], more: tuple[list[int], list[int]]) -> None:
    small += more[0]
    large += more[1]
