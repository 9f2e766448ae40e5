"""The tables of a section: its points on the terminal and in full, the predicted ones, what they were measured with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bild.report.format import (
    DASH,
    common_decimals,
    interval_name,
    label,
    metric_name,
    percent,
    plus_minus,
    significant,
    some,
    spread,
    switches,
    switches_note,
)
from bild.report.predictions import ms_of, not_measured, quality_of
from bild.report.sections import MARK, Section
from bild.report.table import Column, Table, show_tables
from bild.results import Interval, Record, Score
from bild.results.pareto import ANCHORS
from bild.results.predicted import PredictedPoint
from bild.results.reading import to_row

FRONT = "*"
HEADINGS = (
    "Δ to\nvanilla",
    "speedup",
    "over\ngenerate()",
    "ms per\ntoken",
    "fall-\nback %",
    "roll-\nback %",
    "tokens /\nlarge\npass",
)

Write = Callable[[Interval | Score | None, int | None, bool], str]


def summary_table(section: Section) -> Table:
    """Return the section for a terminal: half widths in the place of intervals, switches in a note."""
    rows = [
        (FRONT if on_front else "", name, *cells)
        for on_front, name, cells in zip(_on_front(section), section.names(), _cells(section, plus_minus), strict=True)
    ]
    notes = [*filter(None, [switches_note(section.records)]), *footer(section)]
    headings = ("", "method", metric_name(section.first), *HEADINGS)
    return Table("table", section.title, headings, tuple(rows), tuple(notes), 2, subtitle=section.conditions)


def points_table(section: Section) -> Table:
    """Return all measured points with the ends of their intervals, and what a reader must know of each."""
    doubts = section.doubts()
    rows, data = [], []
    for record, on_front, name, cells in zip(
        section.records, _on_front(section), section.names(), _cells(section, spread), strict=True
    ):
        marks, own = "; ".join(doubts[record.hash]), switches(record)
        sign = (FRONT if on_front else "") + (MARK if marks else "")
        rows.append((sign, name, *cells, own or DASH, marks or DASH))
        data.append({**to_row(record), "label": name, "switches": own, "front": on_front, "marks": marks or None})
    notes = footer(section)
    if any(doubts.values()):
        notes.append(
            f"{MARK} marked points: the last column says why. dirty: the code had uncommitted changes; "
            "stale: another commit than the newest point's."
        )
    headings = ("", "method", metric_name(section.first), *HEADINGS, "switches", "marks")
    return Table("points", f"All points: {section.title}", headings, tuple(rows), tuple(notes), 2, tuple(data))


def show(sections: Iterable[Section], notes: Iterable[str] = ()) -> None:
    """Print sections as tables, then notes line by line."""
    show_tables(map(summary_table, sections), notes)


def _on_front(section: Section) -> list[bool]:
    found = section.on_front()
    return [index in found for index in range(len(section.records))]


def _cells(section: Section, write: Write) -> list[list[str]]:
    """Write the numbers of each record; the intervals of a column share their decimals."""
    records = section.records
    intervals: tuple[tuple[Sequence[Interval | Score | None], bool], ...] = (
        ([record.headline for record in records], False),
        ([None if record.method.name == "vanilla" else record.headline_difference for record in records], True),
        ([record.latency.speedup.total for record in records], False),
        ([record.latency.library.speedup if record.latency.library else None for record in records], False),
    )
    written = []
    for column, signed in intervals:
        places = max(1, common_decimals(column))  # a BLEU without a decimal looks like a guess
        written.append([write(interval, places, signed) for interval in column])
    return [[*cells, *_plain_cells(record)] for *cells, record in zip(*written, records, strict=True)]


def _plain_cells(record: Record) -> list[str]:
    counts = record.counts
    alone = record.method.name in ANCHORS
    return [
        significant(record.latency.ms_per_token),
        DASH if alone else percent(counts.fallback_rate),
        DASH if alone else percent(counts.rollback_rate),
        significant(counts.tokens_per_large_pass) if counts.large_passes else DASH,
    ]


def footer(section: Section) -> list[str]:
    """Say what a reader must know of the numbers: conditions, intervals, signature, picks, and every warning."""
    first, chosen, names = section.first, section.picks, section.names_by_hash()

    def pick(record: Record | None) -> str:
        return "none" if record is None else f"{names[record.hash]} ({plus_minus(record.latency.speedup.total)})"

    versions = {(record.environment["git"]["sha"], record.environment["git"]["dirty"]) for record in section.records}
    code = ", ".join(
        f"{(sha or 'unknown')[:10]}{' with uncommitted changes' if dirty else ''}"
        for sha, dirty in sorted(versions, key=lambda version: (version[0] or "", bool(version[1])))
    )
    lines = [
        f"{FRONT} on the Pareto front. Fastest BiLD at no loss: {pick(chosen.no_loss)}; "
        f"at a loss of 1 point at most: {pick(chosen.one_point)}.",
        f"Speedup: total time of vanilla decoding by the large model on the same engine over that of the method, "
        f"{section.size}, batch 1.",
        f"±: the longer side of {interval_name(first)}. Fallbacks and rollbacks are per generated token.",
        f"{metric_name(first)}: {first.headline.signature}; git {code}",
    ]
    libraries = {record.latency.library.examples for record in section.records if record.latency.library}
    if libraries:
        counts = " or ".join(f"{count:,}" for count in sorted(libraries))
        lines[1] += f" generate(): the library's own greedy decoding by the large model, {counts} examples."
    return lines + _warnings(section)


def _warnings(section: Section) -> list[str]:
    told: dict[str, list[str]] = {}  # points that were measured side by side share their warnings
    for name, record in zip(section.names(), section.records, strict=True):
        if record.latency.stationarity.warning:
            told.setdefault(f"Warning: {record.latency.stationarity.warning}", []).append(name)
        if count := record.counts.truncated_sources:
            text = f"Note: {count:,} source{'' if count == 1 else 's'} cut at the length limit."
            told.setdefault(text, []).append(name)
    everywhere = len(section.records)
    lines = [text if len(names) == everywhere else f"{text} ({some(names)})" for text, names in told.items()]
    if section.vanilla() is None:
        lines.append(
            "Note: vanilla has no record of its own here; the speedups are over each record's paired baseline."
        )
    return lines


def predicted_table(section: Section, predicted: Sequence[PredictedPoint]) -> Table | None:
    """Return the predicted points, apart from the measured ones; None without any."""
    if not predicted:
        return None
    hollow = not_measured(section, predicted)
    values = [
        {
            "front": point.front,
            "label": label(point),
            "method": point.method.name,
            "max_draft": point.method.max_draft,
            "fb": point.threshold.fb,
            "rb": point.threshold.rb,
            "switches": switches(point) or None,
            "quality": quality_of(point),
            "speedup": point.speedup,
            "ms_per_example": ms_of(point),
            "measured": point not in hollow,
        }
        for point in sorted(predicted, key=lambda point: (-point.speedup.value, label(point)))
    ]
    columns = (
        Column("", "front", lambda front: FRONT if front else ""),
        Column("method", "label"),
        Column(metric_name(section.first), "quality", spread),
        Column("speedup", "speedup", spread),
        Column("ms per example", "ms_per_example", spread),
        Column("switches", "switches"),
        Column("measured too", "measured", lambda measured: "yes" if measured else "no"),
    )
    notes = (
        "Predicted, not timed: quality by replay in the decision tree (exact), times by calibrated prices.",
        f"{FRONT} on the predicted front.",
    )
    return Table.of("predicted", f"Predicted points: {section.title}", columns, values, notes, 2)


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
