"""What the page is told of points, settings and packed columns."""

from __future__ import annotations

import base64
import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from bild.cli.compose import compose
from bild.config import METHODS, MethodConfig, ThresholdConfig
from bild.decoding import setting, settings, thresholds_of
from bild.errors import BildError
from bild.report.figures.heat import grids_of as planes_of
from bild.report.format import group_name, label, setting_of
from bild.report.page import fill, script_safe, vendored
from bild.report.page.points import command_of, grids_of, place, section_points
from bild.report.page.sample import column
from bild.report.sections import make_section
from bild.results.prices import DraftCostsRecord
from bild.results.record import from_json, to_json
from tests.records import make_record, make_sweep
from tests.report.sweeps import guess, recorded


def test_measured_and_predicted_points_are_told_apart_and_none_twice() -> None:
    records = make_sweep()
    found = section_points(
        make_section(records),
        [guess(0.4, math.inf), guess(0.5, 5.0), guess(0.2, 9.0, dropped="it was slow")],
    )
    assert [point["measured"] for point in found] == [True] * len(records) + [False] * 2
    assert [point["id"] for point in found] == list(range(len(found)))
    infinite, dropped = found[-2:]
    assert infinite["name"] == "BiLD 0.4/∞"
    assert infinite["ms"] == pytest.approx(180.0)
    assert dropped["marks"] == ["Its measurement was given up: it was slow."]
    vanilla = found[0]
    assert (vanilla["key"], vanilla["at"]) == ("vanilla", None)
    picked = [point for point in found if point["pick"] is not None]
    assert [point["verdict"] for point in picked] == ["refuted at 0.5", "shown within 0.5", "shown within 0.5"]
    assert picked[1]["pick"] == "the fastest shown within 0.5 of vanilla"
    assert (vanilla["difference"], vanilla["verdict"]) == (0.0, None)
    assert (picked[1]["examples"], picked[1]["timed"], picked[1]["sessions"]) == (888, 888, "1 session")


def test_the_settings_of_a_sweep_fall_into_one_grid_by_the_switches_that_depart_from_the_rules() -> None:
    usual = settings(MethodConfig("bild"), ThresholdConfig())
    method = dataclasses.replace(guess(0.6, 2.0).method, **usual)
    infinite = dataclasses.replace(method, verify_eos=False)  # as it is resolved where nothing is rolled back
    other = dataclasses.replace(method, first="small")
    guesses = [guess(0.6, 2.0, method=method), guess(0.4, math.inf, method=infinite), guess(0.6, 2.0, method=other)]
    points = [found for point in guesses if (found := setting_of(point)) is not None]
    assert points[1] == (MethodConfig("bild"), ThresholdConfig(0.4, math.inf))
    assert points[0][0] == points[1][0]
    assert points[2][0] == MethodConfig("bild", first="small")
    resolved = settings(*points[2])
    assert {name: getattr(other, name) for name in resolved} == resolved
    grids = grids_of(points)
    assert len(grids) == 2
    assert place(grids, points[1]) == {"grid": 0, "fb": 0, "value": 1}
    assert place(grids, (MethodConfig("bild"), ThresholdConfig(0.5, 2.0))) is None
    assert place(grids, (MethodConfig("vanilla"), ThresholdConfig())) is None


def test_grids_are_by_switches_and_named_in_words() -> None:
    paper, authors = MethodConfig("bild"), MethodConfig("bild", rules="authors", max_draft=1, scan="all")
    points = [
        (method, ThresholdConfig(fb, rb)) for method in (paper, authors) for fb in (0.7, 0.2) for rb in (3.0, 1.0)
    ]
    points += [(MethodConfig("vanilla"), ThresholdConfig())]
    first, second = grids_of(points)
    assert (first.fbs, first.values) == ((0.2, 0.7), (1.0, 3.0))
    assert first.told()["name"] == "BiLD fb/rb, drafts of up to 10"
    assert second.told()["name"] == "BiLD fb/rb, rules=authors, scan=all, drafts of up to 1"


