"""A tree's folder: what identifies it, its examples, its tokenizer, and its nodes in blocks that are only appended.

`tree.json` is written last when a folder is made, so a folder with it is whole. A block holds, for some examples, the
nodes that came since their last block and what the large model said since; it has a length and a checksum, so what a
kill tore is cut off. Blocks of one example fit together by the number of nodes they start from; one that does not fit
(two processes grew one example) is passed over, and grown again.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from bild.errors import BildError
from bild.results.folder import SHORT, config_hash, write_atomically
from bild.results.locking import taken
from bild.results.samples_log import write_error
from bild.tree.nodes import NAMES, TYPES, Table

FORMAT = 2
"""Of `tree.json` and the blocks. Trees of format 1 lack entropies and ranks; they are read, and no longer grown."""
TREE, EXAMPLES, TOKENIZER, LOCK = "tree.json", "examples.jsonl.gz", "tokenizer.json", ".lock"
_HEAD = struct.Struct("<8sQI")
_MAGIC = b"bildtree"
_SMALL = ("small_choice", "small_nll", "small_gap", "small_entropy")
_NEW = ("small_entropy", "large_entropy", "large_rank", "large_rank_gap")
"""The columns that format 1 lacks."""
_LARGE = ("large_choice", "large_choice_nll", "large_nll", "large_gap", "large_entropy", "large_rank", "large_rank_gap")


@dataclass(frozen=True)
class StoredExample:
    """An example as the tree knows it without torch."""

    id: str
    source: str
    reference: str
    source_tokens: list[int]
    truncated: bool


class Growth:
    """The nodes of one example: those that are stored, and those that came since."""

    def __init__(self, start: int) -> None:
        self.table = Table(start)
        self.stored = 0
        """Nodes in blocks."""
        self.heard: list[int] = []
        """Nodes that the large model has spoken of since."""

    @property
    def dirty(self) -> bool:
        """Tell whether there is anything to append."""
        return bool(self.heard) or len(self.table) > self.stored


def tree_hash(identity: Mapping[str, Any]) -> str:
    """Return the hash whose first digits name a tree's folder."""
    return config_hash(identity)


