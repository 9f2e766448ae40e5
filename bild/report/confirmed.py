"""Which points were confirmed, on examples that had no say in their choice: the ledger of searches tells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bild.decoding import settings, thresholds_of
from bild.report.format import setting_of
from bild.results import Record, config_hash

LEDGER = "confirmations.jsonl"
"""A line a look, in the folder of the pair: `split`, and `points`, the keys of the settings."""
Look = tuple[str, ...]
"""The hashes of the records that one confirmation looked at."""


def looks_of(records: Sequence[Record], folders: Mapping[str, Path]) -> tuple[Look, ...]:
    """Return the looks at records of these, in the order of the ledgers beside their folders."""
    folder_of_pair = dict.fromkeys(path.parent for path in folders.values())
    split = records[0].task.split
    told = [look for folder in folder_of_pair for look in _lines(folder / LEDGER) if look.get("split") == split]
    if not told:
        return ()
    keys = {key_of(record): record.hash for record in records}
    listed = (look["points"] for look in told if isinstance(look.get("points"), list))
    found = [tuple(keys[key] for key in points if key in keys) for points in listed]
    return tuple(filter(None, found))


def key_of(record: Record) -> str | None:
    """Return the key of a record's setting; None for a method or a rule that is not in the tables."""
    setting = setting_of(record)
    if setting is None:
        return None
    return config_hash({"method": settings(*setting), "threshold": thresholds_of(*setting)})


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a ledger; a torn one, which a kill leaves, is passed over."""
    found = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            look = json.loads(line)
        except ValueError:
            continue
        found += [look] if isinstance(look, dict) else []
    return found
