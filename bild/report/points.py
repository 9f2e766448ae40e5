"""The tables of a section: its points on the terminal and in full, the predicted ones, what they were measured with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bild.report import format as words
from bild.report.predictions import ms_of, not_measured, quality_of, within
from bild.report.provenance import MARK, doubts
from bild.report.sections import Section
from bild.report.table import Column, Table, show_tables
from bild.results import Interval, Record
from bild.results.parts import Percentile
from bild.results.predicted import PredictedPoint
from bild.results.reading import ANCHORS, to_row

if TYPE_CHECKING:
    from bild.metrics.claims import Verdict

FRONT, CONFIRMED = "*", "✓"
Values = dict[str, Any]


def points_table(section: Section, brief: bool = False) -> Table:
    """Return all measured points with the ends of their intervals, and what a reader must know of each.

    `brief` is for a terminal: half widths in the place of ends, switches in a note.
    """
    on_front, marked = section.on_front(), doubts(section.records)
    values: list[Values] = []
    data: list[Values] = []
    for index, record in enumerate(section.records):
        name, found = section.names[record.hash], section.verdicts.get(record.hash)
        marks, own = "; ".join(marked[record.hash]), words.switches(record)
        sign = (FRONT if index in on_front else "") + (CONFIRMED if section.confirmed(record) else "")
        sign += MARK if marks and not brief else ""
        values.append(
            {"sign": sign, "label": name, **_values(section, record), "switches": own or None, "marks": marks}
        )
        data.append({**to_row(record), "label": name, "switches": own, "front": index in on_front})
        data[-1] |= {"marks": marks or None, "confirmed": section.confirmed(record), "margin": section.margin}
        data[-1] |= {"verdict": found and found.kind, "more": found and found.more}
    notes = footer(section)
    columns = _columns(section, values, words.plus_minus if brief else words.spread)
    if brief:
        notes = [*filter(None, [words.switches_note(section.records)]), *notes]
        return Table.of("table", section.title, columns, values, notes, 2, section.conditions)
    columns += [Column("switches", "switches"), Column("marks", "marks", lambda marks: marks or words.DASH)]
    if any(marked.values()):
        notes.append(
            f"{MARK} marked points: the last column says why. dirty: the code had uncommitted changes; "
            "stale: another commit than the newest point's."
        )
    table = Table.of("points", f"All points: {section.title}", columns, values, notes, 2)
    return dataclasses.replace(table, data=tuple(data))


def show(sections: Iterable[Section], notes: Iterable[str] = (), wide: bool = False) -> None:
    """Print sections as tables, then notes line by line."""
    show_tables((points_table(section, brief=True) for section in sections), notes, wide)


def _values(section: Section, record: Record) -> Values:
    """Return what the columns show of a record; None for what it does not have."""
    latency, counts, vanilla = record.latency, record.counts, record.method.name == "vanilla"
    alone, found = record.method.name in ANCHORS, latency.percentiles
    return {
        "score": record.headline,
        "difference": None if vanilla else section.difference(record),
        "verdict": section.verdicts.get(record.hash),
        "speedup": Interval(1.0, 1.0, 1.0) if vanilla else latency.speedup.total,
        "timed": latency.examples,
        "between": None if vanilla else record,
        "library": latency.library and latency.library.speedup,
        "ms_per_token": latency.ms_per_token,
        "percentiles": found and list(found.method.values()),
        "fallbacks": None if alone else counts.fallback_rate,
        "rollbacks": None if alone else counts.rollback_rate,
        "block": counts.tokens_per_large_pass if counts.large_passes else None,
    }


def _columns(section: Section, values: Sequence[Values], write: Callable[..., str]) -> list[Column]:
    """Return the columns of a section; the intervals of a column share their decimals."""

    def intervals(heading: str, name: str, rank: int = 0, signed: bool = False) -> Column:
        # A BLEU without a decimal looks like a guess.
        places = max(1, words.common_decimals(row[name] for row in values))
        return Column(heading, name, lambda interval: write(interval, places, signed), rank=rank)

    quality, timed = section.first.quality.examples, section.timed
    same = " to " not in timed
    columns = [
        Column("", "sign"),
        Column("method", "label"),
        intervals(f"{words.metric_name(section.first)}\nn={quality:,}", "score", 3),
        intervals("Δ to\nvanilla", "difference", signed=True),
        Column(f"within\n{section.margin:g}", "verdict", verdict_words),
        intervals(f"speedup\nn={timed}" if same else "speedup", "speedup"),
        Column("timed", "timed", "{:,}".format, rank=1),
        Column("sd be-\ntween\nsessions", "between", between_words, rank=2),
        intervals("over\ngenerate()", "library", 4),
        Column("ms per\ntoken", "ms_per_token", words.significant, rank=5),
        Column("ms per example\np50/p90/p99", "percentiles", _percentiles, rank=8),
        Column("fall-\nback %", "fallbacks", words.percent, rank=7),
        Column("roll-\nback %", "rollbacks", words.percent, rank=7),
        Column("tokens /\nlarge\npass", "block", words.significant, rank=6),
    ]
    return [column for column in columns if not (same and column.name == "timed")]


def verdict_words(found: Verdict) -> str:
    """Write `shown`, `refuted`, or `undecided +420`: about so many more examples would decide."""
    return f"{found.kind} +{found.more_words}" if found.kind == "undecided" and found.more else found.kind


def between_words(record: Record) -> str:
    """Write the standard deviation of the log speedup between sessions, and their number: `2.1 % (5)`."""
    count = len(record.latency.sessions) or record.sessions
    if record.latency.between is None:
        return words.plural(count, "session")
    return f"{100 * record.latency.between:.1f} % ({count})"


def _percentiles(found: Sequence[Percentile]) -> str:
    """Write `12/31/55?`: the question mark stands where there are too few examples to know an end."""
    marks = ("" if None not in (each.low, each.high) else "?" for each in found)
    return "/".join(f"{words.significant(each.value)}{mark}" for each, mark in zip(found, marks, strict=True))


def footer(section: Section) -> list[str]:
    """Say what a reader must know of the numbers: picks, conditions, intervals, signature, and every warning."""
    first, papers = section.first, section.papers
    versions = {(record.environment["git"]["sha"], record.environment["git"]["dirty"]) for record in section.records}
    code = ", ".join(
        f"{(sha or 'unknown')[:10]}{' with uncommitted changes' if dirty else ''}"
        for sha, dirty in sorted(versions, key=lambda version: (version[0] or "", bool(version[1])))
    )
    confirmed = f" {CONFIRMED} confirmed on examples that it was not chosen on." if section.looks else ""
    lines = [
        f"{FRONT} on the front of speedup and difference.{confirmed} Fastest shown within {section.margin:g} of "
        f"vanilla: {section.told(section.pick)}.{_unconfirmed(section)}",
        f"By point estimate, as the paper chose, fastest BiLD at no loss: {section.told(papers.no_loss)}; at a loss of "
        f"1 point at most: {section.told(papers.one_point)}.",
        quality_note(section),
        speed_note(section),
        f"±: the longer side of {words.interval_name(first)}. Fallbacks and rollbacks are per generated token.",
        f"{words.metric_name(first)}: {first.headline.signature}; git {code}",
    ]
    return lines + _warnings(section)


def _unconfirmed(section: Section) -> str:
    """Say that a pick was judged on the examples that it was picked on, where it was."""
    if section.pick is None or section.confirmed(section.pick):
        return ""
    return " Picked on these examples and not confirmed on others (bild sweep sweep.find=speedup does)."


def quality_note(section: Section) -> str:
    """Say what quality is of, and by which rule a loss is judged."""
    quality = section.first.quality
    where = f"{words.plural(quality.examples, 'example')}, "
    where += "decoded live" if quality.origin == "live" else "replayed in the decision tree"
    if settled := max(record.quality.settled for record in section.records):
        where += f" ({settled} within rounding: decided by a live decoding)"
    level, margin = 100 * section.first.intervals.confidence, f"{section.margin:g}"
    return (
        f"Quality: {where}. Within {margin}: shown where the lower one-sided {level:g} % end of the paired Δ is above "
        f"−{margin}, refuted where the upper one is below it; undecided +N: about N more examples."
    )


def speed_note(section: Section) -> str:
    """Say what speed is of, and whether its interval holds the state of the machine."""
    library = sorted({record.latency.library.examples for record in section.records if record.latency.library})
    text = (
        f"Speedup: total time of vanilla decoding by the large model on the same engine over that of the method, "
        f"{section.timed} timed examples, batch 1. {session_note(section)}"
    )
    if library:
        told = " or ".join(f"{count:,}" for count in library)
        how = "greedy decoding" if section.first.decode is None else "sampling"
        text += f" generate(): the library's own {how} by the large model, {told} examples."
    return text + texts_note(section)


def texts_note(section: Section) -> str:
    """Say how many texts of generate(), and of the exact methods, are vanilla's: of several records, the worst."""
    records = section.records
    library = [r.latency.library.texts for r in records if r.latency.library and r.latency.library.texts]
    exact = [record.texts for record in records if record.texts]
    return "".join(
        f" Texts of {whose} that are vanilla's: {min(texts, key=lambda each: each.equal / each.examples).words}."
        for whose, texts in (("generate()", library), ("exact methods", exact))
        if texts
    )


