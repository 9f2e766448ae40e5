"""Which files of a folder or of a hub repository hold a split, told from their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from bild.errors import BildError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
_ALIASES = {"validation": ("val", "valid", "dev")}
_NOT_DATA = {"dataset_infos.json", "dataset_info.json", "state.json"}  # descriptions that stand beside the data

# In order of preference. A split that several layouts have is read from the first of them only.
_LAYOUTS = (
    r"(?P<split>\w+)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet",  # parquet shards, as `datasets` uploads them
    r"(?P<split>\w+)/\d{4}\.parquet",  # the hub's own conversion, on refs/convert/parquet
    *(rf"(?P<split>\w+){re.escape(suffix)}" for suffix in SUFFIXES),
)
_SHARD = re.compile(r"-\d{5}-of-(\d{5})")


def splits_in(names: Iterable[str], config: str | None) -> dict[str, tuple[str, ...]]:
    """Group file names (relative, with "/") into splits, each with its files in reading order.

    With a `config` only its folder counts; without one the root, `data/` and `default/`.
    """
    folders = (re.escape(config) + "/",) if config else ("", "data/", "default/")
    patterns = [re.compile(folder + layout) for folder in folders for layout in _LAYOUTS]
    found: dict[str, dict[int, list[str]]] = {}
    for name in sorted(names):
        if PurePosixPath(name).name in _NOT_DATA:
            continue
        for rank, pattern in enumerate(patterns):
            if match := pattern.fullmatch(name):
                found.setdefault(match["split"], {}).setdefault(rank, []).append(name)
                break
    return {split: tuple(by_rank[min(by_rank)]) for split, by_rank in sorted(found.items())}


def files_of(names: Iterable[str], config: str | None, patterns: dict[str, str], split: str) -> tuple[str, ...]:
    """Name the files of a split, in reading order; none where the split is not there.

    `patterns` (task.files: split -> file name, `*` allowed) wins over the known layouts. `validation` is also found
    under the names val, valid and dev.
    """
    names = tuple(names)
    if patterns:
        wanted = patterns.get(split)
        return tuple(sorted(name for name in names if wanted is not None and fnmatchcase(name, wanted)))
    known = splits_in(names, config)
    for candidate in (split, *_ALIASES.get(split, ())):
        if candidate in known:
            return known[candidate]
    return ()


def refuse_missing_shards(files: tuple[str, ...], where: str) -> None:
    """Raise BildError where a file name says "of 00003" and fewer files are there."""
    for name in files:
        shard = _SHARD.search(name)
        if shard and len(files) != int(shard[1]):
            raise BildError(
                f"{where} has {len(files)} of the {int(shard[1])} files that {name} belongs to: "
                "the download is incomplete, fetch it again."
            )
