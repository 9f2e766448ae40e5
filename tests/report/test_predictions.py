"""Predictions of several sweeps: each point once, the same ones wherever a report shows them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from bild.report import contents, make_section
from bild.report.figures.heat import grids_of
from bild.report.page import page_data
from bild.report.predictions import differs, not_measured
from bild.report.report import Contents, write_contents
from bild.results.predicted import read_predicted
from tests.records import make_record, make_sweep
from tests.report.folders import put
from tests.report.sweeps import guess, put_sweep

NEVER = [
    guess(0.4, math.inf, 1.9, 38.0),
    guess(0.2, 9.0, 1.8, 38.5),
    guess(0.4, 9.0, 1.7, 39.0, method__unsure="verify"),
]
LATER = guess(0.6, 2.0)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """The folder of a pair with the points of `make_sweep`, those at fb=0.6 and rb=2 among them."""
    for record in make_sweep():
        folder = put(tmp_path / "results", record)
    return folder.parent


def hollow(found: Contents) -> list[dict[str, Any]]:
    (section,) = page_data(found.parts, found.left_out)["sections"]
    return [point for point in section["points"] if not point["measured"]]


@pytest.mark.slow
def test_page_figure_and_table_show_the_same_predictions_of_two_sweeps(pair: Path, tmp_path: Path) -> None:
    put_sweep(pair, "a", "2026-01-01T00:00:00+00:00", [LATER, NEVER[0], guess(0.2, 9.0, 1.1)])
    put_sweep(pair, "b", "2026-01-02T00:00:00+00:00", [*NEVER[1:], guess(0.4, 9.0, 1.6, 38.9)])
    found = contents(pair.parents[1])
    (part,) = found.parts
    (table,) = (table for table in part.tables if table.stem == "predicted")
    told = {(row[1], row[-1]) for row in table.rows}
    assert told == {
        ("BiLD 0.6/2", "yes"), ("BiLD 0.4/∞", "no"), ("BiLD 0.2/9", "no"), ("BiLD 0.4/9", "no"),
    }  # fmt: skip
    assert len(table.rows) == 5  # two of them differ in a switch that their label does not name
    assert sorted(row[1] for row in table.rows if row[-1] == "no") == sorted(point["name"] for point in hollow(found))
    assert sorted(point["speedup"] for point in hollow(found)) == [1.6, 1.7, 1.8, 1.9]  # the newest of (0.2, 9)
    text = write_contents(found, tmp_path / "out").text.read_text(encoding="utf-8")
    assert "4 predicted points are hollow." in text


def test_the_front_is_that_of_all_predictions_together(pair: Path) -> None:
    put_sweep(pair, "a", "2026-01-01T00:00:00+00:00", [guess(0.4, 9.0, 1.5, 39.0)])
    put_sweep(pair, "b", "2026-01-02T00:00:00+00:00", [guess(0.2, 9.0, 1.6, 39.1)])
    found = contents(pair.parents[1])
    assert [(point["name"], point["front"]) for point in hollow(found)] == [
        ("BiLD 0.4/9", False),
        ("BiLD 0.2/9", True),
    ]


def test_each_tree_has_its_own_predictions_and_that_of_the_newest_sweep_is_last(pair: Path) -> None:
    one, two = "1" * 64, "2" * 64
    put_sweep(pair, "a", "2026-01-01T00:00:00+00:00", [guess(0.4, 9.0)], one)
    put_sweep(pair, "b", "2026-01-02T00:00:00+00:00", [guess(0.2, 9.0)], two)
    put_sweep(pair, "c", "2026-01-03T00:00:00+00:00", [guess(0.1, 9.0)], one)
    put_sweep(pair, "d", "2026-01-04T00:00:00+00:00", [guess(0.3, 9.0)], "3" * 64)
    (pair / "tree" / "3333333333").rmdir()
    (part,) = contents(pair.parents[1]).parts
    trees = {folder.name: [point.threshold.fb for point in points] for folder, points in part.sweeps.trees.items()}
    assert list(trees.items()) == [("2222222222", [0.2]), ("1111111111", [0.4, 0.1])]
    assert {point.threshold.fb for point in part.sweeps.points} == {0.1, 0.2, 0.3, 0.4}


def test_a_prediction_is_of_its_switches_as_much_as_of_its_thresholds() -> None:
    section = make_section([make_record()])
    other = guess(0.6, 2.0, method__unsure="verify")
    assert not_measured(section, [guess(0.6, 2.0), guess(0.1, 2.0), other]) == [guess(0.1, 2.0), other]
    grid, _ = grids_of(section, [guess(0.1, 2.0), guess(0.2, 2.0, method__unsure="verify")])
    assert list(grid.cells) == [(0.6, 2.0), (0.1, 2.0)]


def test_a_pair_that_was_trained_anew_has_predictions_of_its_own(pair: Path) -> None:
    found = read_predicted(put_sweep(pair, "a", "2026-01-01T00:00:00+00:00", [LATER]))
    section = make_section(make_sweep())
    own = {name: getattr(section.first.pair, name).fingerprint for name in ("large", "small")}
    told = [differs(section, dataclasses.replace(found, models=each)) for each in ({}, own, own | {"large": "0" * 16})]
    assert [[name for name in each if "model" in name] for each in told] == [[], [], ["large model"]]
