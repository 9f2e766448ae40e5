"""What a worker on some machine does: it loads the pair itself, and grows the trees of the examples that it is sent.

It keeps nothing on its disk: what it grew goes back as columns, and the driver stores them.

A tree grown by workers: examples go out in small parts, what comes back is stored here, a lost part goes to another.

The tree's folder is this machine's, under the same lock and in the same blocks as without workers: a kill of this
process loses the parts that are out, a kill of a worker the part that it has.
"""

from __future__ import annotations

import dataclasses
import math
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

import bild
from bild.config import Checkpoints, RunConfig
from bild.errors import BildError
from bild.measure.session import load_once
from bild.models import Pair, PairSpec
from bild.sweep.context import Work
from bild.sweep.ray_cluster import Cluster, Need, Workforce, connected
from bild.tasks import Dataset
from bild.tree import Tree, store
from bild.tree.grow import Grower, default_budget
from bild.tree.identity import identity_of, open_folder
from bild.tree.nodes import Nodes, Table
from bild.tree.store import Growth, StoredExample
from bild.tree.tree import assemble
from bild.tree.walk import Setting, group


@dataclass(frozen=True)
class Order:
    """What all workers of a tree are to do."""

    config: RunConfig
    checkpoints: Checkpoints
    data_hash: str
    head: dict[str, Any]
    """The tree's `tree.json`."""
    points: Sequence[Setting]


class Sent(NamedTuple):
    """An example, and its nodes so far."""

    example: StoredExample
    nodes: Nodes


class Returned(NamedTuple):
    """The nodes of an example, and which of them the large model has spoken of since it was sent."""

    nodes: Nodes
    heard: list[int]


class Ready(NamedTuple):
    """A worker that has loaded the pair: its machine, and all that can change a node."""

    machine: str
    identity: dict[str, Any]


class Worker:
    """One process with both models."""

    def __init__(self) -> None:
        self.machine = socket.gethostname()
        self.grower: Grower | None = None

    def open(self, order: Order) -> Ready:
        """Load the pair. BildError, with the machine's name, where a checkpoint or a device is missing there."""
        kind = order.head["identity"]["device"]
        engine = dataclasses.replace(order.config.engine, device=kind)
        config = dataclasses.replace(order.config, engine=engine)
        torch.set_num_threads(engine.threads)
        try:
            pair = load_once(PairSpec.of(config.model, order.checkpoints, engine), {})
            found = identity_with(pair, order)
            self.grower = Grower(pair, [], [], group(order.points), order.head, None)
        except BildError as error:
            raise BildError(f"The worker on {self.machine} cannot grow trees: {error}") from None
        return Ready(self.machine, found)

    def grow(self, part: Sequence[Sent]) -> list[Returned]:
        """Grow some examples. BildError, with the machine's name, where one does not fit into its memory."""
        assert self.grower is not None
        growths = [growth_of(nodes, stored=len(nodes)) for _, nodes in part]
        self.grower.examples = [example for example, _ in part]
        self.grower.growths = growths
        try:
            for chunk in self.grower.chunks(range(len(part))):
                self.grower.grow(chunk, lambda _: None)  # the driver has the file
        except BildError as error:
            raise BildError(f"On {self.machine}: {error}") from None
        return [Returned(growth.table.columns(), growth.heard) for growth in growths]


def growth_of(nodes: Nodes, *, stored: int, heard: Sequence[int] = ()) -> Growth:
    """A growth whose first `stored` nodes are in blocks, and some of whose nodes were heard of since."""
    growth = Growth(int(nodes.token[0]))
    growth.table, growth.stored, growth.heard = Table.of(nodes), stored, list(heard)
    return growth


def identity_with(pair: Pair, order: Order) -> dict[str, Any]:
    """The tree's identity as the pair of this process has it, with the device's name and the package's version."""
    data = Dataset((), {"hash": order.data_hash})
    device = torch.cuda.get_device_name(pair.device) if pair.device.type == "cuda" else _instructions()
    return identity_of(pair, order.config.task, data) | {"bild": bild.__version__, "processor": device}


