"""The things that a sweep works on: its examples in the order in which they are measured, machine, pair and tree.

The tree is grown as far as the sweep's points go, by this process or with workers, and replayed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from bild.decoding import Setting
from bild.errors import BildError
from bild.measure.environment import describe
from bild.measure.processes import Conditions, Sessions
from bild.measure.session import load_once, shared_identity
from bild.models import Pair, PairSpec, resolve_device
from bild.models.pair_spec import checkpoints_of
from bild.progress import telling, track
from bild.results import Record, find_records
from bild.results.folder import pair_folder, pair_lock
from bild.results.parts import Decode, EngineRecord, Method, Threshold
from bild.results.predicted import Predicted, find_predicted
from bild.results.sample import SAMPLES
from bild.sweep.config import SweepConfig, widest_draft
from bild.sweep.grid import SweptPoint
from bild.sweep.predict import Predictor
from bild.tasks import Dataset, Example, load_task
from bild.tasks.dataset import fingerprint, place
from bild.tree import Replay, Tree, open_tree
from bild.tree.blocks import NODES, BlockFile
from bild.tree.identity import open_folder
from bild.tree.store import read_head
from bild.tree.tree import Walking

_FEW = 64
"""Examples that tell how far a tree was grown."""


class SweepWork:
    """The examples, the machine and the models of one sweep.

    `ids` picks some of the examples that the options ask for. BildError where the pair does not fit, or something is
    missing.
    """

    def __init__(self, config: SweepConfig, ids: Callable[[Dataset], Collection[str]] | None = None) -> None:
        self.config, self.checkpoints = config, checkpoints_of(config)
        self.spec = PairSpec.of_run(config)
        self.full = load_task(dataclasses.replace(config.task, samples=None))
        """The whole split: measured points are keyed by it, so that their sub-sample may grow."""
        data = self.full if config.task.samples is None else load_task(config.task)
        self.data = data if ids is None else _part(data, ids(data))
        """The examples of the tree: the split, or the `task.samples` of it."""
        self.device = resolve_device(config.engine.device)
        torch.set_num_threads(config.engine.threads)
        self.environment = describe(self.device)
        self.identity = shared_identity(config, self.spec, self.full, self.environment, str(self.device))
        """All that can change a token, a score or a time, but for the method."""

    @cached_property
    def pair(self) -> Pair:
        """The models, loaded at their first use."""
        return load_once(self.spec, self.identity["pair"])

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions that measured points are timed in."""
        config = self.config
        setting = Conditions(config.task, self.spec, config.engine, config.measure, config.decode)
        return Sessions(setting, lambda: self.pair)

    @cached_property
    def queue(self) -> list[Example]:
        """The examples in the order in which they are measured: the first n are those of `task.samples=n`."""
        return sorted(self.data.examples, key=lambda example: place(example.id, self.config.task.seed))

    @property
    def folder(self) -> Path:
        """The folder of points, sweeps and trees of this task and pair."""
        return results_folder(self.config)

    def locked(self) -> AbstractContextManager[None]:
        """Hold the results' folder against other sweeps; where one is at it, wait."""
        return pair_lock(self.folder)

    def source(self, example: Example) -> list[int]:
        """Return the token ids of an example as the models get them."""
        task = self.config.task
        return self.pair.encode(task.prompt + example.source, task.source_limit)[0]

    def sample(self, count: int) -> Dataset:
        """Return the first `count` examples of the queue as a data set of their own, in the data's order."""
        return _part(self.data, {example.id for example in self.queue[:count]})

    def price_identity(self) -> dict[str, Any]:
        """Return what prices hold for: everything but the examples, and passes as wide as the sweep's drafts."""
        names = ("pair", "engine", "machine", "packages", "python")
        own = {"task": self.identity["task"]["name"], "widest": widest_draft(self.config.sweep)}
        return {name: self.identity[name] for name in names} | own | self.config.decode.identity


def results_folder(config: SweepConfig) -> Path:
    """Return the folder of points, sweeps and trees of a task and pair."""
    return pair_folder(config.results, config.task.name, config.model.pair_name)


def _part(data: Dataset, ids: Collection[str]) -> Dataset:
    """Return some of the examples as a data set of their own, in the data's order."""
    examples = tuple(example for example in data.examples if example.id in ids)
    own = {
        "blank": sum(not example.source.strip() or not example.reference.strip() for example in examples),
        "samples": len(examples),
        "hash": fingerprint(examples),
    }
    return Dataset(examples, data.provenance | own)


_AT_ONCE = 1 << 20
"""Texts that are replayed together: enough to share their work, few enough for their walks to fit into memory."""


