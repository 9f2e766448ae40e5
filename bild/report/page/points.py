"""The points of a section as the page shows them: measured ones from records, predicted ones from a sweep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import settings
from bild.decoding.names import number
from bild.report.looks import key
from bild.report.marks import marks
from bild.report.predictions import ms_of, not_measured, quality_of
from bild.report.sections import Section
from bild.results import Record
from bild.results.pareto import picks
from bild.results.predicted import PredictedPoint

_SWITCHES = ("name", "stop", "keep", "rules", "max_draft", "first", "after_rollback", "scan", "unsure", "verify_eos")


def plain_threshold(value: float | None) -> float | str | None:
    """A threshold for JSON, which has no infinity."""
    return "inf" if value is not None and math.isinf(value) else value


def switches(method: Any) -> dict[str, Any]:
    """What the policy in the page needs of a recorded method."""
    return {name: getattr(method, name) for name in _SWITCHES}


def section_points(section: Section, predicted: Sequence[PredictedPoint] = ()) -> list[dict[str, Any]]:
    """All points, the measured ones first; a predicted one that was measured is left out."""
    doubts, chosen = marks(section), picks(section.records)
    on_front = section.on_front()
    points = [
        _measured(record, name, on_front=index in on_front, doubts=doubts[record.hash], pick=_pick(record, chosen))
        for index, (record, name) in enumerate(zip(section.records, section.names(), strict=True))
    ]
    points += [_predicted(point, section.first.latency.examples) for point in not_measured(section, predicted)]
    return [{"id": index, **point} for index, point in enumerate(points)]


def _pick(record: Record, chosen: Any) -> str | None:
    if record is chosen.no_loss:
        return "the fastest without a loss of quality"
    return "the fastest at a loss of one point at most" if record is chosen.one_point else None


def _measured(
    record: Record, name: str, *, on_front: bool, doubts: tuple[str, ...], pick: str | None
) -> dict[str, Any]:
    latency, counts = record.latency, record.counts
    difference = record.headline_difference
    return {
        "measured": True,
        "name": _name(record.method, record.threshold, name),
        "key": key(record),
        **_spread("speedup", latency.speedup.total),
        **_spread("quality", record.headline),
        "difference": None if difference is None else difference.value,
        "ms": latency.ms_per_example.value,
        "examples": latency.examples,
        **_rates(counts),
        **_settings(record),
        "front": on_front,
        "pick": pick,
        "marks": list(doubts),
    }


def _predicted(point: PredictedPoint, examples: int) -> dict[str, Any]:
    notes = [] if point.dropped is None else [f"Its measurement was given up: {point.dropped}."]
    return {
        "measured": False,
        "name": _name(point.method, point.threshold, point.label),
        "key": key(point),
        **_spread("speedup", point.speedup),
        **_spread("quality", quality_of(point)),
        "difference": None if point.difference is None else point.difference.value,
        "ms": ms_of(point).value,
        "examples": examples,
        **_rates(point.counts),
        **_settings(point),
        "front": point.front,
        "pick": None,
        "marks": notes,
    }


def _name(method: Any, threshold: Any, otherwise: str) -> str:
    if method.name != "bild" or threshold.fb is None or threshold.rb is None:
        return otherwise
    rules = "" if method.rules in (None, "paper") else f", {method.rules}’ rules"
    limit = "by measured costs" if method.max_draft == "auto" else f"to {method.max_draft}"
    drafts = "" if method.max_draft == 10 else f", drafts {limit}"
    return f"BiLD, fb {number(threshold.fb)}, rb {number(threshold.rb).replace('inf', '∞')}{rules}{drafts}"


def _spread(name: str, interval: Any) -> dict[str, float]:
    return {name: interval.value, f"{name}Low": interval.low, f"{name}High": interval.high}


def _rates(counts: Any) -> dict[str, float]:
    return {
        "tokensPerLargePass": counts.tokens_per_large_pass,
        "fallbackRate": counts.fallback_rate,
        "rollbackRate": counts.rollback_rate,
    }


def _settings(point: Any) -> dict[str, Any]:
    # A page decodes by settings that a tree can replay, and costs of drafts are none of them.
    bild = point.method.name == "bild" and point.method.max_draft != "auto"
    return {
        "method": switches(point.method) if bild else None,
        "fb": plain_threshold(point.threshold.fb) if bild else None,
        "rb": plain_threshold(point.threshold.rb) if bild else None,
    }


def setting_of(method: Any, threshold: Any) -> tuple[MethodConfig, ThresholdConfig]:
    """What a recorded BiLD point was, with the switches alone that depart from its rules."""
    thresholds = ThresholdConfig(threshold.fb, threshold.rb)
    plain = MethodConfig(method.name, rules=method.rules, max_draft=method.max_draft)
    usual = settings(plain, thresholds)
    own = {name: value for name, value in switches(method).items() if value is not None and value != usual.get(name)}
    return dataclasses.replace(plain, **own), thresholds
