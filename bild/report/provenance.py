"""The tables of what the points of a section were measured on and with, and of how their scores were computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bild.report.format import metric_name
from bild.report.sections import Section
from bild.report.table import Table
from bild.results import Record


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
