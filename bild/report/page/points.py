"""The points of a section as the page shows them: measured ones from records, predicted ones from a sweep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import settings
from bild.report.format import Named, label, legend
from bild.report.format import switches as switches_words
from bild.report.predictions import ms_of, not_measured, quality_of
from bild.report.sections import Section
from bild.results.predicted import PredictedPoint

_SWITCHES = ("name", "stop", "keep", "rules", "max_draft", "first", "after_rollback", "scan", "unsure", "verify_eos")


def plain_threshold(value: float | None) -> float | str | None:
    """Return a threshold for JSON, which has no infinity."""
    return "inf" if value is not None and math.isinf(value) else value


def switches(method: Any) -> dict[str, Any]:
    """Return what the policy in the page needs of a recorded method."""
    return {name: getattr(method, name) for name in _SWITCHES}


def section_points(section: Section, predicted: Sequence[PredictedPoint] = ()) -> list[dict[str, Any]]:
    """Return all points, the measured ones first; a predicted one that was measured is left out."""
    doubts, on_front, chosen = section.doubts(), section.on_front(), section.picks
    picks = (
        (chosen.no_loss, "the fastest without a loss of quality"),
        (chosen.one_point, "the fastest at a loss of one point at most"),
    )
    points = [
        {
            **_point(record, name),
            **_spread("speedup", record.latency.speedup.total),
            **_spread("quality", record.headline),
            "measured": True,
            "difference": record.headline_difference and record.headline_difference.value,
            "ms": record.latency.ms_per_example.value,
            "examples": record.latency.examples,
            "front": index in on_front,
            "pick": next((words for pick, words in picks if pick is record), None),
            "marks": list(doubts[record.hash]),
        }
        for index, (record, name) in enumerate(zip(section.records, section.names(), strict=True))
    ]
    points += [
        {
            **_point(point, label(point)),
            **_spread("speedup", point.speedup),
            **_spread("quality", quality_of(point)),
            "measured": False,
            "difference": point.difference and point.difference.value,
            "ms": ms_of(point).value,
            "examples": section.first.latency.examples,
            "front": point.front,
            "pick": None,
            "marks": [] if point.dropped is None else [f"Its measurement was given up: {point.dropped}."],
        }
        for point in not_measured(section, predicted)
    ]
    return [{"id": index, **point} for index, point in enumerate(points)]


def _point(point: Named, name: str) -> dict[str, Any]:
    # A page decodes by settings that a tree can replay, and costs of drafts are none of them.
    replayed = point.method.name == "bild" and point.method.max_draft != "auto"
    return {
        "name": name,
        "key": legend(point),
        "rounds": point.method.max_draft is not None,
        "switches": switches_words(point),
        "tokensPerLargePass": point.counts.tokens_per_large_pass,
        "fallbackRate": point.counts.fallback_rate,
        "rollbackRate": point.counts.rollback_rate,
        "method": switches(point.method) if replayed else None,
        "fb": plain_threshold(point.threshold.fb) if replayed else None,
        "rb": plain_threshold(point.threshold.rb) if replayed else None,
    }


def _spread(name: str, interval: Any) -> dict[str, float]:
    return {name: interval.value, f"{name}Low": interval.low, f"{name}High": interval.high}


def setting_of(method: Any, threshold: Any) -> tuple[MethodConfig, ThresholdConfig]:
    """Return a recorded BiLD point as options, with the switches alone that depart from its rules."""
    thresholds = ThresholdConfig(threshold.fb, threshold.rb)
    plain = MethodConfig(method.name, rules=method.rules, max_draft=method.max_draft)
    usual = settings(plain, thresholds)
    own = {name: value for name, value in switches(method).items() if value is not None and value != usual.get(name)}
    return dataclasses.replace(plain, **own), thresholds
