"""How far the predictions of a sweep can be trusted: measured against predicted, speedups and milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bild.report.figure import Missing, Sheet, Theme, looks
from bild.report.format import legend, plural, switches_note
from bild.report.labels import halo
from bild.report.layout import axis_names, cross, dots, handle, look_handles, open_frame, span, speedup_axis, words_of
from bild.report.predictions import setting
from bild.report.sections import Section
from bild.results import Interval, Record
from bild.results.predicted import Agreement, Forecast, Judgement, PredictedPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PREDICTED = "Measured against predicted"
BAND = 0.1
"""Off by less than this share, a prediction lies in the band of the figure."""
Pair = tuple[Record, PredictedPoint, Agreement]


def predicted_sheet(section: Section, predicted: Sequence[PredictedPoint]) -> Sheet | Missing:
    """Return every point that was both predicted and measured, but for vanilla; Missing where there is none."""
    guesses = {setting(point): point for point in predicted}
    both = [
        (record, guess, agreement_of(record, guess))
        for record in section.records
        if record.method.name != "vanilla" and (guess := guesses.get(setting(record)))
    ]
    if not both:
        why = "no predicted point was measured" if predicted else "no sweep of just these examples has predicted points"
        return Missing(PREDICTED, why, section.command("sweep"))
    words = judged(both)
    return Sheet(
        "predicted", PREDICTED, words, lambda theme, width: _draw_predicted(section, both, words, theme, width)
    )


def agreement_of(record: Record, point: PredictedPoint) -> Agreement:
    """Return the prediction of before the measurement beside it, on the same examples if the sweep measured the point.

    Else the prediction is over all examples, and the record's own ones are a part of them.
    """
    if point.agreement is not None:
        return point.agreement
    guess = point.before or Forecast(point.seconds, point.speedup)
    own, seconds = record.latency.speedup.total, record.latency.ms_per_example.value / 1e3
    inside = guess.speedup.low <= own.high and own.low <= guess.speedup.high
    settled = (point.speedup.value, point.seconds.mean) if point.before else (None, None)
    return Agreement(record.latency.examples, guess.speedup.value, own, guess.seconds.mean, seconds, inside, *settled)


def judged(both: Sequence[Pair]) -> str:
    """Say how far the predictions were off: what all share, and what is left; and which were made when."""
    found = [agreement for _, _, agreement in both]
    before = [agreement for _, point, agreement in both if point.before is not None]
    text = f"{plural(len(both), 'point')}. Predicted over measured speedup: "
    parts = [
        f"{when}: bias {100 * told.bias:+.1f} % (mean), scatter {100 * told.scatter:.1f} % (sd about it)"
        for when, told in (
            ("before the measurement", Judgement.of(before)),
            ("settled by prices taken beside it", Judgement.of(found, settled=True)),
            ("settled beside the measurement, so no test", None if before else Judgement.of(found)),
        )
        if told is not None
    ]
    outside = sum(not agreement.inside for agreement in found)
    return f"{text}{'; '.join(parts)}. !: {outside} whose intervals do not meet."


def _draw_predicted(section: Section, both: Sequence[Pair], words: str, theme: Theme, width: str) -> Figure:
    from matplotlib.patches import Patch

    shown = looks((legend(record) for record, _, _ in both), theme)
    handles = [*look_handles(shown), Patch(facecolor=theme.hair, alpha=0.4, label="within 10 %")]
    if any(agreement.settled is not None for _, _, agreement in both):
        handles.append(handle("settled", theme.quiet, marker="x", markersize=4))
    note = f"{words} n = {section.timed} timed. {switches_note([record for record, _, _ in both])}"
    frame = open_frame(
        theme, width, words_of(section, PREDICTED, note), handles, heights=(2.6, 2.6), left=0.62, right=0.2
    )
    speeds = [(agreement.predicted, agreement.measured, agreement.settled) for _, _, agreement in both]
    _panel(frame.panels[0], both, speeds, theme, "predicted speedup", "measured speedup")
    speedup_axis(frame.panels[0], "predicted speedup")
    same = [pair for pair in both if pair[1].agreement or pair[0].latency.examples == pair[0].quality.examples]
    times = [
        (
            1e3 * agreement.predicted_seconds,
            _scaled(record.latency.ms_per_example, 1e3 * agreement.measured_seconds),
            agreement.settled_seconds and 1e3 * agreement.settled_seconds,
        )
        for record, _, agreement in same
    ]
    _panel(frame.panels[1], same, times, theme, "predicted ms per example", "measured ms per example")
    return frame.figure


def _panel(
    axes: Axes,
    both: Sequence[Pair],
    spans: Sequence[tuple[float, Interval, float | None]],
    theme: Theme,
    across: str,
    up: str,
) -> None:
    """Draw what was predicted, across, against what was measured, with the width that the prediction gave itself."""
    shown = looks((legend(record) for record, _, _ in both), theme)
    guesses = [
        _scaled(point.before.speedup if point.before else point.speedup, guess)
        for (_, point, _), (guess, _, _) in zip(both, spans, strict=True)
    ]
    low, high = span([*guesses, *(own for _, own, _ in spans)] or [Interval(1.0, 1.0, 1.0)], 0.5)
    low, high = 0.93 * low, 1.05 * high
    below, above = ([low * edge, high * edge] for edge in (1 - BAND, 1 + BAND))
    axes.fill_between([low, high], below, above, color=theme.hair, alpha=0.3, linewidth=0)
    axes.plot([low, high], [low, high], color=theme.edge, linewidth=0.8)
    for (record, _, agreement), guess, (_, own, settled) in zip(both, guesses, spans, strict=True):
        look = shown[legend(record)]
        cross(axes, guess, own, look.color, 0.5)
        dots(axes, [(guess.value, own.value)], look.color, look.marker, 0.8 * look.size, theme, zorder=2)
        if settled is not None:
            dots(axes, [(settled, own.value)], theme.quiet, "x", 3.5, theme, zorder=2.5, markeredgecolor=theme.quiet)
        if not agreement.inside:
            axes.text(1.01 * guess.value, own.value, "!", fontsize=9, color=look.ink, path_effects=halo(theme.paper))
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axis_names(axes, across, up, theme)


def _scaled(interval: Interval, value: float) -> Interval:
    """Return an interval of the same relative width around another value."""
    return Interval(value, value * interval.low / interval.value, value * interval.high / interval.value)
