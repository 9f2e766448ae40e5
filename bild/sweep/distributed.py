"""A tree grown by workers: examples go out in shards, what comes back is stored here, a lost shard goes to another.

A worker on some machine loads the pair itself and grows the trees of the examples that it is sent. It keeps nothing on
its disk: what it grew goes back as columns. The tree's folder is this machine's, under the same lock and in the same
blocks as without workers: a kill of this process loses the shards that are out, a kill of a worker the one that it has.
"""

from __future__ import annotations

import dataclasses
import math
import socket
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

import bild
from bild.config import Checkpoints, RunConfig
from bild.decoding import Setting
from bild.errors import BildError, told
from bild.measure.session import load_once
from bild.models import Pair, PairSpec
from bild.models.shapes import default_budget, module_bytes
from bild.progress import say
from bild.sweep.context import SweepWork
from bild.sweep.ray_cluster import Cluster, Resources, Workers, connected
from bild.tasks import Dataset
from bild.tree import Tree
from bild.tree.blocks import BlockFile
from bild.tree.family import group
from bild.tree.grow import Grower
from bild.tree.identity import identity_of
from bild.tree.nodes import NodeTable, TreeExample
from bild.tree.store import Head


@dataclass(frozen=True)
class WorkerJob:
    """The job that all workers of a tree share."""

    config: RunConfig
    checkpoints: Checkpoints
    data_hash: str
    head: Head
    """The tree's `tree.json`."""
    points: Sequence[Setting]


class Ready(NamedTuple):
    """A worker that has loaded the pair: its machine, and all that can change a node."""

    machine: str
    identity: dict[str, Any]


class Worker:
    """One process with both models."""

    def __init__(self) -> None:
        self.machine = socket.gethostname()
        self.grower: Grower | None = None

    def open(self, job: WorkerJob) -> Ready:
        """Load the pair. BildError, with the machine's name, where a checkpoint or a device is missing there."""
        kind = job.head.identity["device"]
        engine = dataclasses.replace(job.config.engine, device=kind)
        torch.set_num_threads(engine.threads)
        try:
            pair = load_once(PairSpec.of(job.config.model, job.checkpoints, engine), {})
            found = identity_with(pair, job)
            self.grower = Grower(pair, [], group(job.points), job.head, None)
        except BildError as error:
            raise BildError(f"The worker on {self.machine} cannot grow trees: {error}") from None
        return Ready(self.machine, found)

    def grow(self, shard: Sequence[TreeExample]) -> list[NodeTable]:
        """Grow some examples. BildError, with the machine's name, where one does not fit into its memory."""
        assert self.grower is not None
        self.grower.examples = shard
        try:
            for chunk in self.grower.chunks(range(len(shard))):
                self.grower.grow(chunk, lambda _: None)  # the driver has the file
        except BildError as error:
            raise BildError(f"On {self.machine}: {error}") from None
        return [example.table for example in shard]


