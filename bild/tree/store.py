"""A tree's folder: what identifies it, its examples, its tokenizer, and its nodes (`bild.tree.blocks`).

`tree.json` is written last when a folder is made, so a folder with it is whole.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from bild.config import DecodeConfig
from bild.errors import BildError
from bild.results.codec import decode, dumps, read_json, write_json
from bild.results.files import read_file, unpack_lines, write_atomically
from bild.results.folder import SHORT, config_hash
from bild.tree.blocks import read_nodes
from bild.tree.nodes import TreeExample

FORMAT = 2
"""The version of a tree's files. Those of format 1 lack entropies and ranks; they are read, and no longer grown."""
TREE, EXAMPLES, TOKENIZER, LOCK = "tree.json", "examples.jsonl.gz", "tokenizer.json", ".lock"


@dataclass(frozen=True)
class StoredExample:
    """An example as the tree knows it without torch."""

    id: str
    source: str
    reference: str
    source_tokens: list[int]
    truncated: bool


@dataclass(frozen=True)
class Head:
    """`tree.json`: the identity that names the folder, and what else the tree was grown by."""

    format: int
    hash: str
    identity: dict[str, Any] = field(metadata={"shape": {"task": {"target_limit": int, "metric": str}}})
    ids: dict[str, int] = field(metadata={"shape": {"start": int, "eos": int, "vocabulary": int}})
    rounding: dict[str, float] = field(metadata={"shape": {"nll": float, "gap": float}})
    names: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, Any] | None = None
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    """How choices were made; the identity has it, too, where they were drawn."""


def create(
    folder: Path,
    identity: Mapping[str, Any],
    more: Mapping[str, Any],
    examples: Sequence[StoredExample],
    tokenizer: str,
) -> None:
    """Make a tree's folder; the caller holds its lock. `more` are the fields of `Head` that the hash does not cover."""
    head = Head(FORMAT, config_hash(identity), dict(identity), **more)
    lines = [dumps(astuple(example)) + "\n" for example in examples]
    write_atomically(folder / EXAMPLES, gzip.compress("".join(lines).encode(), mtime=0))
    write_atomically(folder / TOKENIZER, tokenizer)
    write_json(folder / TREE, head)


def read_head(folder: Path) -> Head:
    """Read `tree.json`. BildError where it cannot be read, or is of another version."""
    path = folder / TREE
    head = read_json(Head, path, "does not describe a tree", "delete its folder and grow it again")
    if head.format not in (1, FORMAT):
        raise BildError(f"{path} is of another version than {FORMAT}: delete its folder and grow it again.")
    if head.hash != config_hash(head.identity):
        raise BildError(f"{path} was changed after it was written: delete its folder and grow it again.")
    if not all(0 <= number < 1 << 31 for number in head.ids.values()):
        raise BildError(f"{path} names a token that cannot be ({head.ids}): delete its folder and grow it again.")
    return head


def read_examples(folder: Path) -> list[StoredExample]:
    """Read the examples, in the data set's order. BildError where the file is damaged."""
    path = folder / EXAMPLES
    names = [each.name for each in fields(StoredExample)]
    try:
        lines = enumerate(unpack_lines(read_file(path)), start=1)
        return [decode(StoredExample, dict(zip(names, row, strict=True)), f"line {number}") for number, row in lines]
    except (ValueError, TypeError) as error:
        raise BildError(f"{path} is damaged ({error}): delete the tree's folder and grow it again.") from None


def read_all(folder: Path) -> tuple[Head, list[TreeExample]]:
    """Read `tree.json`, and the examples with their nodes. BildError where a file is damaged."""
    head, examples = read_head(folder), read_examples(folder)
    tables = read_nodes(folder, len(examples), head.ids["start"])
    return head, [TreeExample(**vars(e), table=table) for e, table in zip(examples, tables, strict=True)]


def folder_name(identity: Mapping[str, Any]) -> str:
    """Return the name of a tree's folder."""
    return config_hash(identity)[:SHORT]
