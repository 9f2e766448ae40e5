from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.report import front, picks
from bild.results import Interval
from tests.records import make_point, make_record, make_sweep

# Few values, so that ties are common.
coordinates = st.sampled_from([0.5, 1.0, 1.5, 2.0, 40.0])
clouds = st.lists(st.tuples(coordinates, coordinates), max_size=9)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one != other


@given(clouds)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    unbeaten = {i for i, point in enumerate(points) if not any(beats(other, point) for other in points)}
    assert set(front(points)) == unbeaten


@given(clouds)
def test_the_front_goes_from_slow_and_good_to_fast_and_bad(points: list[tuple[float, float]]) -> None:
    found = [points[index] for index in front(points)]
    assert found == sorted(found, key=lambda point: (point[0], -point[1]))
    assert [point[1] for point in found] == sorted((point[1] for point in found), reverse=True)


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        ([], []),
        ([(1.0, 40.0)], [0]),
        ([(1.0, 40.0), (1.5, 39.0), (1.2, 38.0)], [0, 1]),
        ([(1.5, 40.0), (1.5, 39.0)], [0]),
        ([(1.4, 40.0), (1.5, 40.0)], [1]),
        ([(1.5, 40.0), (1.0, 41.0), (1.5, 40.0)], [1, 0, 2]),
        ([(math.inf, 1.0), (1.0, -math.inf)], [0]),
    ],
)
def test_fronts_with_ties(points: list[tuple[float, float]], wanted: list[int]) -> None:
    assert front(points) == wanted


def test_a_front_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        front([(1.0, math.nan)])


def test_the_picks_of_the_papers_table() -> None:
    chosen = picks(make_sweep())
    assert chosen.no_loss is not None
    assert chosen.one_point is not None
    assert (chosen.no_loss.label, chosen.one_point.label) == ("BiLD 0.9/2", "BiLD 0.7/4")


def test_only_bild_is_picked() -> None:
    assert picks([record for record in make_sweep() if record.method.name != "bild"]) == picks([])
    assert picks([]).no_loss is None


def test_nothing_is_picked_where_all_lose_too_much() -> None:
    bad = make_point("bild", 0.1, 9.0, 10, 2.4, 37.0, 1.0, 0.1)
    assert picks([bad]).no_loss is None
    assert picks([bad]).one_point is None


def test_exactly_one_point_is_within_one_point() -> None:
    edge = make_record(quality__difference={"bleu": Interval(math.nextafter(-1.0, -2.0), -1.2, -0.8)})
    assert picks([edge]).one_point is edge
    beyond = make_record(quality__difference={"bleu": Interval(-1.001, -1.2, -0.8)})
    assert picks([beyond]).one_point is None


def test_without_paired_differences_vanillas_own_record_decides() -> None:
    records = [dataclasses.replace(r, quality=dataclasses.replace(r.quality, difference=None)) for r in make_sweep()]
    assert picks(records).one_point is not None
    assert picks(records[1:]).one_point is None


def test_of_equally_fast_points_the_better_one_is_picked() -> None:
    worse = make_point("bild", 0.5, 1.0, 10, 1.5, 40.35, 1, 1)
    better = make_point("bild", 0.5, 2.0, 10, 1.5, 40.45, 1, 1)
    assert picks([worse, better]).no_loss is better
    assert picks([better, worse]).no_loss is better
