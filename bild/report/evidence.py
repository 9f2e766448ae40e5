"""The examples and rounds behind a record, for the figures that need more than its sums; read once, only when asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bild.errors import BildError
from bild.report.sections import Section
from bild.results import Record, Sample, read_samples, read_traces
from bild.results.pareto import ANCHORS, picks

Rounds = list[dict[str, Any]]


def samples_of(section: Section, record: Record) -> list[Sample] | None:
    """The examples of a record, or None where its folder is not known, empty or damaged."""
    folder = section.folders.get(record.hash)
    return None if folder is None else _samples(folder, _stamp(folder, "samples.jsonl"))


def rounds_of(section: Section, record: Record) -> list[Rounds] | None:
    """The rounds of each example of a record, or None where the trace is not there or damaged."""
    folder = section.folders.get(record.hash)
    return None if folder is None else _rounds(folder, _stamp(folder, "trace.jsonl.gz"))


def telling(section: Section, most: int, methods: Iterable[str] | None = None) -> list[Record]:
    """At most so many points that stand for the section: the picks, then the front from fast to slow, then the rest."""
    chosen, front = picks(section.records), section.on_front()
    wanted = None if methods is None else set(methods)
    first = [record for record in (chosen.no_loss, chosen.one_point) if record is not None]
    on_front = [record for index, record in enumerate(section.records) if index in front]
    found: list[Record] = []
    for record in (*first, *on_front, *section.records):
        fits = record.method.name not in ANCHORS if wanted is None else record.method.name in wanted
        if fits and record not in found:
            found.append(record)
    return _in_order(section, found[:most])


def _in_order(section: Section, records: Sequence[Record]) -> list[Record]:
    return [record for record in section.records if record in records]


def _stamp(folder: Path, name: str) -> int:
    try:
        return (folder / name).stat().st_mtime_ns
    except OSError:
        return -1


@lru_cache(maxsize=64)
def _samples(folder: Path, stamp: int) -> list[Sample] | None:
    try:
        return (read_samples(folder) or None) if stamp >= 0 else None
    except BildError:
        return None


@lru_cache(maxsize=64)
def _rounds(folder: Path, stamp: int) -> list[Rounds] | None:
    try:
        return (list(read_traces(folder).values()) or None) if stamp >= 0 else None
    except BildError:
        return None
