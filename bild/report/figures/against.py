"""Measured against predicted latency: how far the prices of a sweep can be trusted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bild.report.figure import Missing, Sheet
from bild.report.figures.series import dots, look_handles, plain
from bild.report.format import plural
from bild.report.layout import Words, open_frame
from bild.report.looks import key, looks
from bild.report.predictions import ms_of, setting
from bild.report.sections import Section
from bild.report.style import Theme
from bild.results import Record
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Measured against predicted latency"
BAND = 0.1
Both = tuple[Record, PredictedPoint]


def against_sheet(section: Section, predicted: Sequence[PredictedPoint]) -> Sheet | Missing:
    """Every point that was both predicted and measured; Missing where there is none."""
    both = matched(section, predicted)
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


def matched(section: Section, predicted: Sequence[PredictedPoint]) -> list[Both]:
    """The records that a prediction speaks of: the same switches and thresholds."""
    guesses = {setting(point): point for point in predicted}
    return [(record, guesses[setting(record)]) for record in section.records if setting(record) in guesses]


def _draw(section: Section, both: list[Both], words: str, theme: Theme, width: str) -> Figure:
    from matplotlib.patches import Patch

    shown = looks([key(record) for record, _ in both], theme)
    legend = look_handles(shown)
    legend.append(Patch(facecolor=theme.hair, alpha=0.4, label="within 10 %"))
    title = Words(f"{TITLE}: {section.title}", section.conditions, words[0].upper() + words[1:])
    frame = open_frame(theme, width, title, legend, heights=(2.9,), left=0.62, right=0.2)
    axes = frame.panels[0]
    spans = [
        end
        for record, guess in both
        for end in (record.latency.ms_per_example.low, record.latency.ms_per_example.high, ms_of(guess).value)
    ]
    low, high = 0.93 * min(spans), 1.05 * max(spans)
    axes.fill_between(
        [low, high],
        [low * (1 - BAND), high * (1 - BAND)],
        [low * (1 + BAND), high * (1 + BAND)],
        color=theme.hair,
        alpha=0.3,
        linewidth=0,
    )
    axes.plot([low, high], [low, high], color=theme.edge, linewidth=0.8)
    for record, guess in both:
        look, own, x = shown[key(record)], record.latency.ms_per_example, ms_of(guess).value
        axes.plot([x, x], [own.low, own.high], color=look.color, linewidth=0.7, alpha=0.5)
        axes.plot(
            [ms_of(guess).low, ms_of(guess).high],
            [own.value] * 2,
            color=look.color,
            linewidth=0.7,
            alpha=0.5,
        )
        dots(axes, [(x, own.value)], look.color, look.marker, look.size, theme, zorder=2)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    plain(axes, theme)
    axes.set_xlabel("predicted ms per example")
    axes.set_ylabel("measured ms per example")
    return frame.figure
