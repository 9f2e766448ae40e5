"""What a sweep works on: the examples in the order in which they are measured, the identity of it all, and the pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bild.bench.machine import describe
from bild.bench.session import load_once, shared_identity
from bild.config import Checkpoints
from bild.errors import BildError
from bild.models import Pair, resolve_device
from bild.results.folder import slug
from bild.sweep.settings import SweepConfig, widest_draft
from bild.tasks import Dataset, Example, load_task
from bild.tasks.dataset import fingerprint, place


@dataclass
class Work:
    """The examples, the machine and the models of one sweep."""

    config: SweepConfig
    checkpoints: Checkpoints
    data: Dataset
    """What the tree holds: the split, or the `task.samples` of it."""
    full: Dataset
    """The whole split: measured points are keyed by it, so that their sub-sample may grow."""
    device: torch.device
    environment: dict[str, Any]
    identity: dict[str, Any]
    """All that can change a token, a score or a time, but for the method."""

    @staticmethod
    def open(config: SweepConfig) -> Work:
        """Load the data and look at the machine. BildError where the pair does not fit, or something is missing."""
        checkpoints = config.model.fit(config.task)
        if checkpoints is None:
            raise BildError(f"model={config.model.name} does not fit task={config.task.name}.")
        data = load_task(config.task)
        full = data
        if config.task.samples is not None:
            full = load_task(dataclasses.replace(config.task, samples=None))
        device = resolve_device(config.engine.device)
        torch.set_num_threads(config.engine.threads)
        environment = describe(device)
        identity = shared_identity(config, checkpoints, full, environment, str(device))
        return Work(config, checkpoints, data, full, device, environment, identity)

    @cached_property
    def pair(self) -> Pair:
        """The models, loaded at their first use."""
        return load_once(self.config, self.checkpoints, self.identity["pair"])

    @cached_property
    def queue(self) -> list[Example]:
        """The examples in the order in which they are measured: the first n are those of `task.samples=n`."""
        return sorted(self.data.examples, key=lambda example: place(example.id, self.config.task.seed))

    @property
    def folder(self) -> Path:
        """Where points, sweeps and trees of this task and pair lie."""
        return Path(self.config.results) / slug(self.config.task.name) / slug(self.config.model.pair_name)

    def source(self, example: Example) -> list[int]:
        """Token ids of an example as the models get them."""
        task = self.config.task
        return self.pair.encode(task.prompt + example.source, task.source_limit)[0]

    def sample(self, count: int) -> Dataset:
        """The first `count` examples of the queue as a data set of their own, in the data's order."""
        chosen = {example.id for example in self.queue[:count]}
        examples = tuple(example for example in self.data.examples if example.id in chosen)
        return Dataset(examples, self.data.provenance | _provenance(examples))

    def price_identity(self) -> dict[str, Any]:
        """What prices hold for: everything but the examples, and passes as wide as the sweep's drafts."""
        names = ("pair", "engine", "machine", "packages", "python")
        widest = widest_draft(self.config.sweep)
        return {name: self.identity[name] for name in names} | {"task": self.identity["task"]["name"], "widest": widest}


def _provenance(examples: Sequence[Example]) -> dict[str, Any]:
    return {
        "blank": sum(not example.source.strip() or not example.reference.strip() for example in examples),
        "samples": len(examples),
        "hash": fingerprint(examples),
    }