def _instructions() -> str:
    """Which vector instructions torch's kernels use: others round otherwise."""
    return torch.backends.cpu.get_cpu_capability()


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(name, its value in one, its value in the other) for all that differs, names of nested values with dots."""
    found: list[tuple[str, Any, Any]] = []
    for name in sorted(one.keys() | other.keys()):
        a, b = one.get(name), other.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append((f"{prefix}{name}", a, b))
    return found


PART = 64
"""The most examples of a part: what is lost with a worker."""
_SHARES = 4
"""Parts for every worker, so that all end at about the same time."""
TRIES = 3
"""Workers that a part may take with it, or that may end before they have begun."""
_PATIENCE = 600.0
"""Seconds in which a worker must have started where none is at work."""

Part = tuple[int, ...]
"""Examples by index."""


def grow_with_workers(
    work: Work, points: Sequence[Setting], progress: Callable[[int, int], None] | None = None
) -> Tree:
    """Grow a sweep's tree as `bild.tree.grow.grow` does, on the workers that `sweep.workers` asks for.

    Each example gets the same nodes, but for numbers that differ by rounding, as batches are put together otherwise.
    Raises BildError as `grow` does, and where there is no Ray or no worker, a worker's machine differs in anything that
    can change a node, or workers end again and again; what was stored before is kept.
    """
    config, data = work.config, work.data
    assert config.sweep.workers is not None
    workforce = Workforce.parse(config.sweep.workers)
    path = open_folder(work.folder / "tree", work.pair, config.task, data, config.engine.name)
    with store.BlockFile(path / "nodes.bin") as block:
        head, stored, growths = store.read_all(path)
        lacking = set(assemble(path, head, stored, growths).missing(points))
        todo = [i for i, example in enumerate(stored) if example.id in lacking]
        if todo:
            order = Order(config, work.checkpoints, data.provenance["hash"], head, list(points))
            done = len(stored) - len(todo)

            def send(part: Part) -> list[Sent]:
                return [Sent(stored[i], growths[i].table.columns()) for i in part]

            def keep(part: Part, grown: Sequence[Returned]) -> None:
                nonlocal done
                for i, (nodes, heard) in zip(part, grown, strict=True):
                    growths[i] = growth_of(nodes, stored=growths[i].stored, heard=heard)
                block.append({i: growths[i] for i in part})
                done += len(part)
                if progress is not None:
                    progress(done, len(stored))

            with connected(workforce, need_of(work.pair, config.engine.threads)) as cluster:
                lengths = [len(example.source_tokens) for example in stored]
                crew = Crew(cluster, order, identity_with(work.pair, order), send, keep)
                crew.run(parts_of(todo, lengths, cluster.count))
        return assemble(path, head, stored, growths)


def parts_of(todo: Sequence[int], lengths: Sequence[int], workers: int) -> list[Part]:
    """Examples of about equal length together; the longest, which take most, go out first."""
    size = min(PART, math.ceil(len(todo) / (_SHARES * workers)))
    ranked = sorted(todo, key=lambda i: (-lengths[i], i))
    return [tuple(ranked[at : at + size]) for at in range(0, len(ranked), size)]


def need_of(pair: Pair, threads: int) -> Need:
    """What a worker takes: the weights, once more as they are laid out for batches, and the keys and values."""
    modules = {id(module): module for module in (pair.large.module, pair.small.module)}.values()
    weights = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    gpu = pair.device.type == "cuda"
    return Need(threads, weights if gpu else 2 * weights + default_budget(pair.device), gpu)


class Crew:
    """The workers of one tree, and what each of them has in hand."""

    def __init__(
        self,
        cluster: Cluster,
        order: Order,
        identity: dict[str, Any],
        send: Callable[[Part], list[Sent]],
        keep: Callable[[Part, Sequence[Returned]], None],
    ) -> None:
        self.cluster = cluster
        self.ray = cluster.ray
        self.order = self.ray.put(order)
        self.identity = identity
        self.send = send
        self.keep = keep
        self.parts: deque[Part] = deque()
        self.busy: dict[Any, tuple[Any, Part | None]] = {}
        """By what a worker has promised: the worker, and the part; None while it loads the pair."""
        self.lost: Counter[Part | None] = Counter()

    def run(self, parts: Sequence[Part]) -> None:
        """Until every part is kept. BildError where that cannot be."""
        self.parts.extend(parts)
        while self.parts or any(part is not None for _, part in self.busy.values()):
            self._hire()
            done, _ = self.ray.wait(list(self.busy), num_returns=1, timeout=_PATIENCE)
            if done:
                self._hear(done[0])
            elif all(part is None for _, part in self.busy.values()):
                raise BildError(
                    f"No worker has started on {self.cluster.where} within {_PATIENCE / 60:.0f} minutes: "
                    f"its processors are taken, or it has too few; run again with less in sweep.workers or without it."
                )

    def _hire(self) -> None:
        """As many workers as there is work for, in the place of those that ended too."""
        loading = sum(part is None for _, part in self.busy.values())
        for _ in range(min(self.cluster.count - len(self.busy), len(self.parts) - loading)):
            worker = self.cluster.hire(Worker)
            self.busy[worker.open.remote(self.order)] = worker, None

    def _hear(self, promise: Any) -> None:
        """Take what a worker brings, or take its part back; give it the next part."""
        worker, part = self.busy.pop(promise)
        errors = self.ray.exceptions
        try:
            brought = self.ray.get(promise)
        except errors.RayTaskError as error:
            raise _told(error.cause) from None
        except errors.RayError as error:
            self._ended(worker, part, error)
            return
        if part is None:
            self._check(brought)
            self.lost[None] = 0
        self._next(worker)
        if part is not None:  # stored while the worker is at the next one
            self.keep(part, brought)

    def _next(self, worker: Any) -> None:
        if self.parts:
            part = self.parts.popleft()
            self.busy[worker.grow.remote(self.send(part))] = worker, part
        else:
            self.ray.kill(worker)

    def _check(self, ready: Ready) -> None:
        for name, there, here in differences(ready.identity, self.identity):
            raise BildError(
                f"The worker on {ready.machine} cannot grow this tree: its {name} is {there}, and this machine's is "
                f"{here}; one tree is of one kind of machine, with one set of versions."
            )

    def _ended(self, worker: Any, part: Part | None, error: Exception) -> None:
        self.lost[part] += 1
        if part is not None:
            self.parts.appendleft(part)
        self.ray.kill(worker)
        why = type(error).__name__
        if self.lost[part] >= TRIES:
            doing = "loading the pair" if part is None else f"growing one part of {len(part)}"
            raise BildError(
                f"{TRIES} workers on {self.cluster.where} ended while {doing} ({why}): look whether memory runs out "
                "there, and run again with less in sweep.workers or without it; what was grown is kept."
            )
        left = "" if part is None else f"; its {len(part)} examples go to another"
        print(f"warning: a worker ended ({why}){left}", file=sys.stderr, flush=True)


def _told(cause: BaseException) -> BildError:
    """A worker's own exception as one sentence."""
    if isinstance(cause, BildError):
        return cause
    text = " ".join(str(cause).split())[:200]
    return BildError(f"A worker failed ({type(cause).__name__}: {text}): what was grown is kept; run again.")