@pytest.mark.parametrize(
    ("method", "options", "name", "threshold", "fbs", "values", "top"),
    [
        ("speculative", {"max_draft": 4}, "speculative, drafts of up to 4", None, [None], [None], None),
        ("speculative", {"fb": 0.3}, "speculative fb, drafts of up to 10", None, [0.3], [None], None),
        ("dynamic", {"fb": 0.4}, "dynamic fb, drafts of up to 10", None, [0.4], [None], None),
        ("lenience", {"alpha": 0.2}, "lenience alpha, drafts of up to 10", "alpha", [None], [0.2], None),
        ("cascade", {"fb": 0.3, "alpha": 0.1}, "cascade fb/alpha, drafts of up to 10", "alpha", [0.3], [0.1], None),
        ("relaxed", {}, "relaxed alpha, top=10, drafts of up to 10", "alpha", [None], [0.6], 10),
        ("bild", {"keep": "top", "top": 5}, "BiLD fb/top, keep=top, drafts of up to 10", "top", [0.6], [5], None),
        ("bild", {"rb": math.inf, "top": 4}, "BiLD fb/rb, top=4, drafts of up to 10", "rb", [0.6], ["inf"], 4),
        ("oracle", {"rb": 3.0}, "oracle rb, drafts of up to 10", "rb", [None], [3.0], None),
    ],
)
def test_a_grid_has_the_thresholds_that_its_rules_heed(
    method: str, options: dict[str, Any], name: str, threshold: str | None, fbs: list[Any], values: list[Any], top: Any
) -> None:
    point = recorded(*setting(method, **options))
    found = setting_of(point)
    assert found is not None
    assert settings(*found) == settings(*setting(method, **options))
    grid = grids_of([found])[0]
    told = grid.told()
    assert (told["name"], told["threshold"], told["fbs"], told["values"]) == (name, threshold, fbs, values)
    assert told["method"]["top"] == top
    assert place([grid], found) == {"grid": 0, "fb": 0, "value": 0}


def test_a_setting_with_a_value_that_no_option_takes_has_no_place_and_no_command() -> None:
    good = guess(0.6, 2.0)
    for changes in ({"scan": "firsT"}, {"max_draft": -1}, {"keep": "new"}, {"stop": "new"}):
        point = dataclasses.replace(good, method=dataclasses.replace(good.method, **changes))
        assert setting_of(point) is None
        assert group_name(point.method, point.threshold).startswith("BiLD")
    assert setting_of(dataclasses.replace(good, threshold=dataclasses.replace(good.threshold, fb=-3.0))) is None


@pytest.mark.spread(3)
@pytest.mark.parametrize("name", METHODS)
def test_the_command_of_a_point_makes_that_point(name: str) -> None:
    keeps = ("share", "top", "exact", None) if METHODS[name].stop else (None,)
    for keep in keeps:
        for options in ({}, {"first": "small", "max_draft": 4, "verify_eos": False}) if keep else ({},):
            point = recorded(*setting(name, keep=keep, **options))
            command = command_of(make_section([make_record()]), point)
            if METHODS[name].stop == "oracle":  # cannot run live
                assert command is None
                continue
            assert command is not None
            config = compose(
                ["task=embedded", *(word for word in command.split()[3:] if "method" in word or "thr" in word)]
            )
            assert settings(config.method, config.threshold) == settings(*setting(name, keep=keep, **options))
            wanted = thresholds_of(*setting(name, keep=keep, **options))
            assert thresholds_of(config.method, config.threshold) == wanted


def test_a_measured_point_tells_the_command_in_its_record() -> None:
    record = make_record(command="python -m bild.run method=bild")
    assert command_of(make_section([record]), record) == record.command


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

    from bild.report.page import HERE

    for name, told in vendored().items():
        assert hashlib.sha256((HERE / "vendor" / name).read_bytes()).hexdigest() == told["sha256"]
        assert told["license"] == "ISC"


def test_a_point_whose_drafts_go_by_costs_is_shown_but_not_decoded() -> None:
    records = [
        make_record(method__max_draft=limit, draft_costs=costs)
        for limit, costs in ((10, None), ("auto", DraftCostsRecord(0.1, {1: 1.0, 2: 1.1}, 0.0)))
    ]
    assert from_json(to_json(records[1])) == records[1]
    section = make_section(records)
    grids = grids_of([found for record in records if (found := setting_of(record)) is not None])
    shown = {point["name"]: point["at"] for point in section_points(section, (), grids)}
    assert shown == {"BiLD 0.6/2": {"grid": 0, "fb": 0, "value": 0}, "BiLD 0.6/2 kauto": None}
    assert {"BiLD 0.6/2", "BiLD 0.6/2 kauto"} == {label(record) for record in records}
    assert planes_of(make_section(records[1:]))[0].group.endswith("drafts by measured costs")
