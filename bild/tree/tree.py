"""A decision tree on disk, as notebooks and sweeps see it: examples, nodes, and the replay of any point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bild.decoding import Setting, setting
from bild.errors import BildError, shown
from bild.options import folder_of
from bild.progress import collector_off
from bild.results.predicted import find_predicted
from bild.tree import store
from bild.tree.answers import MissingNodes
from bild.tree.family import group
from bild.tree.outcome import Distinct, Replay
from bild.tree.replay import Walk, alone_walk, family_walks
from bild.tree.walk import Walker


class Tree(store.ExampleTrees):
    """The decision trees of a task's examples under one pair. `bild.open_tree` reads one."""

    def __repr__(self) -> str:
        return f"Tree({self.path}: {len(self.examples)} examples)"

    @property
    def hash(self) -> str:
        """All 64 digits; the folder carries the first."""
        return self.head.hash

    @property
    def identity(self) -> dict[str, Any]:
        """All that the hash covers, and `start`, `eos`, `vocabulary`, `target_limit`."""
        return {**self.head.identity, **self.head.ids, "target_limit": self.target_limit}

    def take(self, ids: Iterable[str]) -> Tree:
        """Return the same tree with only some of its examples, in this order. BildError for an id it lacks."""
        by_id = {example.id: example for example in self.examples}
        wanted = list(ids) if isinstance(ids, Iterable) and not isinstance(ids, str) else []
        if not wanted:
            raise BildError(f"{shown(ids)} names no examples of the tree: give a list of ids, such as {[*by_id][:1]}.")
        unknown = [name for name in wanted if not isinstance(name, str) or name not in by_id]
        if unknown:
            raise BildError(f"The tree in {self.path} has no example {shown(unknown[0])}: it has {len(by_id)} others.")
        return Tree(self.path, self.head, [by_id[name] for name in wanted])

    def replay(
        self, fb: float | None = None, rb: float | None = None, *, method: str = "bild", **options: Any
    ) -> Replay:
        """Replay one method at one setting on every example, without a model.

        `options` are the switches and thresholds of `conf/method` and `conf/threshold` (`rules="authors"`,
        `max_draft=4`, `keep="share"`, `alpha=0.2`), in any combination that has a meaning. Raises MissingNodes where
        the tree was not grown that far, BildError for a value out of range or an option without effect.
        """
        given = {name: value for name, value in {"fb": fb, "rb": rb}.items() if value is not None}
        return self.replay_grid([setting(method, **given, **options)])[0]

    def replay_grid(self, points: Sequence[Setting]) -> list[Replay]:
        """Replay many points at once, which share the work of all that they have in common."""
        walking = Walking(self, points)
        if missing := walking.over(range(len(self.examples))):
            grown = self._grown()
            raise MissingNodes([self.examples[i].id for i in missing], _grid([t for _, t in points]), grown)
        return walking.replays()

    def missing(self, points: Sequence[Setting]) -> list[str]:
        """Return the ids of the examples whose trees do not reach as far as these points go."""
        return [self.examples[i].id for i in Walking(self, points).over(range(len(self.examples)))]

    def _grown(self) -> str:
        """Say which thresholds sweeps have grown this tree for, as far as their predictions lie beside it."""
        place = self.path.parent
        found = find_predicted(place.parent)[0] if place.name == "tree" else []
        beside = [each for _, each in found if each.tree == self.hash]
        return _grid([point.threshold for each in beside for point in each.points])


class Walking:
    """Many points on their way through a tree's examples; those that lacked nodes may be walked again, grown."""

    def __init__(self, tree: Tree, points: Sequence[Setting]) -> None:
        self.tree = tree
        self.points = points
        self.grouped = group(points)
        if tree.head.format == 1 and any(family.rules.ranks for family in self.grouped.families):
            raise BildError(
                f"The tree in {tree.path} does not have the ranks of tokens, which keep=top needs: delete its folder "
                "and grow it anew (python -m bild.sweep)."
            )
        self.walks: list[Walk] = []
        """The distinct ones."""
        self.taken = np.full((len(points), len(tree.examples)), -1, np.int64)
        """[points, examples], which of the walks a point takes."""

    @collector_off()
    def over(self, examples: Iterable[int]) -> list[int]:
        """Walk over some examples by index; return those that lack nodes."""
        return [index for index in examples if not self._over(index)]

    def _over(self, index: int) -> bool:
        table, eos, limit = self.tree.examples[index].table, self.tree.eos, self.tree.target_limit
        found: list[tuple[Walk, list[int]]] = []
        for author, indices in self.grouped.alone.items():
            if (alone := alone_walk(table, author, eos, limit)) is None:
                return False
            found.append((alone, indices))
        for family in self.grouped.families:
            walks, left_out = family_walks(Walker(table, family, eos=eos, max_length=limit))
            if left_out:
                return False
            found += [(walk, [family.indices[i] for i in family.members(members)]) for walk, members in walks]
        for walk, members in found:
            self.taken[members, index] = len(self.walks)
            self.walks.append(walk)
        return True

    def replays(self) -> list[Replay]:
        """Return the points as replays, once no example lacks nodes."""
        distinct = Distinct(self.walks)
        return [Replay(self.tree, *point, distinct, row) for point, row in zip(self.points, self.taken, strict=True)]


def _grid(thresholds: Sequence[Any]) -> str:
    """Write the thresholds of points as a sweep's options: `sweep.fb=[0.1,0.2] sweep.rb=[2,inf]`."""
    told = []
    for name in ("fb", "rb", "alpha", "top"):
        values = sorted({value for each in thresholds if (value := getattr(each, name)) is not None})
        told += [f"sweep.{name}=[{','.join(f'{value:g}' for value in values)}]"] if values else []
    return " ".join(told)


def open_tree(path: str | Path) -> Tree:
    """Read a tree: its own folder, or the folder `.../tree` above it where there is only one.

    BildError where there is none, or several, or where a file of it is damaged.
    """
    folder = folder_of(path)
    if not (folder / store.TREE).is_file():
        inside = sorted(found.parent for found in folder.glob(f"*/{store.TREE}"))
        if not inside:
            raise BildError(f"There is no decision tree in {folder}: python -m bild.sweep makes one.")
        if len(inside) > 1:
            names = ", ".join(found.name for found in inside)
            raise BildError(f"There are {len(inside)} decision trees in {folder}: open one of {names}.")
        folder = inside[0]
    return Tree(folder, *store.read_all(folder))
