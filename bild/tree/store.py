"""A tree's folder: what identifies it, its examples, its tokenizer, and its nodes (`bild.tree.blocks`).

`tree.json` is written last when a folder is made, so a folder with it is whole.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from bild.config import DecodeConfig
from bild.errors import BildError, refusing
from bild.metrics import Scorer
from bild.results.codec import decode, dumps, read_json, write_json
from bild.results.files import read_file, unpack_lines, write_atomically
from bild.results.folder import SHORT, config_hash
from bild.results.prices import PRICES, Prices, read_prices
from bild.tree.blocks import read_nodes
from bild.tree.nodes import StoredExample as StoredExample
from bild.tree.nodes import TreeExample
from bild.tree.replay import Rounding, Walk

FORMAT = 2
"""The version of a tree's files. Those of format 1 lack entropies and ranks; they are read, and no longer grown."""
TREE, EXAMPLES, TOKENIZER, LOCK = "tree.json", "examples.jsonl.gz", "tokenizer.json", ".lock"


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


_MEND = "delete the tree's folder and grow it again"


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
    with refusing(lambda why: f"{path} is damaged ({why}): {_MEND}.", ValueError, TypeError):
        lines = [*enumerate(unpack_lines(read_file(path)), start=1)]
        if not lines:
            raise ValueError("it holds no example")
        return [decode(StoredExample, dict(zip(names, row, strict=True)), f"line {number}") for number, row in lines]


def read_all(folder: Path) -> tuple[Head, list[TreeExample]]:
    """Read `tree.json`, and the examples with their nodes. BildError where a file is damaged."""
    head, examples = read_head(folder), read_examples(folder)
    tables = read_nodes(folder, len(examples), head.ids["start"])
    return head, [TreeExample(**vars(e), table=table) for e, table in zip(examples, tables, strict=True)]


def folder_name(identity: Mapping[str, Any]) -> str:
    """Return the name of a tree's folder."""
    return config_hash(identity)[:SHORT]


class ExampleTrees:
    """The trees of some examples as all replays of them share them: texts and scores are worked out once."""

    def __init__(self, path: Path, head: Head, examples: Sequence[TreeExample]) -> None:
        self.path = path
        self.head = head
        self.examples = list(examples)
        self._texts: dict[tuple[int, ...], str] = {}

    @property
    def start(self) -> int:
        """The decoder's start token."""
        return self.head.ids["start"]

    @property
    def eos(self) -> int:
        """The end token."""
        return self.head.ids["eos"]

    @property
    def target_limit(self) -> int:
        """The most tokens of a text, start token included."""
        return int(self.head.identity["task"]["target_limit"])

    @property
    def rounding(self) -> Rounding:
        """Within how much of a threshold, or of a tie, a decision counts as marked."""
        return Rounding(self.head.rounding["nll"], self.head.rounding["gap"])

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        path = self.path / TOKENIZER
        with refusing(lambda why: f"{path} is no tokenizer ({why}): {_MEND}."):
            return Tokenizer.from_str(read_file(path).decode())

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, special tokens left out."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text.strip()

    def text(self, walk: Walk) -> str:
        """Return the text of a finished walk; equal tokens are decoded once."""
        if walk.text is None:
            key = tuple(walk.tokens)
            if key not in self._texts:
                self._texts[key] = self.decode(key)
            walk.text = self._texts[key]
        return walk.text

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer of texts against the examples' references."""
        return Scorer(self.head.identity["task"]["metric"], [example.reference for example in self.examples])

    @cached_property
    def prices(self) -> Prices | None:
        """The prices that a sweep calibrated beside the tree; None where none did."""
        path = self.path / PRICES
        return read_prices(path) if path.is_file() else None
