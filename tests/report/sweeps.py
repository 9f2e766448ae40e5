"""Made-up predictions, and the files that sweeps leave of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding.policies import label
from bild.results import Interval, Threshold
from bild.results.codec import write_json
from bild.results.folder import SHORT
from bild.results.predicted import (
    PREDICTED,
    PREDICTED_SCHEMA,
    Metric,
    Predicted,
    PredictedPoint,
    PredictedScore,
    PredictedSeconds,
)
from bild.results.prices import PriceError
from bild.sweep.grid import SweptPoint
from tests.records import made_difference, make_record

LIKE = make_record()


def guess(fb: float, rb: float, speedup: float = 1.5, score: float = 39.5, **changes: Any) -> PredictedPoint:
    """BiLD at these thresholds; a change of `method__first` and the like goes to the method."""
    switches = {name.removeprefix("method__"): changes.pop(name) for name in list(changes) if "method__" in name}
    method, threshold = dataclasses.replace(LIKE.method, **switches), Threshold(fb, rb)
    point = PredictedPoint(
        label=label(method, threshold), method=method, threshold=threshold,
        quality=PredictedScore(score, score - 0.5, score + 0.5), counts=LIKE.counts,
        seconds=PredictedSeconds(0.18, 0.176, 0.184), speedup=Interval(speedup, speedup * 0.97, speedup * 1.03),
        front=True, difference=made_difference(-0.3, -0.5, 0.0),
    )  # fmt: skip
    return dataclasses.replace(point, **changes)


def recorded(method: MethodConfig, threshold: ThresholdConfig) -> PredictedPoint:
    """A predicted point of any method as a sweep leaves it."""
    own, values = SweptPoint(method, threshold, "grid").recorded()
    return dataclasses.replace(guess(0.5, 1.0), label=label(own, values), method=own, threshold=values)


def put_sweep(
    pair: Path,
    name: str,
    created: str,
    points: Sequence[PredictedPoint],
    tree: str = "1" * 64,
    examples: int = LIKE.quality.examples,
) -> Path:
    """A sweep under the conditions of `make_sweep`, in the folder of a pair, and an empty folder for its tree."""
    (pair / "tree" / tree[:SHORT]).mkdir(parents=True, exist_ok=True)
    made = Predicted(
        schema=PREDICTED_SCHEMA, hash=name * 64, tree=tree, task=LIKE.task.name, pair=LIKE.pair.name,
        machine={key: LIKE.environment["machine"][key] for key in ("fingerprint", "name")}, packages={},
        engine=LIKE.engine, examples=examples, data_hash=LIKE.quality.data,
        metric=Metric(LIKE.quality.headline, LIKE.headline.signature), confidence=0.95,
        prices=PriceError(0.1, 0.1, 0), created=created, finished=True, points=list(points),
    )  # fmt: skip
    path = pair / f"sweep-{name * SHORT}" / PREDICTED
    path.parent.mkdir(parents=True)
    write_json(path, made, indent=1)
    return path
