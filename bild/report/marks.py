"""What a reader must know of a point before trusting it: uncommitted changes, other code, a busy machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bild.report.format import plural
from bild.report.sections import Section
from bild.results import Record

MARK = "†"


def marks(section: Section) -> dict[str, tuple[str, ...]]:
    """By the hash of a record: why it is marked, each reason a few words. Empty for a point without a doubt."""
    commit = usual_commit(section.records)
    return {record.hash: tuple(reasons(record, commit)) for record in section.records}


def usual_commit(records: Sequence[Record]) -> str | None:
    """The commit that the newest record was measured with; the other records are stale beside it."""
    newest = max(records, key=lambda record: (record.created, record.hash))
    sha = newest.environment["git"]["sha"]
    return None if sha is None else str(sha)


def reasons(record: Record, commit: str | None) -> list[str]:
    """`dirty`: uncommitted changes. `stale`: another commit than `commit`. And what the run itself warned of."""
    git = record.environment["git"]
    found = []
    if git["dirty"]:
        found.append("dirty: measured with uncommitted changes")
    if git["sha"] is None:
        found.append("commit unknown")
    elif commit is not None and git["sha"] != commit:
        found.append(f"stale: measured at {git['sha'][:10]}, the newest point at {commit[:10]}")
    if record.latency.stationarity.warning:
        found.append(f"drift: the baseline's pace changed by {100 * record.latency.stationarity.drift:+.0f} %")
    if record.environment.get("busy"):
        found.append("busy: the machine had other work when the run began")
    if record.sessions > 1:
        found.append(f"resumed: {plural(record.sessions, 'session')}")
    return found


def summary(section: Section) -> str:
    """One sentence for a figure's caption, or nothing: `† 3 points: dirty (3), stale (1).`"""
    found = marks(section)
    marked = [given for given in found.values() if given]
    if not marked:
        return ""
    kinds = Counter(reason.partition(":")[0] for given in marked for reason in given)
    which = "all points" if len(marked) == len(section.records) and len(marked) > 1 else plural(len(marked), "point")
    told = ", ".join(f"{kind} ({count})" if len(marked) > 1 else kind for kind, count in sorted(kinds.items()))
    return f"{MARK} {which}: {told}; see the table."
