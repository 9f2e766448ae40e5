"""Measured against predicted latency: how far the prices of a sweep can be trusted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bild.report.figure import Missing, Sheet
from bild.report.figures.common import axis_names, cross, dots, look_handles
from bild.report.format import legend, plural, switches_note
from bild.report.layout import open_frame, words_of
from bild.report.predictions import ms_of, setting
from bild.report.sections import Section
from bild.report.style import Theme, looks
from bild.results import Record
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Measured against predicted latency"
BAND = 0.1
Both = tuple[Record, PredictedPoint]


def predicted_sheet(section: Section, predicted: Sequence[PredictedPoint]) -> Sheet | Missing:
    """Return every point that was both predicted and measured; Missing where there is none."""
    guesses = {setting(point): point for point in predicted}
    both = [(record, guesses[setting(record)]) for record in section.records if setting(record) in guesses]
    if not both:
        first = section.first
        command = f"python -m bild.sweep task={first.task.name} model={first.pair.name}"
        why = "no predicted point was measured" if predicted else "no sweep has predicted points here"
        return Missing(TITLE, why, command)
    errors = [ms_of(guess).value / record.latency.ms_per_example.value - 1 for record, guess in both]
    words = (
        f"{plural(len(both), 'point')}; predicted less measured: {100 * statistics.median(errors):+.1f} % (median), "
        f"at most {100 * max(map(abs, errors)):.1f} % off."
    )
    return Sheet("predicted", TITLE, words, lambda theme, width: _draw(section, both, words, theme, width))


def _draw(section: Section, both: list[Both], words: str, theme: Theme, width: str) -> Figure:
    from matplotlib.patches import Patch

    records = [record for record, _ in both]
    shown = looks(map(legend, records), theme)
    handles = [*look_handles(shown), Patch(facecolor=theme.hair, alpha=0.4, label="within 10 %")]
    title = words_of(section, TITLE, f"{words} Bars: both intervals. {switches_note(records)}")
    frame = open_frame(theme, width, title, handles, heights=(2.9,), left=0.62, right=0.2)
    axes = frame.panels[0]
    spans = [span for record, guess in both for span in (record.latency.ms_per_example, ms_of(guess))]
    ends = [end for span in spans for end in (span.low, span.high)]
    low, high = 0.93 * min(ends), 1.05 * max(ends)
    below, above = ([low * edge, high * edge] for edge in (1 - BAND, 1 + BAND))
    axes.fill_between([low, high], below, above, color=theme.hair, alpha=0.3, linewidth=0)
    axes.plot([low, high], [low, high], color=theme.edge, linewidth=0.8)
    for record, guess in both:
        look, own, theirs = shown[legend(record)], record.latency.ms_per_example, ms_of(guess)
        cross(axes, theirs, own, look.color, alphas=(0.5, 0.5))
        dots(axes, [(theirs.value, own.value)], look.color, look.marker, look.size, theme, zorder=2)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axis_names(axes, "predicted ms per example", "measured ms per example", theme)
    return frame.figure
