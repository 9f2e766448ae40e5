"""`predicted.json`: written, read again, found, and refused where it is something else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.results.codec import encode, write_json
from bild.results.interval import Interval
from bild.results.parts import Threshold
from bild.results.predicted import (
    PREDICTED,
    PREDICTED_SCHEMA,
    Agreement,
    Forecast,
    Judgement,
    Metric,
    Predicted,
    PredictedPoint,
    PredictedScore,
    PredictedSeconds,
    find_predicted,
    read_predicted,
)
from bild.results.prices import PriceError
from tests.records import make_record


def make_predicted() -> Predicted:
    """Two predicted points, one of them measured."""
    record = make_record()
    quality, seconds = PredictedScore(39.6, 38.9, 40.2), PredictedSeconds(0.51, 0.48, 0.54)
    speedup = Interval(1.6, 1.5, 1.7)
    measured = Agreement(64, 1.61, Interval(1.58, 1.55, 1.61), 0.51, 0.52, True)
    never = Threshold(0.6, math.inf)
    points = [
        PredictedPoint(record.label, record.method, record.threshold, quality, record.counts, seconds, speedup, True,
                       chosen="front", measured="bild-fb0.6-rb2-0123456789", agreement=measured,
                       before=Forecast(PredictedSeconds(0.5, 0.4, 0.6), Interval(1.7, 1.5, 1.9))),
        PredictedPoint("bild-fb0.6-rbinf", record.method, never, quality, record.counts, seconds, speedup, False),
    ]  # fmt: skip
    return Predicted(
        schema=PREDICTED_SCHEMA,
        hash="0" * 64,
        tree="1" * 64,
        task=record.task.name,
        pair=record.pair.name,
        machine=record.environment["machine"],
        packages=record.environment["packages"],
        engine=record.engine,
        examples=888,
        data_hash=record.task.data["hash"],
        metric=Metric("bleu", record.headline.signature),
        confidence=0.95,
        prices=PriceError(0.05, 0.04, 1),
        created="2026-01-01T00:00:00+00:00",
        finished=True,
        points=points,
        marked=["validation-3"],
        before=PriceError(0.2, 0.1, 0),
    )


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    predicted = make_predicted()
    path = tmp_path / "task" / "pair" / "sweep-0000000000" / PREDICTED
    write_json(path, predicted)
    assert read_predicted(path) == predicted
    assert json.loads(path.read_text())["points"][1]["threshold"]["rb"] == "inf"
    (tmp_path / PREDICTED).write_text("{}")
    found, ((skipped, why),) = find_predicted(tmp_path)[0], [(s.path, s.why) for s in find_predicted(tmp_path)[1]]
    assert (found, skipped) == ([(path, predicted)], tmp_path / PREDICTED)
    assert "does not hold predictions" in why


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"points": {}}, "points must be a list"),
        ({"schema": 9}, "schema must be 3"),
        ({"examples": "many"}, "examples must be an integer"),
        ({"points": [{}]}, "points.0.label is missing"),
    ],
)
def test_another_file_is_refused_in_one_sentence(tmp_path: Path, change: dict[str, object], named: str) -> None:
    path = tmp_path / PREDICTED
    path.write_text(json.dumps(encode(make_predicted()) | change))
    with pytest.raises(BildError, match=named):
        read_predicted(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BildError, match="could not be read"):
        read_predicted(tmp_path / PREDICTED)


def test_a_bias_that_all_points_share_is_told_apart_from_scatter() -> None:
    def seen(predicted: float, measured: float, settled: float | None = None) -> Agreement:
        return Agreement(9, predicted, Interval(measured, measured, measured), 1.0, 1.0, True, settled)

    assert Judgement.of([]) is None
    assert Judgement.of([seen(1.1, 1.0, 1.0), seen(2.2, 2.0, 2.0)]) == Judgement(
        2, pytest.approx(0.1), pytest.approx(0)
    )
    assert Judgement.of([seen(1.1, 1.0, 1.0), seen(2.2, 2.0)], settled=True) == Judgement(1, 0.0, 0.0)
    mixed = Judgement.of([seen(1.1, 1.0), seen(0.9, 1.0)])
    assert mixed == Judgement(2, pytest.approx(0.0), pytest.approx(0.1414, abs=1e-4))


def test_older_files_are_read(tmp_path: Path) -> None:
    plain = encode(make_predicted())
    del plain["before"]
    for point in plain["points"]:
        point.pop("before")
    (tmp_path / PREDICTED).write_text(json.dumps(plain | {"schema": 2}))
    found = read_predicted(tmp_path / PREDICTED)
    assert (found.schema, found.before, found.points[0].before) == (PREDICTED_SCHEMA, None, None)