def identity_with(pair: Pair, job: WorkerJob) -> dict[str, Any]:
    """Return the tree's identity for the pair of this process, with the device's name and the package's version."""
    data = Dataset((), {"hash": job.data_hash})
    if pair.device.type == "cuda":
        processor = torch.cuda.get_device_name(pair.device)
    else:  # the vector instructions that torch's kernels use: others round otherwise
        processor = torch.backends.cpu.get_cpu_capability()
    more = {"bild": bild.__version__, "processor": processor}
    return identity_of(pair, job.config.task, data, job.config.decode) | more


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return (name, its value in one, its value in the other) for all that differs; nested names have dots."""
    found: list[tuple[str, Any, Any]] = []
    for name in sorted(one.keys() | other.keys()):
        a, b = one.get(name), other.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append((f"{prefix}{name}", a, b))
    return found


SHARD = 64
"""The most examples of a shard: what is lost with a worker."""
_SHARES = 4
"""Shards for every worker, so that all end at about the same time."""
TRIES = 3
"""Workers that a shard may take with it, or that may end before they have begun."""
_PATIENCE = 600.0
"""Seconds in which a worker must have started where none is at work."""

Shard = tuple[int, ...]
"""Examples by index."""


def grow_with_workers(
    work: SweepWork,
    tree: Tree,
    points: Sequence[Setting],
    lacking: Collection[str],
    block: BlockFile,
    progress: Callable[[int, int], None],
) -> None:
    """Grow these examples of a sweep's tree as `bild.tree.grow.extend` does, on the workers of `sweep.workers`.

    Each example gets the same nodes, but for numbers that differ by rounding, as batches are put together otherwise.
    Raises BildError as `grow` does, and where there is no Ray or no worker, a worker's machine differs in anything that
    can change a node, or workers end again and again; what was stored before is kept.
    """
    config, examples = work.config, tree.examples
    assert config.sweep.workers is not None
    todo = [i for i, example in enumerate(examples) if example.id in lacking]
    job = WorkerJob(config, work.checkpoints, work.data.provenance["hash"], tree.head, list(points))
    done = len(examples) - len(todo)

    def send(shard: Shard) -> list[TreeExample]:
        return [examples[i] for i in shard]

    def keep(shard: Shard, grown: Sequence[NodeTable]) -> None:
        nonlocal done
        for i, table in zip(shard, grown, strict=True):
            examples[i].table.become(table)
        block.append({i: examples[i].table for i in shard})
        done += len(shard)
        progress(done, len(examples))

    with connected(Workers.parse(config.sweep.workers), resources_of(work.pair, config.engine.threads)) as cluster:
        lengths = [len(example.source_tokens) for example in examples]
        pool = WorkerPool(cluster, job, identity_with(work.pair, job), send, keep)
        pool.run(shards_of(todo, lengths, cluster.count))


def shards_of(todo: Sequence[int], lengths: Sequence[int], workers: int) -> list[Shard]:
    """Put examples of about equal length together; the longest, which take most, go out first."""
    size = min(SHARD, math.ceil(len(todo) / (_SHARES * workers)))
    ranked = sorted(todo, key=lambda i: (-lengths[i], i))
    return [tuple(ranked[at : at + size]) for at in range(0, len(ranked), size)]


def resources_of(pair: Pair, threads: int) -> Resources:
    """Return what a worker takes: the weights, once more as they are laid out for batches, and the keys and values."""
    models = {id(model.whole or model): model.whole or model for model in (pair.large, pair.small)}.values()
    weights = sum(module_bytes(model.config, model.dtype) for model in models)
    gpu = pair.device.type == "cuda"
    return Resources(threads, weights if gpu else 2 * weights + default_budget(pair.device), gpu)


class WorkerPool:
    """The workers of one tree, and the shard that each of them is at."""

    def __init__(
        self,
        cluster: Cluster,
        job: WorkerJob,
        identity: dict[str, Any],
        send: Callable[[Shard], list[TreeExample]],
        keep: Callable[[Shard, Sequence[NodeTable]], None],
    ) -> None:
        self.cluster = cluster
        self.ray = cluster.ray
        self.job = self.ray.put(job)
        self.identity = identity
        self.send = send
        self.keep = keep
        self.shards: deque[Shard] = deque()
        self.busy: dict[Any, tuple[Any, Shard | None]] = {}
        """By the future of a result: the worker, and the shard; None while it loads the pair."""
        self.lost: Counter[Shard | None] = Counter()

    def run(self, shards: Sequence[Shard]) -> None:
        """Work until every shard is kept. BildError where that cannot be."""
        self.shards.extend(shards)
        while self.shards or any(shard is not None for _, shard in self.busy.values()):
            self._start_workers()
            done, _ = self.ray.wait(list(self.busy), num_returns=1, timeout=_PATIENCE)
            if done:
                self._receive(done[0])
            elif all(shard is None for _, shard in self.busy.values()):
                raise BildError(
                    f"No worker has started on {self.cluster.where} within {_PATIENCE / 60:.0f} minutes: "
                    f"its processors are taken, or it has too few; run again with less in sweep.workers or without it."
                )

    def _start_workers(self) -> None:
        """Start as many workers as there is work for, in the place of those that ended too."""
        loading = sum(shard is None for _, shard in self.busy.values())
        for _ in range(min(self.cluster.count - len(self.busy), len(self.shards) - loading)):
            worker = self.cluster.start(Worker)
            self.busy[worker.open.remote(self.job)] = worker, None

    def _receive(self, future: Any) -> None:
        """Take a worker's result, or take its shard back; give it the next shard."""
        worker, shard = self.busy.pop(future)
        errors = self.ray.exceptions
        try:
            result = self.ray.get(future)
        except errors.RayTaskError as error:
            if isinstance(error.cause, BildError):
                raise error.cause from None
            what = f"{type(error.cause).__name__}: {told(error.cause)}"
            raise BildError(f"A worker failed ({what}): what was grown is kept; run again.") from None
        except errors.RayError as error:
            self._ended(worker, shard, error)
            return
        if shard is None:
            self._check(result)
            self.lost[None] = 0
        self._next(worker)
        if shard is not None:  # stored while the worker is at the next one
            self.keep(shard, result)

    def _next(self, worker: Any) -> None:
        if self.shards:
            shard = self.shards.popleft()
            self.busy[worker.grow.remote(self.send(shard))] = worker, shard
        else:
            self.ray.kill(worker)

    def _check(self, ready: Ready) -> None:
        for name, there, here in differences(ready.identity, self.identity):
            raise BildError(
                f"The worker on {ready.machine} cannot grow this tree: its {name} is {there}, and this machine's is "
                f"{here}; one tree is of one kind of machine, with one set of versions."
            )

    def _ended(self, worker: Any, shard: Shard | None, error: Exception) -> None:
        self.lost[shard] += 1
        if shard is not None:
            self.shards.appendleft(shard)
        self.ray.kill(worker)
        why = type(error).__name__
        if self.lost[shard] >= TRIES:
            doing = "loading the pair" if shard is None else f"growing one shard of {len(shard)}"
            raise BildError(
                f"{TRIES} workers on {self.cluster.where} ended while {doing} ({why}): look whether memory runs out "
                "there, and run again with less in sweep.workers or without it; what was grown is kept."
            )
        left = "" if shard is None else f"; its {len(shard)} examples go to another"
        say(f"warning: a worker ended ({why}){left}")
