"""Kernels are kept with what they made: a resumed point and a tree go on with the arithmetic that they began with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest

import bild
from bild.cli import compose
from bild.config import MeasureConfig, MethodConfig, RunConfig, TaskConfig, ThresholdConfig
from bild.engines.kernels import COLUMNS, UNMEASURED, Kernels, sizes_of
from bild.engines.layouts import PLAIN
from bild.measure import session
from bild.measure.interleave import Measurement, OpenPoint, by_kernels, placed
from bild.measure.session import measure_points
from bild.models import Pair, loading
from bild.results import PointFolder
from bild.tasks import load_task
from bild.tree import grow as growing
from bild.tree.forward import Branches


def all_of(kind: str) -> Kernels:
    """One kind for the matrices of both embedded models, as if it had been measured."""
    models = (embedded().large, embedded().small)
    sizes = [size for model in models for size in sizes_of(model.config, embedded().vocabulary)]
    return Kernels("measured, somewhere", {f"{inner}x{out}": dict.fromkeys(COLUMNS, kind) for inner, out in sizes})


@cache
def embedded() -> Pair:
    return bild.load_pair("embedded", device="cpu")


ACROSS, PLAINLY = all_of("torch out-in"), all_of(PLAIN)
ELSEWHERE = all_of("a kind of another machine")
TASK = TaskConfig(samples=3, target_limit=8, id_column="id")


@pytest.fixture
def pair() -> Pair:
    return bild.load_pair("embedded", device="cpu")


@pytest.fixture
def points(tmp_path: Path) -> Iterator[list[OpenPoint]]:
    found = []
    for number in range(3):
        folder = PointFolder.open(tmp_path, "task", "pair", f"bild{number}", str(number) * 64, {})
        found.append(OpenPoint(MethodConfig("bild"), ThresholdConfig(0.5, 2), folder))
    yield found
    for point in found:
        point.folder.close()


@pytest.mark.parametrize(
    ("kept", "own", "used"),
    [
        (None, ACROSS, ACROSS),
        (asdict(PLAINLY), ACROSS, PLAINLY),
        (asdict(ACROSS), PLAINLY, ACROSS),
        (asdict(ELSEWHERE), PLAINLY, PLAINLY),  # a kind that is not to be had here
        (asdict(UNMEASURED), PLAINLY, PLAINLY),  # no kind for any size
        ({"name": "strips", "why": "as it was kept before", "us": {}}, PLAINLY, PLAINLY),
    ],
)
def test_a_kept_choice_counts_where_it_can_be_followed(
    kept: dict | None, own: Kernels, used: Kernels, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "kinds_on", lambda *_: (PLAIN, "torch out-in"))
    pair.use(own)
    assert pair.kernels_kept(kept) == used


def test_nothing_is_measured_where_a_choice_was_kept(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(loading, "kernels_for")
    assert pair.kernels_kept(asdict(PLAINLY)) == PLAINLY


def test_new_points_take_the_choice_of_those_that_have_one(points: list[OpenPoint], pair: Pair) -> None:
    points[1].folder.keep_kernels(asdict(PLAINLY))
    pair.use(ACROSS)
    ((kernels, alike),) = by_kernels(points, pair)
    assert (kernels, alike) == (PLAINLY, points)
    assert [point.folder.kernels() for point in points] == [asdict(PLAINLY)] * 3


def test_points_that_began_otherwise_are_measured_apart(points: list[OpenPoint], pair: Pair) -> None:
    points[0].folder.keep_kernels(asdict(ACROSS))
    points[1].folder.keep_kernels(asdict(PLAINLY))
    measurement = Measurement(pair, "fused", TASK, MeasureConfig(warmup=0, library=0))
    for _ in measurement.measure(placed(load_task(TASK).examples, measurement.settings, 0), points, 1):
        used = pair.weights("large").head.kinds[0] == "torch out-in"
        assert [bool(point.folder.samples()) for point in points] == [True, not used, True]
    assert [len(point.folder.samples()) for point in points] == [3] * 3
    assert points[2].folder.kernels() == asdict(ACROSS)


@pytest.mark.parametrize("kernels", [ACROSS, PLAINLY])
def test_a_resumed_point_goes_on_with_its_own_choice_and_its_record_tells_it(
    kernels: Kernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PLAINLY if kernels is ACROSS else ACROSS
    monkeypatch.chdir(tmp_path)
    config = RunConfig(TASK, compose([]).model, measure=MeasureConfig(warmup=0, library=0))
    setting = (MethodConfig("bild"), ThresholdConfig(0.5, 2))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    session._loaded.clear()
    with monkeypatch.context() as stopped:
        stopped.setattr(loading, "kernels_for", lambda *_: kernels)
        stopped.setattr(PointFolder, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            measure_points(config, [setting])
    session._loaded.clear()
    monkeypatch.setattr(loading, "kernels_for", lambda *_: other)
    (point,) = measure_points(config, [setting])
    assert point.record.environment["kernels"] == asdict(kernels)
    assert json.loads((point.path / "kernels.json").read_bytes()) == asdict(kernels)


def test_a_tree_grows_on_with_the_choice_that_it_was_made_with(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    branches_of = growing.branches_of

    def noting(*arguments: object) -> Branches:
        made = branches_of(*arguments)
        used.append(made.weights.head.kinds[0])
        return made

    monkeypatch.setattr(growing, "branches_of", noting)
    data = load_task(TASK)
    for kernels, method in ((ACROSS, "bild"), (PLAINLY, "speculative")):
        pair.use(kernels)
        tree = growing.grow(tmp_path, pair, TASK, data, [(MethodConfig(method), ThresholdConfig())])
        assert tree.head.kernels == asdict(ACROSS)
    assert set(used) == {"torch out-in"}
    before = replace(tree.head, kernels=None)  # as in trees that were made before
    growing.Grower(pair, [], growing.group([]), before, None)
    assert used[-1] == PLAIN
