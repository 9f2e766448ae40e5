"""The tree of a sweep: grown as far as its points go, by this process or with workers, and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from bild.bench.progress import telling, track
from bild.metrics.scorer import Scorer
from bild.sweep.work import Work
from bild.tree import MissingNodes, Replay, Tree
from bild.tree.points import Setting

_AT_ONCE = 256
"""Points of one replay: enough to share their work, few enough to see it move on."""


class Grown:
    """One tree; it grows when points ask for what it lacks."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._tree: Tree | None = None

    @property
    def tree(self) -> Tree:
        """The tree as it is; `replays` makes it."""
        assert self._tree is not None, "replay points first"
        return self._tree

    @cached_property
    def scorer(self) -> Scorer:
        """Scores texts against the references of the tree's examples."""
        references = [example.reference for example in self.tree.examples]
        return Scorer(self.work.config.task.metric, references)

    def replays(self, settings: Sequence[Setting]) -> list[Replay]:
        """The points on every example, after growing what is missing. BildError where a method cannot be replayed."""
        if self._tree is None:
            self._tree = self._grow(settings)
        try:
            return self._replay(settings)
        except MissingNodes:
            self._tree = self._grow(settings)
            return self._replay(settings)

    def _replay(self, settings: Sequence[Setting]) -> list[Replay]:
        found: list[Replay] = []
        chunks = [settings[i : i + _AT_ONCE] for i in range(0, len(settings), _AT_ONCE)]
        for chunk in track(chunks, len(chunks), "replaying"):
            found += self.tree.replay_grid(chunk)
        return found

    def _grow(self, settings: Sequence[Setting]) -> Tree:
        from bild.tree.grow import grow

        work = self.work
        engine = work.config.engine.name
        with telling(f"{work.config.task.name}, decision trees") as said:
            if work.config.sweep.workers is not None:
                from bild.sweep.workers import grow_with_workers

                return grow_with_workers(work, settings, said)
            return grow(
                work.folder / "tree", work.pair, work.config.task, work.data, settings, engine=engine, progress=said
            )
