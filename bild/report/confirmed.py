"""Which points were confirmed, on examples that had no say in their choice: the ledger of searches tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bild.decoding import settings, thresholds_of
from bild.report.format import setting_of
from bild.results import Record, config_hash
from bild.results.codec import read_lines
from bild.results.predicted import LEDGER, LedgerEntry

Together = tuple[str, ...]
"""The hashes of the records that one confirmation looked at."""


def looks_of(records: Sequence[Record], folders: Mapping[str, Path]) -> tuple[Together, ...]:
    """Return the looks at records of these, in the order of the ledgers beside their folders."""
    ledgers = dict.fromkeys(path.parent / LEDGER for path in folders.values())
    looks = [look for ledger in ledgers for look in read_lines(LedgerEntry, ledger)]
    looks = [look for look in looks if look.judged == records[0].quality.data]
    keys = {key_of(record): record.hash for record in records} if looks else {}
    found = [tuple(keys[key] for key in look.points if key in keys) for look in looks]
    return tuple(filter(None, found))


def key_of(record: Record) -> str | None:
    """Return the key of a record's setting; None for a method or a rule that is not in the tables."""
    setting = setting_of(record)
    if setting is None:
        return None
    return config_hash({"method": settings(*setting), "threshold": thresholds_of(*setting)})
