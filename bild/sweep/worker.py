"""What a worker on some machine does: it loads the pair itself, and grows the trees of the examples that it is sent.

It keeps nothing on its disk: what it grew goes back as columns, and the driver stores them.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

import bild
from bild.bench.session import load_once
from bild.config import Checkpoints, RunConfig
from bild.errors import BildError
from bild.models import Pair
from bild.tasks import Dataset
from bild.tree.grow import Grower
from bild.tree.identity import identity_of
from bild.tree.nodes import Nodes, Table
from bild.tree.points import Setting, group
from bild.tree.store import Growth, StoredExample


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
            pair = load_once(config, order.checkpoints, {})
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
