"""What points were measured on and with, how their scores were computed, and why a point is marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bild.report.format import metric_name, plural
from bild.report.sections import Section
from bild.report.table import Table
from bild.results import Record
from bild.results.record import overrun

MARK = "†"


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


def environment_table(section: Section) -> Table:
    """Return what the points were measured on and with; where they differ, every value."""
    values: dict[str, dict[str, None]] = {}
    for record in section.records:
        for name, value in _environment(record):
            values.setdefault(name, {})[value] = None
    rows = tuple((name, "; ".join(found)) for name, found in values.items())
    return Table("environment", f"Measured with: {section.title}", ("what", "value"), rows, names=2)


def signatures_table(section: Section) -> Table:
    """Return how every score was computed: the signatures of BLEU, chrF and ROUGE."""
    found: dict[tuple[str, str], None] = {}
    for record in section.records:
        for name, score in record.quality.scores.items():
            found[metric_name(record, name), score.signature] = None
    return Table(
        "signatures", f"Signatures of the scores: {section.title}", ("score", "signature"), tuple(found), names=2
    )


def _environment(record: Record) -> list[tuple[str, str]]:
    task, engine, git = record.task, record.engine, record.environment["git"]
    found = [
        (
            "data",
            f"{task.data.get('where') or task.name}, {task.split}, "
            f"{record.latency.examples} of {task.data['total']} examples",
        ),
        ("data revision", str(task.data["revision"])),
        ("data hash", task.data["hash"][:16]),
        ("prompt", repr(task.prompt)),
        ("source and target limit", f"{task.source_limit} and {task.target_limit} tokens"),
    ]
    for name, model in (("large model", record.pair.large), ("small model", record.pair.small)):
        revision = f"@{model.revision}" if model.revision else ""
        found.append(
            (name, f"{model.source}{revision}, {model.parameters / 1e6:.1f} M parameters, {model.fingerprint[:12]}")
        )
    found += [
        ("engine", f"{engine.name}, {engine.dtype}, {engine.device}, {engine.threads} threads"),
        ("schema", str(record.schema)),
        ("git", f"{(git['sha'] or 'unknown')[:10]}{' (dirty)' if git['dirty'] else ''}"),
    ]
    rest = {
        name: value
        for name, value in record.environment.items()
        if name not in ("git", "state", "state_after", "load", "busy", "gpu")
    }
    return found + [(name, str(value)) for name, value in _flat(rest)]


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in values.items():
        rows += _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else [(f"{before}{name}", value)]
    return rows
