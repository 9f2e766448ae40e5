"""What the page is told of points, settings and packed columns."""

from __future__ import annotations

import base64
import dataclasses
import math

import numpy as np
import pytest

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import settings
from bild.errors import BildError
from bild.report.figures.heat import grid
from bild.report.format import group_name, label
from bild.report.page import settings_of
from bild.report.page.document import fill, script_safe, vendored
from bild.report.page.points import section_points
from bild.report.page.sample import column, grids_of
from bild.report.sections import make_section
from bild.results import from_json, to_json
from bild.results.parts import DraftCosts
from tests.records import make_record, make_sweep
from tests.report.sweeps import guess


def test_measured_and_predicted_points_are_told_apart_and_none_twice() -> None:
    records = make_sweep()
    found = section_points(
        make_section(records),
        [guess(0.4, math.inf), guess(0.5, 5.0), guess(0.2, 9.0, dropped="it was slow")],
    )
    assert [point["measured"] for point in found] == [True] * len(records) + [False] * 2
    assert [point["id"] for point in found] == list(range(len(found)))
    infinite, dropped = found[-2:]
    assert infinite["rb"] == "inf"
    assert infinite["name"] == "BiLD 0.4/∞"
    assert infinite["ms"] == pytest.approx(180.0)
    assert dropped["marks"] == ["Its measurement was given up: it was slow."]
    vanilla = found[0]
    assert (vanilla["key"], vanilla["method"], vanilla["fb"]) == ("vanilla", None, None)
    assert sum(point["pick"] is not None for point in found) == 2


def test_the_settings_of_a_sweep_fall_into_one_grid_by_the_switches_that_depart_from_the_rules() -> None:
    usual = settings(MethodConfig("bild"), ThresholdConfig())
    method = dataclasses.replace(guess(0.6, 2.0).method, **usual)
    infinite = dataclasses.replace(method, verify_eos=False)  # as it is resolved where nothing is rolled back
    other = dataclasses.replace(method, first="small")
    points = settings_of(
        [guess(0.6, 2.0, method=method), guess(0.4, math.inf, method=infinite), guess(0.6, 2.0, method=other)]
    )
    assert points[1] == (MethodConfig("bild"), ThresholdConfig(0.4, math.inf))
    assert points[0][0] == points[1][0]
    assert points[2][0] == MethodConfig("bild", first="small")
    resolved = settings(*points[2])
    assert {name: getattr(other, name) for name in resolved} == resolved
    assert len(grids_of(points)) == 2


def test_grids_are_by_switches_and_named_in_words() -> None:
    paper, authors = MethodConfig("bild"), MethodConfig("bild", rules="authors", max_draft=1, scan="all")
    points = [
        (method, ThresholdConfig(fb, rb)) for method in (paper, authors) for fb in (0.7, 0.2) for rb in (3.0, 1.0)
    ]
    points += [(MethodConfig("vanilla"), ThresholdConfig())]
    first, second = grids_of(points)
    assert (first.fbs, first.rbs) == ((0.2, 0.7), (1.0, 3.0))
    assert group_name(first.method, ThresholdConfig(0.2, 1.0)) == "BiLD, drafts of up to 10"
    assert group_name(second.method, ThresholdConfig(0.2, 1.0)) == "BiLD, rules=authors, scan=all, drafts of up to 1"


def test_columns_take_the_smallest_type_and_keep_every_bit() -> None:
    small = column([np.array([-1, 0, 254 - 1], np.int32), np.array([7], np.int32)])
    assert small["type"] == "u1"
    assert list(base64.b64decode(small["data"])) == [0, 1, 254, 8]
    assert column([np.array([60_000])])["type"] == "u2"
    assert column([np.array([250_100])])["type"] == "i4"
    values = np.array([0.1, math.nan, 3e-30], np.float32)
    packed = column([values])
    assert packed["type"] == "f4"
    assert base64.b64decode(packed["data"]) == values.tobytes()
    with pytest.raises(BildError, match="holds -2"):
        column([np.array([-2])])


def test_data_cannot_leave_its_script_and_slots_are_filled_once() -> None:
    assert "<" not in script_safe('{"a": "</script><!--&\u2028"}')
    assert fill("{{a}} {{b}}", {"a": "{{b}}", "b": "x"}) == "{{b}} x"


def test_vendored_files_are_what_the_record_says() -> None:
    import hashlib

    from bild.report.page.document import HERE

    for name, told in vendored().items():
        assert hashlib.sha256((HERE / "vendor" / name).read_bytes()).hexdigest() == told["sha256"]
        assert told["license"] == "ISC"


def test_a_point_whose_drafts_go_by_costs_is_shown_but_not_decoded() -> None:
    records = [
        make_record(method__max_draft=limit, draft_costs=costs)
        for limit, costs in ((10, None), ("auto", DraftCosts(0.1, {1: 1.0, 2: 1.1}, 0.0)))
    ]
    assert from_json(to_json(records[1])) == records[1]
    section = make_section(records)
    shown = {point["name"]: point["method"] for point in section_points(section)}
    assert any(name.endswith("kauto") and method is None for name, method in shown.items())
    assert sum(method is not None for method in shown.values()) == 1
    assert {"BiLD 0.6/2", "BiLD 0.6/2 kauto"} == {label(record) for record in records}
    assert grid(make_section(records[1:]))[1].endswith("drafts by measured costs")
