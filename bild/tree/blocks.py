"""The nodes of a tree's examples in blocks that are only appended.

A block holds, for some examples, the nodes that came since their last block and what the large model said since; it has
a length and a checksum, so what a kill tore is cut off, and a damaged block is told and passed over without those that
follow it. Blocks of one example fit together by the nodes that they start from, by number and checksum; one that does
not fit (two processes grew one example, or the block before it is damaged) is passed over, and grown again.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from filelock import lock_descriptor

from bild.errors import BildError
from bild.progress import say
from bild.results.files import MOST, GrowingFile, read_file, writing
from bild.tree.nodes import NAMES, TYPES, NodeTable

NODES = "nodes.bin"
"""The file of a tree's own blocks."""
_HEAD = struct.Struct("<8sQI")
_MAGIC = b"bildtree"
_SMALL = ("small_choice", "small_nll", "small_gap", "small_entropy")
_NEW = ("small_entropy", "large_entropy", "large_rank", "large_rank_gap")
"""The columns that format 1 lacks."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, LookupError, TypeError, MemoryError)
"""The errors that bytes which are no block end in."""
_LARGE = ("large_choice", "large_choice_nll", "large_nll", "large_gap", "large_entropy", "large_rank", "large_rank_gap")


def read_nodes(folder: Path, count: int, start: int) -> list[NodeTable]:
    """Read the nodes of all examples from all files of blocks; damaged blocks are told and passed over."""
    found = [NodeTable(start) for _ in range(count)]
    pending: list[dict[str, Any]] = []
    for path in sorted(folder.glob("nodes*.bin")):
        blocks, damaged = _blocks(read_file(path))[0], 0
        for block in blocks:
            updates = None if block.payload is None else _unpack(block.payload, count)
            damaged += updates is None
            pending += updates or []
        if damaged:
            say(f"{path}: {damaged} of {len(blocks)} blocks are damaged and left out; a sweep grows them again")
    while pending:  # a block may continue what another file holds
        left = [update for update in pending if not _apply(found[update["index"]], update)]
        if len(left) == len(pending):
            break
        pending = left
    return found


class Stretch(NamedTuple):
    """A stretch of a file: one whole block, or what lies between two of them."""

    payload: bytes | None
    """None: damaged."""
    end: int


def _blocks(data: bytes) -> tuple[list[Stretch], int]:
    """Return the blocks of a file, and where the last of them ends: what follows it is what a kill tore."""
    found: list[Stretch] = []
    at = 0
    while at < len(data):
        block = _block_at(data, at)
        if block is None:  # torn if nothing whole follows, damaged if something does
            following = data.find(_MAGIC, at + 1)
            while following >= 0 and ((next_one := _block_at(data, following)) is None or next_one.payload is None):
                following = data.find(_MAGIC, following + 1)
            if following < 0:
                break
            block = Stretch(None, following)
        found.append(block)
        at = block.end
    return found, at


def _block_at(data: bytes, at: int) -> Stretch | None:
    """Return the block that begins at a place; None where there is none, or its head must be wrong."""
    body = at + _HEAD.size
    if body > len(data):
        return None
    magic, size, checksum = _HEAD.unpack_from(data, at)
    end = body + size
    if magic != _MAGIC or end > len(data):
        return None
    payload = data[body:end]
    if zlib.crc32(payload) == checksum:
        return Stretch(payload, end)
    return Stretch(None, end) if end == len(data) or data.startswith(_MAGIC, end) else None


def _pack(tables: Mapping[int, NodeTable]) -> bytes:
    """Write down all that came since the last block, for examples by index."""
    parts: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in (*NAMES, *(f"heard_{n}" for n in _LARGE))}
    heads, heard, after = [], [], []
    for index, table in tables.items():
        old = sorted({node for node in table.heard if node < table.stored})
        new = table.columns(table.stored)
        heads.append((index, table.stored, len(new), len(old)))
        heard.append(np.array(old, np.int32))
        after.append(_digest(table, table.stored))
        for name in NAMES:
            parts[name].append(getattr(new, name))
        for name in _LARGE:
            parts[f"heard_{name}"].append(np.array([getattr(table, name)[n] for n in old], TYPES[name]))
    arrays: dict[str, Any] = {name: np.concatenate(columns) for name, columns in parts.items()}
    arrays |= {"heads": np.array(heads, np.int64), "heard": np.concatenate(heard), "after": np.array(after, np.int64)}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _digest(table: NodeTable, count: int) -> int:
    """Return the checksum of an example's first nodes, which its next block continues."""
    return zlib.crc32(np.array([table.parent[:count], table.token[:count]], np.int32).tobytes())


