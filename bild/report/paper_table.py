"""The paper's Table 1 with our own figures beside it."""

from __future__ import annotations

from collections.abc import Sequence

from bild.decoding.names import number
from bild.report.published import (
    PaperRow,
    Reproduced,
    kind_of_pair,
    paper,
    paper_examples,
    reproduction,
    table1,
)
from bild.report.sections import Section
from bild.report.tables import Table
from bild.report.wording import DASH, decimals, half, machine_name, metric_name, spread
from bild.results import Interval, Record, Score

HEADINGS = (
    "task",
    "pair",
    "point",
    "(rb, fb)",
    "score: paper",
    "T4 repr.",
    "ours",
    "ours − paper",
    "inside?",
    "speedup: paper",
    "T4 repr.",
    "ours",
    "ours − paper",
    "inside?",
    "ours is",
)


def paper_table(sections: Sequence[Section]) -> Table | None:
    """Every row of the paper's Table 1 on the tasks of these sections, as often as a section has it; None without such.

    `inside?` says whether the paper's figure lies within our interval. The pairs are told by their names.
    """
    tasks = [task for task in paper()["table1"] if any(section.first.task.name == task for section in sections)]
    rows: list[tuple[str, ...]] = []
    data: list[dict[str, object]] = []
    for task in tasks:
        for row in table1(task):
            ours: list[Record | None] = [found for section in sections if (found := _ours(section, row))]
            for record in ours or [None]:
                rows.append(_cells(row, record))
                data.append(_data(row, record))
    if not rows:
        return None
    source, theirs = paper(), paper()["reproduction"]
    notes = (
        f"Paper: {source['source']}, on {source['machine']}. Speedups of different machines are shown, not compared: "
        "a difference there says as much of the machines as of the method.",
        f"T4 repr.: {theirs['source']}, on {theirs['machine']}; it ran BiLD {theirs['caveat']}, so its speedups are "
        "too low.",
        "inside?: whether the paper's figure lies within our interval, which speaks of the choice of examples only. "
        "Thresholds are those of the reproduction; the unaligned ones of wmt14 are unconfirmed.",
    )
    title = "The paper's Table 1, and the same measured here"
    return Table("table1", title, HEADINGS, tuple(rows), notes, names=4, data=tuple(data))


def _ours(section: Section, row: PaperRow) -> Record | None:
    """The record of a row: its task, pair and thresholds, the authors' rules before ours, drafts up to 10 first."""
    first = section.first
    kind = kind_of_pair(first.pair.name)
    if first.task.name != row.task or kind is None:
        return None
    if row.pick == "vanilla":
        return section.vanilla()
    if kind != row.pair:
        return None
    fitting = [
        record
        for record in section.records
        if record.method.name == "bild" and (record.threshold.fb, record.threshold.rb) == (row.fb, row.rb)
    ]
    return min(
        fitting, key=lambda r: (r.method.rules != "authors", r.method.max_draft != 10, r.label, r.hash), default=None
    )


def _theirs(row: PaperRow) -> Reproduced | None:
    """The reproduction's point of a row; of two with the same thresholds, the one on more examples."""
    pair = "vanilla" if row.pick == "vanilla" else row.pair
    fitting = [p for p in reproduction() if (p.task, p.pair, p.fb, p.rb) == (row.task, pair, row.fb, row.rb)]
    return max(fitting, key=lambda point: point.samples, default=None)


def _headline(task: str) -> str:
    return "bleu" if task in ("iwslt2017", "wmt14") else "rougeLsum"


def _cells(row: PaperRow, record: Record | None) -> tuple[str, ...]:
    theirs = _theirs(row)
    score = record.headline if record and record.quality.headline == _headline(row.task) else None
    speed = record.latency.speedup.total if record and row.pick != "vanilla" else None
    at = DASH if row.rb is None or row.fb is None else f"({number(row.rb)}, {number(row.fb)})"
    return (
        row.task,
        row.pair or DASH,
        row.pick,
        at + ("?" if row.unconfirmed else ""),
        f"{row.score:.2f}",
        f"{theirs.scores[_headline(row.task)]:.2f}" if theirs else DASH,
        *_beside(score, row.score),
        DASH if row.pick == "vanilla" else f"{row.speedup:.2f}",
        f"{theirs.speedup:.2f}" if theirs and row.pick != "vanilla" else DASH,
        *_beside(speed, row.speedup),
        _what(row, record),
    )


def _beside(ours: Interval | Score | None, theirs: float | None) -> tuple[str, str, str]:
    """Ours with its interval, the difference rounded like it, and whether theirs lies inside."""
    if ours is None or theirs is None:
        return DASH, DASH, DASH
    places = decimals(half(ours)) + 1
    inside = "yes" if ours.low <= theirs <= ours.high else "no"
    return spread(ours), f"{ours.value - theirs:+.{places}f}".replace("-", "−"), inside


def _what(row: PaperRow, record: Record | None) -> str:
    """What ours is: how many examples, under whose rules, on which machine; or the command that would make it."""
    if record is None:
        pick = "vanilla" if row.pick == "vanilla" else f"{row.pair}-rb{number(row.rb or 0)}-fb{number(row.fb or 0)}"
        return f"not run: experiment=paper/{row.task}-{pick}"
    full, count = paper_examples(row.task), record.latency.examples
    share = f"{count:,}" if count >= full else f"{count:,} of {full:,}"
    rules = f", rules={record.method.rules}" if record.method.rules else ""
    metric = "" if record.quality.headline == _headline(row.task) else f", {metric_name(record)}"
    split = "" if record.task.split == "validation" else f", {record.task.split} split"
    engine = f"{record.engine.name} {record.engine.dtype}"
    return f"{share} examples{split}{rules}{metric}, {engine}, {machine_name(record)}"


def _data(row: PaperRow, record: Record | None) -> dict[str, object]:
    theirs = _theirs(row)
    score = record.headline if record else None
    speed = record.latency.speedup.total if record else None
    return {
        "task": row.task,
        "pair": row.pair or None,
        "point": row.pick,
        "rb": row.rb,
        "fb": row.fb,
        "metric": _headline(row.task),
        "paper_score": row.score,
        "reproduction_score": theirs.scores[_headline(row.task)] if theirs else None,
        **_ends("our_score", score),
        "paper_speedup": row.speedup,
        "reproduction_speedup": theirs.speedup if theirs else None,
        **_ends("our_speedup", speed),
        "our_examples": record.latency.examples if record else None,
        "our_machine": machine_name(record) if record else None,
        "our_hash": record.hash if record else None,
    }


def _ends(name: str, interval: Interval | Score | None) -> dict[str, object]:
    ends = (interval.value, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