class GrownTree:
    """One tree in memory and on disk; it grows when points ask for what it lacks."""

    def __init__(self, work: SweepWork) -> None:
        self.work = work
        self.seconds: float | None = None
        """That growing took where every example lacked nodes; None where some were whole already."""

    @cached_property
    def tree(self) -> Tree:
        """The tree, read or made at its first use; from then on no other process may grow it (`SweepWork.locked`)."""
        work, config = self.work, self.work.config
        named = (work.pair, config.task, work.data, config.engine.name, config.decode)
        return open_tree(open_folder(work.folder / "tree", *named))

    @cached_property
    def predictor(self) -> Predictor:
        """The predictor of points over the tree's examples, scored against their references."""
        return Predictor(self.tree.scorer, len(self.tree.examples), self.work.config.measure.confidence)

    def replays(self, points: Sequence[SweptPoint]) -> list[Replay]:
        """Replay points on every example, after growing what is missing. BildError where a method has no replay."""
        return [replay for together in self.in_turn(points) for replay in together]

    def in_turn(self, points: Sequence[SweptPoint]) -> Iterator[list[Replay]]:
        """Yield the replays of points, as many together as should be, for whoever does not keep them all."""
        examples = self.tree.examples
        step = max(1, _AT_ONCE // len(examples))
        for at in range(0, len(points), step):
            settings = [point.setting for point in points[at : at + step]]
            walking = Walking(self.tree, settings)
            lacking = walking.over(track(range(len(examples)), len(examples), "replaying"))
            if lacking:
                self._grow(settings, {examples[i].id for i in lacking})
                if walking.over(lacking):
                    raise BildError(f"The tree in {self.tree.path} did not grow as far as it was asked: run again.")
            yield walking.replays()

    def _grow(self, settings: Sequence[Setting], lacking: Collection[str]) -> None:
        from bild.tree.grow import extend

        began, tree, work = perf_counter(), self.tree, self.work
        everything = len(lacking) == len(tree.examples)
        with telling(f"{work.config.task.name}, decision trees") as tell, BlockFile(tree.path / NODES) as block:
            if work.config.sweep.workers is not None:
                from bild.sweep.distributed import grow_with_workers

                grow_with_workers(work, tree, settings, lacking, block, tell)
            else:
                extend(tree, work.pair, settings, lacking, block, progress=tell)
        if everything and self.seconds is None:
            self.seconds = perf_counter() - began


@dataclass(frozen=True)
class Stored:
    """The contents of the results folder; the sweeps are those of this machine."""

    folder: Path
    trees: list[Path]
    """The folders of trees."""
    measured: int
    begun: int
    sweeps: list[Predicted]
    own: list[Record]
    """The points of this machine."""

    @property
    def between(self) -> list[float]:
        """Return the standard deviations between sessions, of points of this machine."""
        return [each.latency.between for each in self.own if each.latency.between is not None]

    def has_sweep(self, config: SweepConfig, points: Sequence[SweptPoint], examples: int) -> bool:
        """Tell whether a sweep of all these points, with as many measured, was finished, as far as plans know it."""
        wanted, front = {point.recorded() for point in points}, config.sweep.front
        return config.goal is None and any(
            sweep.finished and sweep.asked == front and wanted <= {(p.method, p.threshold) for p in sweep.points}
            for sweep in self.sweeps
            if _alike(config, examples, sweep, sweep.examples)
        )

    def measured_as(self, config: SweepConfig, examples: int) -> set[tuple[Method, Threshold]]:
        """Return the settings of the points that were measured so."""
        own = (each for each in self.own if _alike(config, examples, each, each.quality.examples))
        return {(each.method, each.threshold) for each in own}

    def ungrown(self, config: SweepConfig, points: Sequence[SweptPoint], examples: int) -> float:
        """Return the share of the examples that no tree reaches as far as the points go, judged by a few."""
        wanted = {"task": config.task.identity, "dtype": config.engine.dtype}
        wanted |= {"device": resolve_device(config.engine.device).type, "decode": None} | config.decode.identity
        left = [1.0]
        for path in self.trees:
            with suppress(BildError):
                identity = read_head(path).identity
                if all(identity.get(name) == value for name, value in wanted.items()):
                    few, count = _few(path)
                    missing = few.missing([point.setting for point in points])
                    left += [len(missing) / len(few.examples)] if count == examples else []
        return min(left)


def _alike(config: SweepConfig, wanted: int, found: Record | Predicted, examples: int) -> bool:
    engine, device = config.engine, str(resolve_device(config.engine.device))
    same = found.engine == EngineRecord(engine.name, engine.dtype, device, engine.threads)
    return same and found.decode == Decode.of(config.decode) and examples == wanted


def look_into(folder: Path, machine: str) -> Stored:
    """Return the contents of a results folder, which need not exist; the sweeps are those of this machine."""
    trees = [path.parent for path in sorted(folder.glob("tree/*/tree.json"))]
    samples = len(list(folder.glob(f"*/{SAMPLES}")))
    records = [point.record for point in find_records(folder)[0]] if folder.is_dir() else []
    sweeps = [found for _, found in find_predicted(folder)[0] if found.machine["fingerprint"] == machine]
    own = [record for record in records if record.environment["machine"]["fingerprint"] == machine]
    return Stored(folder, trees, len(records), max(0, samples - len(records)), sweeps, own)


@cache
def _few(path: Path) -> tuple[Tree, int]:
    """Return a tree's examples, at most 64, from the first to the last, and how many there are."""
    tree = open_tree(path)
    ids = [example.id for example in tree.examples]
    return tree.take(ids[:: max(1, math.ceil(len(ids) / _FEW))]), len(ids)