def _unpack(payload: bytes, count: int) -> list[dict[str, Any]] | None:
    """Return a block's parts by example; None where it is damaged, or speaks of more than `count` examples."""
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as members:
            if sum(member.file_size for member in members.infolist()) > MOST:
                return None
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
        updates = _updates(columns)
        fits = all(0 <= update["index"] < count and _is_tree(update) for update in updates)
    except _DAMAGED:
        return None
    return updates if fits else None


def _is_tree(update: dict[str, Any]) -> bool:
    """Tell whether each node comes after its parent, and what was heard is of nodes that were there."""
    base, parents = update["base"], enumerate(update["parent"], update["base"])
    return all(0 <= parent < node or not node for node, parent in parents) and all(
        0 <= node < base for node in update["heard"]
    )


def _updates(columns: dict[str, Any]) -> list[dict[str, Any]]:
    for prefix, rows in (("", len(columns["token"])), ("heard_", len(columns["heard"]))):
        for name in (name for name in _NEW if prefix + name not in columns):
            columns[prefix + name] = np.full(rows, 0 if name == "large_rank" else np.nan, TYPES[name])
    heads = columns["heads"].tolist()
    afters = columns["after"].tolist() if "after" in columns else [None] * len(heads)
    updates, at, old_at = [], 0, 0
    for (index, base, new, old), after in zip(heads, afters, strict=True):
        update: dict[str, Any] = {"index": index, "base": base, "new": new, "after": after}
        update |= {name: columns[name][at : at + new].tolist() for name in NAMES}
        update["heard"] = columns["heard"][old_at : old_at + old].tolist()
        update |= {f"heard_{n}": columns[f"heard_{n}"][old_at : old_at + old].tolist() for n in _LARGE}
        updates.append(update)
        at, old_at = at + new, old_at + old
    lengths = [{len(columns[n]) for n in NAMES}, {len(columns[n]) for n in columns if n.startswith("heard")}]
    if lengths != [{at}, {old_at}] or any(min(each[2:]) < 0 for each in heads):
        raise ValueError("its columns are not of the lengths that it names")
    return updates


def _apply(table: NodeTable, update: dict[str, Any]) -> bool:
    """Add a block's part of one example, if it starts where that example stands, with the nodes that it has."""
    if update["base"] != table.stored or update["after"] not in (None, _digest(table, table.stored)):
        return False
    for i, node in enumerate(update["heard"]):
        _hear(table, node, update, i, "heard_")
    for i in range(update["new"]):
        node = update["base"] + i
        if node:
            table.add(update["parent"][i], update["token"][i])
        _hear(table, node, update, i, "")
    table.stored = len(table) if update["new"] else table.stored
    return True


def _hear(table: NodeTable, node: int, update: dict[str, Any], i: int, prefix: str) -> None:
    if not prefix and update["small_choice"][i] >= 0:
        table.hear_small(node, *(update[name][i] for name in _SMALL))
    if update[f"{prefix}large_choice"][i] >= 0:
        told = (update[f"{prefix}{name}"][i] for name in _LARGE)
        table.hear_large(node, *told)


class BlockFile:
    """One file of blocks, held by this process while it is open."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, lock it, and cut off a torn tail; a damaged block stays, so that nothing is lost."""
        self.path = path
        with writing(path, "what is in it is kept"):
            self._file = GrowingFile(path)
            try:
                if not lock_descriptor(self._file.file, blocking=False):
                    raise BildError(f"Another process is growing {path}: wait until it ends, or stop it; run again.")
                self._file.cut(_blocks(read_file(path))[1])
            except BaseException:
                self.close()
                raise

    def append(self, tables: Mapping[int, NodeTable]) -> None:
        """Store what came since the last block; all of it or, after a kill or on a full disk, nothing."""
        dirty = {index: table for index, table in tables.items() if table.dirty}
        if not dirty:
            return
        payload = _pack(dirty)
        with writing(self.path, "the nodes stored before are kept"):
            self._file.append(_HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload, fsync=True)
        for table in dirty.values():
            table.stored, table.heard = len(table), []

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
