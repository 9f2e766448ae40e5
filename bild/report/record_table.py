"""The table of a section: for the terminal (100 columns are enough) and as Markdown, with a footer that explains it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from bild.report.format import (
    DASH,
    common_decimals,
    interval_name,
    metric_name,
    percent,
    plural,
    plus_minus,
    significant,
    spread,
)
from bild.report.sections import Section
from bild.report.table import escape_markdown
from bild.results import Interval, Record, Score
from bild.results.pareto import ANCHORS, picks

if TYPE_CHECKING:
    from rich.console import Group

FRONT = "*"
WIDTH = 100
GAP = 2
HEADINGS = (
    "Δ to\nvanilla",
    "speedup",
    "over\ngenerate()",
    "ms per\ntoken",
    "fall-\nback %",
    "roll-\nback %",
    "tokens /\nlarge\npass",
)

Row = tuple[bool, str, list[str]]
Write = Callable[[Interval | Score | None, int | None, bool], str]


def table(section: Section) -> Group:
    """The section for a terminal: title, table and footer as one rich renderable."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = _rows(section, plus_minus)
    headings = [metric_name(section.first), *HEADINGS]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True, show_edge=False)
    shown.add_column("  method", no_wrap=True)
    for heading in headings:
        shown.add_column(Text(heading), justify="right", no_wrap=True)
    columns = zip(headings, *(cells for _, _, cells in rows), strict=True)
    taken = sum(GAP + max(len(line) for text in column for line in text.split("\n")) for column in columns)
    for starred, name, cells in rows:
        lines = _fold(name, WIDTH - taken - len("* "))
        shown.add_row(Text(f"{FRONT if starred else ' '} " + "\n  ".join(lines)), *map(Text, cells))
    title = [Text(section.title, style="bold"), Text(section.conditions)]
    return Group(*title, shown, *(Text(line, style="dim") for line in footer(section)))


def markdown(section: Section) -> str:
    """The section as Markdown, with the ends of every interval."""
    names, found = columns(section, spread)
    rows = [("", "method", *names), (":-:", ":--", *("--:" for _ in names))]
    for starred, name, cells in found:
        rows.append((escape_markdown(FRONT) if starred else "", escape_markdown(name), *cells))
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = "\n".join(f"- {escape_markdown(line)}" for line in footer(section))
    return f"## {escape_markdown(section.title)}\n\n{escape_markdown(section.conditions)}\n\n{body}\n\n{notes}\n"


def columns(section: Section, write: Write) -> tuple[list[str], list[Row]]:
    """The headings on one line each, and the rows."""
    headings = [metric_name(section.first), *HEADINGS]
    return [name.replace("-\n", "").replace("\n", " ") for name in headings], _rows(section, write)


def _rows(section: Section, write: Write) -> list[Row]:
    """Per record: is it on the front, its name, its cells; the intervals of a column share their decimals."""
    records = section.records
    intervals = (
        ([record.headline for record in records], False),
        ([None if record.method.name == "vanilla" else record.headline_difference for record in records], True),
        ([record.latency.speedup.total for record in records], False),
        ([record.latency.library.speedup if record.latency.library else None for record in records], False),
    )
    written = []
    for column, signed in intervals:
        places = max(1, common_decimals(column))  # a BLEU without a decimal looks like a guess
        written.append([write(interval, places, signed) for interval in column])
    starred = section.on_front()
    return [
        (index in starred, name, [*(column[index] for column in written), *_plain_cells(record)])
        for index, (name, record) in enumerate(zip(section.names(), records, strict=True))
    ]


def footer(section: Section) -> list[str]:
    """What a reader must know of the numbers: conditions, intervals, signature, picks, and every warning."""
    first = section.first
    chosen = picks(section.records)
    names = section.names_by_hash()

    def pick(record: Record | None) -> str:
        if record is None:
            return "none"
        return f"{names[record.hash]} ({plus_minus(record.latency.speedup.total)})"

    lines = [
        f"{FRONT} on the Pareto front. Fastest BiLD at no loss: {pick(chosen.no_loss)}; "
        f"at a loss of 1 point at most: {pick(chosen.one_point)}.",
        f"Speedup: total time of vanilla decoding by the large model on the same engine over that of the method, "
        f"{plural(first.latency.examples, 'example')}, batch 1.",
        f"±: the longer side of {interval_name(first)}. Fallbacks and rollbacks are per generated token.",
        f"{metric_name(first)}: {first.headline.signature}; {_code(section)}",
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
        if record.counts.truncated_sources:
            cut = plural(record.counts.truncated_sources, "source")
            told.setdefault(f"Note: {cut} cut at the length limit.", []).append(name)
    everywhere = len(section.records)
    lines = [text if len(names) == everywhere else f"{text} ({_some(names)})" for text, names in told.items()]
    if section.vanilla() is None:
        lines.append(
            "Note: vanilla has no record of its own here; the speedups are over each record's paired baseline."
        )
    return lines


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _code(section: Section) -> str:
    versions = {(record.environment["git"]["sha"], record.environment["git"]["dirty"]) for record in section.records}
    shown = ", ".join(
        f"{(sha or 'unknown')[:10]}{' with uncommitted changes' if dirty else ''}"
        for sha, dirty in sorted(versions, key=lambda version: (version[0] or "", bool(version[1])))
    )
    return f"git {shown}"


def _plain_cells(record: Record) -> tuple[str, str, str, str]:
    counts = record.counts
    alone = record.method.name in ANCHORS
    return (
        significant(record.latency.ms_per_token),
        DASH if alone else percent(counts.fallback_rate),
        DASH if alone else percent(counts.rollback_rate),
        significant(counts.tokens_per_large_pass) if counts.large_passes else DASH,
    )


def _fold(name: str, width: int) -> list[str]:
    """A long name on several lines, broken after a hyphen, so that the table keeps to WIDTH."""
    lines = [""]
    for part in re.split(r"(?<=-)|(?= #)", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return lines
