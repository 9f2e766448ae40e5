"""What is written around and about the front."""

from __future__ import annotations

from collections.abc import Sequence

from bild.report.format import interval_name, plural, plus_minus
from bild.report.layout import Words
from bild.report.marks import summary
from bild.report.published import Overlay, paper
from bild.report.sections import Section
from bild.results import Record
from bild.results.pareto import picks
from bild.results.predicted import PredictedPoint


def front_words(section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None, unplaced: int) -> Words:
    """Title, conditions, and the notes below the figure."""
    first = section.first
    notes = [
        f"n = {plural(first.latency.examples, 'example')}, batch size 1. Bars: {interval_name(first)}"
        + (
            f"; ellipses: speedup and quality jointly ({100 * first.intervals.confidence:g} %, same draws)."
            if any(record.joint for record in section.records)
            else "."
        ),
        "Speedup is the ratio of total times, encoders included; upper right is better.",
    ]
    if predicted:
        notes.append(f"Hollow: {plural(len(predicted), 'predicted point')} (replayed, priced, not timed).")
    if behind is not None:
        notes.append(overlay_note(behind))
    if summary(section):
        notes.append(summary(section))
    if unplaced:
        notes.append(f"{plural(unplaced, 'point')} without a label: see the table.")
    return Words(section.title, section.conditions, " ".join(notes))


def overlay_note(behind: Overlay | None = None) -> str:
    """That grey figures come from another machine, and what the reproduction did differently."""
    data = paper()
    note = f"Grey: measured by others on another machine ({data['machine']}), shown for orientation only"
    if behind is not None and behind.reproduced:
        note += f"; the reproduction ran BiLD {data['reproduction']['caveat']}"
    return f"{note}."


def front_caption(section: Section, predicted: Sequence[PredictedPoint], behind: Overlay | None) -> str:
    """The figure in words, for those who do not see it."""
    count = len(section.records)
    text = f"{plural(count, 'measured point')} of {section.title}; {len(section.on_front())} on the Pareto front."
    chosen = picks(section.records)
    names = section.names_by_hash()

    def told(record: Record | None) -> str:
        if record is None:
            return "none"
        return f"{names[record.hash]} at {plus_minus(record.latency.speedup.total)} times vanilla's speed"

    text += (
        f" Fastest BiLD at no loss: {told(chosen.no_loss)}; at a loss of one point at most: {told(chosen.one_point)}."
    )
    if predicted:
        text += f" {plural(len(predicted), 'predicted point')} are hollow."
    if behind is not None:
        text += f" {overlay_note(behind)}"
    return text
