"""The examples of a task, the rule that picks a sub-sample of them, and their fingerprint."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Example:
    """One source text without its prompt, and the reference that its output is scored against."""

    id: str
    source: str
    reference: str


@dataclass(frozen=True)
class Dataset:
    """The chosen examples in the data set's own order, and where they came from.

    `provenance` is ready for JSON and has: `where` (in words), `path`, `config`, `revision` (the resolved commit, None
    off the hub), `files`, `split`, `total` (rows in the split), `known_total` (rows that the split is published with,
    None where it is not known), `blank` (chosen examples with a blank source or reference), `samples`, `seed`, and
    `hash`.
    """

    examples: tuple[Example, ...]
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


def fingerprint(examples: Iterable[Example]) -> str:
    """Tell whether two runs saw the same texts: sha256 over every (id, source, reference), in order."""
    digest = hashlib.sha256()
    for example in examples:
        line = json.dumps([example.id, example.source, example.reference], ensure_ascii=True)
        digest.update(line.encode("ascii") + b"\n")
    return digest.hexdigest()


def place(name: str, seed: int) -> bytes:
    """The place of an example, by its id, in the queue from which every sub-sample takes the first."""
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def choose(examples: Iterable[Example], samples: int | None, seed: int) -> tuple[tuple[Example, ...], int]:
    """Pick `samples` examples (None: all) and count them all; the choice keeps the order of the data.

    An example's place in the queue is the sha256 of the seed and its id alone. So the choice does not change with the
    version of a random generator, and with one seed a smaller sample is part of every larger one. One pass; only the
    chosen examples are held. Fewer than `samples` come back where the data set has fewer.
    """
    total = 0

    def ranked() -> Iterator[tuple[bytes, int, Example]]:
        nonlocal total
        for example in examples:
            yield place(example.id, seed), total, example
            total += 1

    if samples is None:
        everything = tuple(examples)
        return everything, len(everything)
    queue = heapq.nsmallest(samples, ranked(), key=lambda entry: entry[:2])
    return tuple(example for _, _, example in sorted(queue, key=lambda entry: entry[1])), total
