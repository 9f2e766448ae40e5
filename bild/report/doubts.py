"""Why a point is marked: what its own record says against it, and what confirmed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bild.decoding import settings, thresholds_of
from bild.report.format import plural, setting_of
from bild.results import Record, config_hash
from bild.results.codec import read_lines
from bild.results.predicted import LEDGER, LedgerEntry
from bild.results.record import overrun

MARK = "†"
Together = tuple[str, ...]
"""The hashes of the records that one confirmation looked at."""


def doubts(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Return by the hash of a record why it is marked, each reason a few words; empty for a point without a doubt.

    The commit of the newest record is the usual one: the records of other commits are stale beside it.
    """
    newest = max(records, key=lambda record: (record.created, record.hash))
    commit = newest.environment["git"]["sha"]
    return {record.hash: tuple(_reasons(record, commit)) for record in records}


def doubts_note(records: Sequence[Record]) -> str:
    """Return a sentence for a figure, or nothing: `† 3 points: dirty (3), stale (1); see the table.`"""
    marked = [given for given in doubts(records).values() if given]
    if not marked:
        return ""
    kinds = Counter(reason.partition(":")[0] for given in marked for reason in given)
    every = len(marked) == len(records) and len(marked) > 1
    told = ", ".join(f"{kind} ({count})" if len(marked) > 1 else kind for kind, count in sorted(kinds.items()))
    return f"{MARK} {'all points' if every else plural(len(marked), 'point')}: {told}; see the table."


def _reasons(record: Record, commit: str | None) -> list[str]:
    """Say why to doubt a record: uncommitted changes, another commit than `commit`, what the run itself warned of."""
    git, steady = record.environment["git"], record.latency.stationarity
    found = ["dirty: measured with uncommitted changes"] if git["dirty"] else []
    if git["sha"] is None:
        found.append("commit unknown")
    elif commit is not None and git["sha"] != commit:
        found.append(f"stale: measured at {git['sha'][:10]}, the newest point at {commit[:10]}")
    if steady.warning:
        found.append(f"drift: the baseline's pace changed by {100 * steady.drift:+.0f} %")
    if overrun(record.counts):
        found.append("passes: more was run or captured than the method needs")
    library = record.latency.library and record.latency.library.texts
    for whose, texts in (("the library", library), ("vanilla", record.texts)):
        if texts and texts.warning("", record.engine.dtype):
            found.append(f"texts: {texts.words} are those of {whose}")
    if record.method.name != "vanilla" and record.headline_difference is None:
        found.append("unpaired: its difference to vanilla was not recorded")
    if record.environment.get("busy"):
        found.append("busy: the machine had other work when the run began")
    if record.sessions > 1 and not record.latency.sessions:
        found.append(f"resumed: {plural(record.sessions, 'session')}, which its interval does not hold")
    found += [f"session {each.number}: {each.note}" for each in record.latency.sessions if each.note]
    return found


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