def session_note(section: Section) -> str:
    """Say whether the interval of a speedup holds the state of the machine."""
    counts = {len(record.latency.sessions) or record.sessions for record in section.records}
    if max(counts) == 1:
        return "1 session: the machine's state is not in the interval."
    if all(record.latency.between is None for record in section.records):
        return "The sessions are not told apart: the machine's state is not in the interval."
    return f"{' or '.join(map(str, sorted(counts)))} sessions, whose spread is in the interval."


def _warnings(section: Section) -> list[str]:
    told: dict[str, list[str]] = {}  # points that were measured side by side share their warnings
    for record in section.records:
        name = section.names[record.hash]
        for warning in record.warnings:
            told.setdefault(f"Warning: {warning}", []).append(name)
        if count := record.counts.truncated_sources:
            text = f"Note: {count:,} source{'' if count == 1 else 's'} cut at the length limit."
            told.setdefault(text, []).append(name)
    everywhere = len(section.records)
    lines = [text if len(names) == everywhere else f"{text} ({words.some(names)})" for text, names in told.items()]
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
            "label": words.label(point),
            "method": point.method.name,
            "max_draft": point.method.max_draft,
            "fb": point.threshold.fb,
            "rb": point.threshold.rb,
            "switches": words.switches(point) or None,
            "quality": quality_of(point),
            "difference": point.difference,
            "within": within(section, point),
            "speedup": point.speedup,
            "ms_per_example": ms_of(point),
            "measured": point not in hollow,
        }
        for point in sorted(predicted, key=lambda point: (-point.speedup.value, words.label(point)))
    ]
    columns = (
        Column("", "front", lambda front: FRONT if front else ""),
        Column("method", "label"),
        Column(f"{words.metric_name(section.first)} n={section.first.quality.examples:,}", "quality", words.spread),
        Column("Δ to vanilla", "difference", lambda interval: words.spread(interval, signed=True)),
        Column(f"within {section.margin:g}", "within", verdict_words, in_csv=False),
        Column("speedup", "speedup", words.spread),
        Column("ms per example", "ms_per_example", words.spread),
        Column("switches", "switches"),
        Column("measured too", "measured", lambda measured: "yes" if measured else "no"),
    )
    notes = (
        "Predicted, not timed: quality by replay in the decision tree (exact), times by calibrated prices.",
        f"{FRONT} on the predicted front.",
        "Verdicts on a whole grid are a first look: a claim about the best of many takes other examples.",
    )
    return Table.of("predicted", f"Predicted points: {section.title}", columns, values, notes, 2)