def create(
    folder: Path,
    identity: Mapping[str, Any],
    more: Mapping[str, Any],
    examples: Sequence[StoredExample],
    tokenizer: str,
) -> None:
    """Make a tree's folder; the caller holds its lock. `more` goes into tree.json without being part of the hash."""
    lines = [
        json.dumps([e.id, e.source, e.reference, e.source_tokens, e.truncated], ensure_ascii=False) for e in examples
    ]
    write_atomically(folder / EXAMPLES, gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    write_atomically(folder / TOKENIZER, tokenizer)
    plain = {"format": FORMAT, "hash": tree_hash(identity), "identity": identity, **more}
    write_atomically(folder / TREE, json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_head(folder: Path) -> dict[str, Any]:
    """Read `tree.json`. BildError where it cannot be read, or is of another version."""
    path = folder / TREE
    try:
        head: dict[str, Any] = json.loads(path.read_bytes())
        fits = head["format"] in (1, FORMAT) and isinstance(head["identity"], dict)
    except OSError as error:
        raise BildError(f"{path} could not be read ({error.strerror}): make it readable and run again.") from None
    except (ValueError, KeyError, TypeError):
        raise BildError(f"{path} does not describe a tree: delete its folder and grow it again.") from None
    if not fits:
        raise BildError(f"{path} is of another version than {FORMAT}: delete its folder and grow it again.")
    return head


def read_examples(folder: Path) -> list[StoredExample]:
    """Read the examples, in the data set's order. BildError where the file is damaged."""
    path = folder / EXAMPLES
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        return [StoredExample(*json.loads(line)) for line in lines]
    except (OSError, EOFError, zlib.error, ValueError, TypeError) as error:
        raise BildError(f"{path} is damaged ({error}): delete the tree's folder and grow it again.") from None


def read_all(folder: Path) -> tuple[dict[str, Any], list[StoredExample], list[Growth]]:
    """Read `tree.json`, the examples, and the nodes of each. BildError where a file is damaged."""
    head, examples = read_head(folder), read_examples(folder)
    return head, examples, read_nodes(folder, len(examples), head["ids"]["start"])


def read_nodes(folder: Path, count: int, start: int) -> list[Growth]:
    """Read the nodes of all examples from all files of blocks; a torn or damaged tail is passed over."""
    found = [Growth(start) for _ in range(count)]
    files = sorted(folder.glob("nodes*.bin"))
    pending = [update for path in files for block in _blocks(path) for update in block]
    while pending:  # a block may continue what another file holds
        left = [update for update in pending if not _apply(found[update["index"]], update)]
        if len(left) == len(pending):
            break
        pending = left
    return found


def _blocks(path: Path) -> list[list[dict[str, Any]]]:
    with path.open("rb") as file:
        return [_unpack(payload) for payload, _ in _payloads(file)]


def _payloads(file: io.BufferedReader) -> Iterator[tuple[bytes, int]]:
    """(payload, where it ends) of the whole blocks."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        magic, size, checksum = _HEAD.unpack(head)
        payload = file.read(size) if magic == _MAGIC else b""
        if magic != _MAGIC or len(payload) != size or zlib.crc32(payload) != checksum:
            return
        yield payload, file.tell()


def _pack(growths: Mapping[int, Growth]) -> bytes:
    """What came since the last block, for examples by index."""
    parts: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in (*NAMES, *(f"heard_{n}" for n in _LARGE))}
    heads, heard = [], []
    for index, growth in growths.items():
        old = sorted({node for node in growth.heard if node < growth.stored})
        new = growth.table.columns(growth.stored)
        heads.append((index, growth.stored, len(new), len(old)))
        heard.append(np.array(old, np.int32))
        for name in NAMES:
            parts[name].append(getattr(new, name))
        for name in _LARGE:
            parts[f"heard_{name}"].append(np.array([getattr(growth.table, name)[n] for n in old], TYPES[name]))
    arrays: dict[str, Any] = {name: np.concatenate(columns) for name, columns in parts.items()}
    arrays |= {"heads": np.array(heads, np.int64), "heard": np.concatenate(heard)}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _unpack(payload: bytes) -> list[dict[str, Any]]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in arrays.files}
    for prefix, count in (("", len(columns["token"])), ("heard_", len(columns["heard"]))):
        for name in (name for name in _NEW if prefix + name not in columns):
            columns[prefix + name] = np.full(count, 0 if name == "large_rank" else np.nan, TYPES[name])
    updates, at, old_at = [], 0, 0
    for index, base, new, old in columns["heads"].tolist():
        update: dict[str, Any] = {"index": index, "base": base, "new": new}
        update |= {name: columns[name][at : at + new].tolist() for name in NAMES}
        update["heard"] = columns["heard"][old_at : old_at + old].tolist()
        update |= {f"heard_{n}": columns[f"heard_{n}"][old_at : old_at + old].tolist() for n in _LARGE}
        updates.append(update)
        at, old_at = at + new, old_at + old
    return updates


def _apply(growth: Growth, update: dict[str, Any]) -> bool:
    """Add a block's part of one example, if it starts where that example stands."""
    if update["base"] != growth.stored:
        return False
    table = growth.table
    for i, node in enumerate(update["heard"]):
        _hear(table, node, update, i, "heard_")
    for i in range(update["new"]):
        node = update["base"] + i
        if node:
            table.add(update["parent"][i], update["token"][i])
        _hear(table, node, update, i, "")
    growth.stored = len(table) if update["new"] else growth.stored
    return True


def _hear(table: Table, node: int, update: dict[str, Any], i: int, prefix: str) -> None:
    if not prefix and update["small_choice"][i] >= 0:
        table.hear_small(node, *(update[name][i] for name in _SMALL))
    if update[f"{prefix}large_choice"][i] >= 0:
        told = (update[f"{prefix}{name}"][i] for name in _LARGE)
        table.hear_large(node, *told)


class BlockFile:
    """One file of blocks, held by this process while it is open."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, lock it, and cut off a torn tail."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not taken(self._file):
                raise BildError(f"Another process is growing {path}: wait until it ends, or stop it, and run again.")
            with path.open("rb") as file:
                self._end = max((end for _, end in _payloads(file)), default=0)
            os.ftruncate(self._file, self._end)
        except BildError:
            os.close(self._file)
            raise
        except OSError as error:
            os.close(self._file)
            raise write_error(path, error, "what is in it is kept") from None

    def append(self, growths: Mapping[int, Growth]) -> None:
        """Store what came since the last block; all of it or, after a kill or on a full disk, nothing."""
        dirty = {index: growth for index, growth in growths.items() if growth.dirty}
        if not dirty:
            return
        payload = _pack(dirty)
        data = memoryview(_HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload)
        end = self._end + len(data)
        try:
            at = self._end
            while data:
                written = os.pwrite(self._file, data, at)
                data, at = data[written:], at + written
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise write_error(self.path, error, "the nodes stored before are kept") from None
        self._end = end
        for growth in dirty.values():
            growth.stored, growth.heard = len(growth.table), []

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def folder_name(identity: Mapping[str, Any]) -> str:
    """Return the name of a tree's folder."""
    return tree_hash(identity)[:SHORT]
