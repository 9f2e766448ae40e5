"""The tables of a section: all its points, and what they were measured with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bild.report.format import DASH, metric_name, spread
from bild.report.marks import MARK, marks
from bild.report.predictions import ms_of, not_measured, quality_of
from bild.report.record_table import FRONT, columns, footer
from bild.report.sections import Section
from bild.report.table import Table
from bild.results import Record
from bild.results.predicted import PredictedPoint
from bild.results.reading import to_row


def points_table(section: Section) -> Table:
    """All measured points with the ends of their intervals, and what a reader must know of each."""
    doubts = marks(section)
    names, rows = columns(section, spread)
    on_front = section.on_front()
    written = tuple(
        (
            f"{FRONT if starred else ''}{MARK if doubts[record.hash] else ''}",
            name,
            *cells,
            "; ".join(doubts[record.hash]) or DASH,
        )
        for (starred, name, cells), record in zip(rows, section.records, strict=True)
    )
    notes = [*footer(section)]
    if any(doubts.values()):
        notes.append(
            f"{MARK} marked points: the last column says why. dirty: the code had uncommitted changes; "
            "stale: another commit than the newest point's."
        )
    data: tuple[dict[str, object], ...] = tuple(
        {**to_row(record), "front": index in on_front, "marks": "; ".join(doubts[record.hash]) or None}
        for index, record in enumerate(section.records)
    )
    return Table(
        "points", f"All points: {section.title}", ("", "method", *names, "marks"), written, tuple(notes), 2, data
    )


def predicted_table(section: Section, predicted: tuple[PredictedPoint, ...]) -> Table | None:
    """The predicted points, apart from the measured ones; None without any."""
    if not predicted:
        return None
    hollow = not_measured(section, predicted)
    ordered = sorted(predicted, key=lambda point: (-point.speedup.value, point.label))
    rows = tuple(
        (
            "*" if point.front else "",
            point.label,
            spread(quality_of(point)),
            spread(point.speedup),
            spread(ms_of(point)),
            "no" if point in hollow else "yes",
        )
        for point in ordered
    )
    data: tuple[dict[str, object], ...] = tuple(
        {
            "label": point.label,
            "method": point.method.name,
            "rules": point.method.rules,
            "max_draft": point.method.max_draft,
            "fb": point.threshold.fb,
            "rb": point.threshold.rb,
            "quality": point.quality.score,
            "quality_low": point.quality.low,
            "quality_high": point.quality.high,
            "speedup": point.speedup.value,
            "speedup_low": point.speedup.low,
            "speedup_high": point.speedup.high,
            "ms_per_example": 1e3 * point.seconds.mean,
            "measured": point not in hollow,
            "front": point.front,
        }
        for point in ordered
    )
    headings = ("", "method", metric_name(section.first), "speedup", "ms per example", "measured too")
    notes = (
        "Predicted, not timed: quality by replay in the decision tree (exact), times by calibrated prices.",
        "* on the predicted front.",
    )
    return Table("predicted", f"Predicted points: {section.title}", headings, rows, notes, 2, data)


def environment_table(section: Section) -> Table:
    """What the points were measured on and with; where they differ, every value."""
    values: dict[str, dict[str, None]] = {}
    for record in section.records:
        for name, value in _environment(record):
            values.setdefault(name, {})[value] = None
    rows = tuple((name, "; ".join(found)) for name, found in values.items())
    return Table("environment", f"Measured with: {section.title}", ("what", "value"), rows, names=2)


def signatures_table(section: Section) -> Table:
    """How every score was computed: the signatures of BLEU, chrF and ROUGE."""
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
        if name not in ("git", "state", "state_after", "load", "busy")
    }
    return found + [(name, str(value)) for name, value in _flat(rest)]


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in values.items():
        rows += _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else [(f"{before}{name}", value)]
    return rows
