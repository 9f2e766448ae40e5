"""Kernels are kept with what they made: a resumed point and a tree go on with the arithmetic that they began with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import bild
from bild.cli import compose
from bild.config import MeasureConfig, MethodConfig, RunConfig, TaskConfig, ThresholdConfig
from bild.engines.kernels import Kernels, kept_or_own
from bild.engines.t5_host import HostDecoder
from bild.measure.interleave import Measurement, OpenPoint, by_kernels, placed
from bild.measure.session import measure_points
from bild.models import Pair
from bild.results import PointFolder
from bild.tasks import load_task
from bild.tree import grow as growing
from bild.tree.forward import TorchBranches
from bild.tree.forward_host import HostBranches

PANELS = Kernels("panels", "measured, somewhere", {"torch": {"1": 2.0}, "panels": {"1": 1.0}})
TORCH = Kernels("torch", "measured, somewhere", {"torch": {"1": 1.0}, "panels": {"1": 1.0}})
UNMEASURED = Kernels("torch", "panels are for one thread")
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
        (None, PANELS, PANELS),
        (asdict(TORCH), PANELS, TORCH),
        (asdict(PANELS), TORCH, PANELS),
        (asdict(PANELS), UNMEASURED, UNMEASURED),
        (asdict(UNMEASURED), PANELS, UNMEASURED),
    ],
)
def test_a_kept_choice_counts_where_it_can_be_followed(kept: dict | None, own: Kernels, used: Kernels) -> None:
    assert kept_or_own(kept, own) == used


def test_new_points_take_the_choice_of_those_that_have_one(points: list[OpenPoint]) -> None:
    points[1].folder.keep_kernels(asdict(TORCH))
    ((kernels, alike),) = by_kernels(points, PANELS)
    assert (kernels, alike) == (TORCH, points)
    assert [point.folder.kernels() for point in points] == [asdict(TORCH)] * 3


def test_points_that_began_otherwise_are_measured_apart(points: list[OpenPoint], pair: Pair) -> None:
    points[0].folder.keep_kernels(asdict(PANELS))
    points[1].folder.keep_kernels(asdict(TORCH))
    measurement = Measurement(pair, "fused", TASK, MeasureConfig(warmup=0, library=0))
    for _ in measurement.measure(placed(load_task(TASK).examples, measurement.settings, 0), points, 1):
        used = isinstance(pair.engine("large", "fused").decoder, HostDecoder)
        assert used == (pair.kernels.name == "panels")
        assert [bool(point.folder.samples()) for point in points] == [True, not used, True]
    assert [len(point.folder.samples()) for point in points] == [3] * 3
    assert points[2].folder.kernels() == asdict(PANELS)


@pytest.mark.parametrize("kernels", [PANELS, TORCH])
def test_a_resumed_point_goes_on_with_its_own_choice_and_its_record_tells_it(
    kernels: Kernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = TORCH if kernels is PANELS else PANELS
    monkeypatch.chdir(tmp_path)
    config = RunConfig(TASK, compose([]).model, measure=MeasureConfig(warmup=0, library=0, draws=100))
    setting = (MethodConfig("bild"), ThresholdConfig(0.5, 2))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("bild.measure.interleave.kernels_for", lambda *_: kernels)
        stopped.setattr(PointFolder, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            measure_points(config, [setting])
    monkeypatch.setattr("bild.measure.interleave.kernels_for", lambda *_: other)
    (point,) = measure_points(config, [setting])
    assert point.record.environment["kernels"] == asdict(kernels)
    assert json.loads((point.path / "kernels.json").read_bytes()) == asdict(kernels)


def test_a_tree_grows_on_with_the_choice_that_it_was_made_with(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[type] = []
    branches_of = growing.branches_of

    def noting(*arguments: object) -> object:
        kinds.append(type(branches_of(*arguments)))
        return branches_of(*arguments)

    monkeypatch.setattr(growing, "branches_of", noting)
    data = load_task(TASK)
    for kernels, method in ((PANELS, "bild"), (TORCH, "speculative")):
        pair.use(kernels)
        tree = growing.grow(tmp_path, pair, TASK, data, [(MethodConfig(method), ThresholdConfig())])
        assert tree.head.kernels == asdict(PANELS)
    assert set(kinds) == {HostBranches}
    before = replace(tree.head, kernels=None)  # as in trees that were made before
    growing.Grower(pair, [], [], growing.group([]), before, None)
    assert kinds[-1] is TorchBranches
