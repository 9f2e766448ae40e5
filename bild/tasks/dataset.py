"""The examples of a task: loaded and checked, the sub-sample chosen, and fingerprinted."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bild.config import TaskConfig
from bild.errors import BildError
from bild.tasks.files import Located, locate_embedded, locate_file, locate_hub
from bild.tasks.rows import Row, read_rows


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
    """Return the place of an example, by its id, in the queue from which every sub-sample takes the first."""
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


def locate(task: TaskConfig) -> Located:
    """Find the files of a task's split. BildError says what is missing and what is there."""
    return {"embedded": locate_embedded, "file": locate_file, "hub": locate_hub}[task.data](task)


def load_task(task: TaskConfig) -> Dataset:
    """Load the examples that `task` asks for.

    Texts stay as the data has them: no prompt, no stripping. Every row of the split is checked, chosen or not, so
    whether data are refused does not depend on the seed. A blank text is refused in one's own data; published data
    sets have a few, and they stay, because the published scores are over them.

    Raises BildError for data that are missing, malformed or fewer than `task.samples`.
    """
    located = locate(task)
    examples, total = choose(_examples(located, task), task.samples, task.seed)
    if task.samples is not None and task.samples > total:
        raise BildError(
            f"task.samples={task.samples} is more than the {total} examples of {_name(task)}: "
            f"ask for {total} or fewer, or leave task.samples out for all of them."
        )
    from bild.metrics import unseen  # NumPy and sacreBLEU: not for a list of tasks

    if told := unseen(task.metric, (example.reference for example in examples)):
        raise BildError(f"The references of {_name(task)} are {told}")
    provenance: dict[str, Any] = {
        "where": located.where,
        "path": task.path,
        "config": task.config,
        "revision": located.revision,
        "files": list(located.names),
        "split": task.split,
        "total": total,
        "known_total": task.sizes.get(task.split),
        "blank": sum(not example.source.strip() or not example.reference.strip() for example in examples),
        "samples": len(examples),
        "seed": task.seed,
        "hash": fingerprint(examples),
    }
    return Dataset(examples, provenance)


def _examples(located: Located, task: TaskConfig) -> Iterator[Example]:
    """Turn rows into examples, refusing what cannot be one; ids are `id_column` or `<split>-<row index>`."""
    may_be_blank = task.data == "hub"
    seen: dict[str, str] = {}
    index = 0
    for file in located.files:
        for row in read_rows(file):
            if task.id_column is None:
                name = f"{task.split}-{index}"
            else:
                name = _identifier(row, task.id_column)
                if name in seen:
                    raise BildError(
                        f"{row.place} has the id {name!r} of {seen[name]}: ids must be unique, fix task.id_column or "
                        "the data."
                    )
                seen[name] = row.place
            source = _text(row, task.source_column, "task.source_column", may_be_blank=may_be_blank)
            reference = _text(row, task.reference_column, "task.reference_column", may_be_blank=may_be_blank)
            yield Example(name, source, reference)
            index += 1


def _text(row: Row, column: str, option: str, *, may_be_blank: bool) -> str:
    value = _value(row, column, option)
    if not isinstance(value, str):
        kind = "nothing (null)" if value is None else f"a value of type {type(value).__name__}"
        raise BildError(f"{row.place} has {kind} in the column {column}: it must be a string, fix the row.")
    if not may_be_blank and not value.strip():
        raise BildError(f"{row.place} is blank in the column {column}: fill it in or remove the row.")
    return _whole(value, row, column)


def _identifier(row: Row, column: str) -> str:
    value = _value(row, column, "task.id_column")
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise BildError(f"{row.place} has no usable id in the column {column}: it must be a string or a whole number.")
    return _whole(str(value), row, column)


def _whole(text: str, row: Row, column: str) -> str:
    """Refuse half of a surrogate pair, which no UTF-8 file and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BildError(
            f"{row.place} has half a character, {text[error.start]!a}, in the column {column}: fix or remove the row."
        ) from error
    return text


def _value(row: Row, column: str, option: str) -> Any:
    """Look up a column by its whole name, else by its dotted path into nested columns."""
    if column in row.fields:
        return row.fields[column]
    value: Any = row.fields
    for part in column.split("."):
        if not isinstance(value, dict) or part not in value:
            raise BildError(
                f"{row.place} has no column {column}: set {option} to one of its columns, which are "
                f"{', '.join(_columns(row.fields))}."
            )
        value = value[part]
    return value


def _columns(fields: Any, prefix: str = "") -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _columns(value, f"{prefix}{name}.")
        else:
            whole = f"{prefix}{name}"
            yield whole if whole.isprintable() and whole.strip() == whole else repr(whole)  # a space that nobody sees


def _name(task: TaskConfig) -> str:
    return f"{task.path}, split {task.split}"
