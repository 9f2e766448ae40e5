"""The points of a section as the page shows them, and the grids of settings that its sliders turn."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bild.decoding import Setting, settings, thresholds_of
from bild.decoding import policies as names
from bild.decoding.methods import rules_named
from bild.decoding.policies import live_refusal
from bild.decoding.rules import KEEPS, STOPS
from bild.report.format import Named, group_name, keep_words, label, legend, own_switches, setting_of
from bild.report.format import switches as switches_words
from bild.report.points import between_words
from bild.report.predictions import difference_of, ms_of, not_measured, quality_of, within
from bild.report.provenance import doubts
from bild.report.sections import Section
from bild.results import Interval, Record
from bild.results.predicted import PredictedPoint

if TYPE_CHECKING:
    from bild.metrics.claims import Verdict

_MOST_RB = 1e9  # finite, because rb=inf would switch off a verdict, which the policy in the page sees to itself


def replayed(setting: Setting | None) -> bool:
    """Return whether a tree can replay a setting in rounds: one model alone has none, and no tree knows costs."""
    return setting is not None and setting[0].spec.stop is not None and setting[0].max_draft != "auto"


@dataclass(frozen=True)
class Grid:
    """One method under one set of switches, at all values of its thresholds that are replayed."""

    first: Setting
    """Any of its settings."""
    fbs: tuple[float | None, ...]
    """Fallback thresholds; None alone where the stop rule heeds none."""
    values: tuple[float | None, ...]
    """Values of the keep rule's own threshold; None alone where it has none."""

    def told(self) -> dict[str, Any]:
        """Return the grid for JSON."""
        stop, keep = rules_named(*self.first)
        switches = _switches(self.first)
        cap = "" if switches["top"] is None else f" and its rank is at most {switches['top']}"
        return {
            "name": group_name(*self.first),
            "rule": f"A draft ends when {STOPS[stop]}. A drafted token stands if {keep_words(keep)}{cap}.",
            "method": switches,
            "threshold": KEEPS[keep].threshold,
            "fbs": list(self.fbs),
            "values": ["inf" if value == math.inf else value for value in self.values],  # JSON has no infinity
        }


def grids_of(points: Sequence[Setting]) -> list[Grid]:
    """Return the settings that have rounds by their switches, in the order they come first."""
    found: dict[str, list[Setting]] = {}
    for point in filter(replayed, points):
        found.setdefault(json.dumps(_switches(point)), []).append(point)
    grids = []
    for same in found.values():
        fbs, values = zip(*map(_thresholds, same), strict=True)
        grids.append(Grid(same[0], tuple(sorted(set(fbs))), tuple(sorted(set(values)))))
    return grids


def place(grids: Sequence[Grid], point: Setting | None) -> dict[str, int] | None:
    """Return where a setting lies: the index of its grid, and those of its thresholds there; None off every grid."""
    if point is None or not replayed(point):
        return None
    fb, value = _thresholds(point)
    for index, grid in enumerate(grids):
        if _switches(grid.first) == _switches(point) and fb in grid.fbs and value in grid.values:
            return {"grid": index, "fb": grid.fbs.index(fb), "value": grid.values.index(value)}
    return None


def _switches(point: Setting) -> dict[str, Any]:
    """Return what the policy in the page needs: every switch as it will be used, and the cap on the rank."""
    method, threshold = point
    rb = None if threshold.rb is None else min(threshold.rb, _MOST_RB)
    values = thresholds_of(method, threshold)
    cap = values.get("top") if KEEPS[rules_named(method, threshold)[1]].threshold != "top" else None
    return settings(method, dataclasses.replace(threshold, rb=rb)) | {"top": cap}


def _thresholds(point: Setting) -> tuple[float | None, float | None]:
    """Return the fallback threshold and that of the keep rule."""
    values = thresholds_of(*point)
    return values.get("fb"), values.get(KEEPS[rules_named(*point)[1]].threshold or "")


def section_points(
    section: Section, predicted: Sequence[PredictedPoint] = (), grids: Sequence[Grid] = ()
) -> list[dict[str, Any]]:
    """Return all points, the measured ones first; a predicted one that was measured is left out."""
    marked, on_front = doubts(section.records), section.on_front()
    picks = (
        f"the fastest shown within {section.margin:g} of vanilla",
        "the fastest BiLD without a loss, by point estimate, as the paper chose",
        "the fastest BiLD at a loss of one point at most, by point estimate, as the paper chose",
    )
    points = [
        _point(section, record, section.names[record.hash], grids)
        | _told(section, record.speedup, record.headline, section.difference(record))
        | _verdict(section.verdicts.get(record.hash))
        | {
            "confirmed": section.confirmed(record),
            "measured": True,
            "ms": record.latency.ms_per_example.value,
            "timed": record.latency.examples,
            "sessions": between_words(record),
            "library": section.over_library(record),
            "front": index in on_front,
            "pick": next((told for pick, told in zip(section.picks, picks, strict=True) if pick is record), None),
            "marks": list(marked[record.hash]),
        }
        for index, record in enumerate(section.records)
    ]
    unknown = {"confirmed": False, "measured": False, "timed": 0, "sessions": None, "library": None, "pick": None}
    points += [
        _point(section, point, label(point), grids)
        | _told(section, point.speedup, quality_of(point), difference_of(section, point))
        | _verdict(within(section, point))
        | unknown
        | {
            "ms": ms_of(point).value,
            "front": point.front,
            "marks": [] if point.dropped is None else [f"Its measurement was given up: {point.dropped}."],
        }
        for point in not_measured(section, predicted)
    ]
    return [{"id": index, **point} for index, point in enumerate(points)]


def _point(section: Section, point: Named, name: str, grids: Sequence[Grid]) -> dict[str, Any]:
    return {
        "name": name,
        "key": legend(point),
        "rounds": point.method.max_draft is not None,
        "switches": switches_words(point),
        "command": command_of(section, point),
        "tokensPerLargePass": point.counts.tokens_per_large_pass,
        "fallbackRate": point.counts.fallback_rate,
        "rollbackRate": point.counts.rollback_rate,
        "at": place(grids, setting_of(point)),
    }


def command_of(section: Section, point: Named) -> str | None:
    """Return the `python -m bild.run` that measures a point; None for one that cannot run live."""
    if isinstance(point, Record) and point.command:
        return point.command
    setting = setting_of(point)
    if setting is None or live_refusal(setting[0], section.first.engine.name):
        return None
    options = [f"method={point.method.name}"]
    options += [f"method.{name}={_option(value)}" for name, value in own_switches(point).items()]
    options += [f"threshold.{name}={names.number(value)}" for name, value in thresholds_of(*setting).items()]
    return section.command("run", *options)


def _option(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _verdict(found: Verdict | None) -> dict[str, Any]:
    """Return the verdict: its kind, and in words."""
    return {"kind": found and found.kind, "verdict": found and str(found)}


def _told(section: Section, speedup: Interval, quality: Interval, difference: Interval) -> dict[str, Any]:
    found: dict[str, Any] = {"examples": section.first.quality.examples}
    for name, interval in (("speedup", speedup), ("quality", quality), ("difference", difference)):
        found |= {name: interval.value, f"{name}Low": interval.low, f"{name}High": interval.high}
    return found
