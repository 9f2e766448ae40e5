"""A tree grown by workers: examples go out in small parts, what comes back is stored here, a lost part goes to another.

The tree's folder is this machine's, under the same lock and in the same blocks as without workers: a kill of this
process loses the parts that are out, a kill of a worker the part that it has.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from bild.errors import BildError
from bild.models import Pair
from bild.sweep.cluster import Cluster, Need, Workforce, connected
from bild.sweep.work import Work
from bild.sweep.worker import Order, Ready, Returned, Sent, Worker, differences, growth_of, identity_with
from bild.tree import Tree, store
from bild.tree.grow import default_budget
from bild.tree.identity import open_folder
from bild.tree.points import Setting
from bild.tree.tree import assemble

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
