"""The tables of a section: its points on the terminal and in full, the predicted ones, what they were measured with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bild.report import format as words
from bild.report.predictions import ms_of, not_measured, quality_of, within
from bild.report.provenance import MARK, doubts
from bild.report.sections import Section
from bild.report.table import Column, Table, show_tables
from bild.results import Interval, Record
from bild.results.parts import Percentiles
from bild.results.predicted import PredictedPoint
from bild.results.reading import ANCHORS, to_row

if TYPE_CHECKING:
    from bild.metrics.claims import Verdict

FRONT, CONFIRMED = "*", "✓"


def points_table(section: Section, brief: bool = False) -> Table:
    """Return all measured points with the ends of their intervals, and what a reader must know of each.

    `brief` is for a terminal: half widths in the place of ends, switches in a note.
    """
    on_front = {section.records[index].hash for index in section.on_front()}
    marked = {name: "; ".join(reasons) for name, reasons in doubts(section.records).items()}

    def sign(record: Record) -> str:
        found = FRONT if record.hash in on_front else ""
        found += CONFIRMED if section.confirmed(record) else ""
        return found + MARK if marked[record.hash] and not brief else found

    columns = _columns(section, words.plus_minus if brief else words.spread, sign)
    notes = footer(section)
    if brief:
        notes = [*filter(None, [words.switches_note(section.records)]), *notes]
        return Table.of("table", section.title, columns, section.records, notes, 2, section.conditions)
    columns += [
        Column("switches", "switches", of=lambda record: words.switches(record) or None),
        Column("marks", "marks", of=lambda record: marked[record.hash] or words.DASH),
    ]
    if any(marked.values()):
        notes.append(
            f"{MARK} marked points: the last column says why. dirty: the code had uncommitted changes; "
            "stale: another commit than the newest point's."
        )
    data: list[dict[str, object]] = []
    for record in section.records:
        found, confirmed = section.verdicts.get(record.hash), section.confirmed(record)
        data.append(to_row(record) | {"label": section.names[record.hash], "switches": words.switches(record)})
        data[-1] |= {"front": record.hash in on_front, "marks": marked[record.hash] or None}
        data[-1] |= {"confirmed": confirmed, "margin": section.margin}
        data[-1] |= {"verdict": found and found.kind, "more": found and found.more}
    table = Table.of("points", f"All points: {section.title}", columns, section.records, notes, 2)
    return dataclasses.replace(table, data=tuple(data))


def show(sections: Iterable[Section], notes: Iterable[str] = (), wide: bool = False) -> None:
    """Print sections as tables, then notes line by line."""
    show_tables((points_table(section, brief=True) for section in sections), notes, wide)


def _columns(section: Section, write: Callable[..., str], sign: Callable[[Record], str]) -> list[Column]:
    """Return the columns of a section, empty for what a record does not have; the intervals of one share decimals."""

    def intervals(heading: str, name: str, of: Callable[[Record], Any], rank: int = 0, signed: bool = False) -> Column:
        # A BLEU without a decimal looks like a guess.
        places = max(1, words.common_decimals(map(of, section.records)))
        return Column(heading, name, lambda interval: write(interval, places, signed), rank=rank, of=of)

    def but_for(names: Sequence[str], of: Callable[[Record], Any]) -> Callable[[Record], Any]:
        return lambda record: None if record.method.name in names else of(record)

    def total(record: Record) -> Interval:
        return Interval(1.0, 1.0, 1.0) if record.method.name == "vanilla" else record.speedup

    quality, timed, first = section.first.quality.examples, section.timed, section.first
    same, vanilla = " to " not in timed, ANCHORS[:1]
    columns = [
        Column("", "sign", of=sign),
        Column("method", "label", of=lambda r: section.names[r.hash]),
        intervals(f"{words.metric_name(first)}\nn={quality:,}", "score", lambda r: r.headline, 3),
        intervals("Δ to\nvanilla", "difference", but_for(vanilla, section.difference), signed=True),
        Column(f"within\n{section.margin:g}", "verdict", verdict_words, of=lambda r: section.verdicts.get(r.hash)),
        intervals(f"speedup\nn={timed}" if same else "speedup", "speedup", total),
        Column("timed", "timed", "{:,}".format, rank=1, of=lambda r: r.latency.examples),
        Column("sd be-\ntween\nsessions", "between", between_words, rank=2, of=but_for(vanilla, lambda r: r)),
        intervals("over\ngenerate()", "library", lambda r: r.latency.library and r.latency.library.speedup, 4),
        Column("ms per\ntoken", "ms_per_token", words.significant, rank=5, of=lambda r: r.latency.ms_per_token),
        Column("ms per example\np50/p90/p99", "percentiles", _percentiles, rank=8, of=lambda r: r.latency.percentiles),
        Column(
            "fall-\nback %", "fallbacks", words.percent, rank=7, of=but_for(ANCHORS, lambda r: r.counts.fallback_rate)
        ),
        Column(
            "roll-\nback %", "rollbacks", words.percent, rank=7, of=but_for(ANCHORS, lambda r: r.counts.rollback_rate)
        ),
        Column("tokens /\nlarge\npass", "block", words.significant, rank=6, of=_block),
    ]
    return [column for column in columns if not (same and column.name == "timed")]


def _block(record: Record) -> float | None:
    return record.counts.tokens_per_large_pass if record.counts.large_passes else None


def verdict_words(found: Verdict) -> str:
    """Write `shown`, `refuted`, or `undecided +420`: about so many more examples would decide."""
    return f"{found.kind} +{found.more_words}" if found.kind == "undecided" and found.more else found.kind


def between_words(record: Record) -> str:
    """Write the standard deviation of the log speedup between sessions, and their number: `2.1 % (5)`."""
    count = len(record.latency.sessions) or record.sessions
    if record.latency.between is None:
        return words.plural(count, "session")
    return f"{100 * record.latency.between:.1f} % ({count})"


def _percentiles(found: Percentiles) -> str:
    """Write `12/31/55?`: the question mark stands where there are too few examples to know an end."""
    told = ((each.value, "?" if None in (each.low, each.high) else "") for each in found.method.values())
    return "/".join(f"{words.significant(value)}{mark}" for value, mark in told)


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
        f"±: the longer side of {words.interval_name(first)}; ±?: not known of one example, or of several that are all "
        "alike. Fallbacks and rollbacks are per generated token.",
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
        return "The sessions are not distinguished: the machine's state is not in the interval."
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
    hollow, examples = not_measured(section, predicted), section.first.quality.examples
    points = sorted(predicted, key=lambda point: (-point.speedup.value, words.label(point)))
    columns = (
        Column("", "front", lambda front: FRONT if front else "", of=lambda p: p.front),
        Column("method", "label", of=words.label),
        Column(None, "method", of=lambda p: p.method.name),
        Column(None, "max_draft", of=lambda p: p.method.max_draft),
        Column(None, "fb", of=lambda p: p.threshold.fb),
        Column(None, "rb", of=lambda p: p.threshold.rb),
        Column(None, "switches", of=lambda p: words.switches(p) or None),
        Column(f"{words.metric_name(section.first)} n={examples:,}", "quality", words.spread, of=quality_of),
        Column("Δ to vanilla", "difference", partial(words.spread, signed=True), of=lambda p: p.difference),
        Column(f"within {section.margin:g}", "within", verdict_words, in_csv=False, of=partial(within, section)),
        Column("speedup", "speedup", words.spread, of=lambda p: p.speedup),
        Column("ms per example", "ms_per_example", words.spread, of=ms_of),
        Column("switches", "differing", in_csv=False, of=lambda p: words.switches(p) or None),
        Column("measured too", "measured", lambda measured: "yes" if measured else "no", of=lambda p: p not in hollow),
    )
    notes = (
        "Predicted, not timed: quality by replay in the decision tree (exact), times by calibrated prices.",
        f"{FRONT} on the predicted front.",
        "Verdicts on a whole grid are a first look: a claim about the best of many takes other examples.",
    )
    return Table.of("predicted", f"Predicted points: {section.title}", columns, points, notes, 2)
