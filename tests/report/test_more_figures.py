"""The figures beyond the front: what they compute, and when they are there."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from bild.config import MethodConfig, ThresholdConfig
from bild.report import contents, make_section
from bild.report.figure import Missing, Sheet, Theme
from bild.report.figures import sheets_of
from bild.report.figures.curves import ablation_sheet, early_exit_sheet, kind, predicted_sheet, relative
from bild.report.figures.heat import grids_of, heat_sheet
from bild.report.figures.rounds import agreement_sheet, by_place, gains, lengths, wilson
from bild.report.figures.times import shares, times_of
from bild.report.format import label
from bild.report.report import write_contents
from bild.report.sections import find_sections
from bild.results import Interval
from bild.results.predicted import Agreement, Forecast, PredictedSeconds
from tests.records import make_point, make_record, make_sweep
from tests.report.folders import put, round_of
from tests.report.sweeps import guess
from tests.report.sweeps import recorded as swept

ROUNDS = [[round_of(1, 4, 4), round_of(6, 4, 2), round_of(9, 0, 0, "unsure")], [round_of(1, 3, 3, "eos", None)]]


def test_with_examples_and_traces_every_figure_is_there(tmp_path: Path) -> None:
    many = [[round_of(1, 4, 4), round_of(6, 4, 2)]] * 24
    for record in (*make_sweep(), make_point("bild", 0.6, math.inf, 10, 1.9, 38.0, 6, 0)):
        put(tmp_path, record, [(10.0 + i % 7, 18.0 + i % 5) for i in range(24)], many)
    (section,), _ = find_sections(tmp_path)
    sheets, missing = sheets_of(section, [guess(0.6, 2.0), guess(0.3, 9.0)])
    assert [sheet.stem for sheet in sheets] == [
        "pareto", "heat", "phases", "drafts", "agreement", "latency", "work", "ablation", "predicted",
    ]  # fmt: skip
    assert missing == []
    for sheet in sheets[3:]:
        figure = sheet.draw("light", "phone")
        figure.draw_without_rendering()
        assert min(text.get_window_extent().y0 for text in figure.texts) >= 0
        assert all(axes.get_window_extent().x0 > 0 for axes in figure.axes)


def test_lengths_of_drafts_and_tokens_of_a_large_pass() -> None:
    assert lengths(ROUNDS) == {0: 0.25, 1: 0.0, 2: 0.0, 3: 0.25, 4: 0.5}
    found = gains(ROUNDS)
    assert found == {0: 0.0, 1: 0.25, 2: 0.0, 3: 0.5, 4: 0.0, 5: 0.25}
    assert sum(n * share for n, share in found.items()) == pytest.approx((5 + 3 + 1 + 3) / 4)


def test_agreement_counts_a_token_only_behind_ones_that_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bild.report.figures.rounds.FEWEST", 1)
    places, positions = by_place(ROUNDS)
    assert {at: round(share.value) for at, share in places.items()} == {1: 100, 2: 100, 3: 67, 4: 100}
    assert list(positions) == [2, 6]
    assert wilson(8, 10).value == 80.0
    assert (wilson(8, 10).low, wilson(8, 10).high) == pytest.approx((49.02, 94.33), abs=0.01)


def test_times_of_the_examples(tmp_path: Path) -> None:
    record = make_record()
    put(tmp_path, record, [(10.0, 20.0), (30.0, 15.0)])
    (section,), _ = find_sections(tmp_path)
    times = times_of(section, record)
    assert times is not None
    assert (times.own, times.base, times.ratios, times.slower) == ([10.0, 30.0], [20.0, 15.0], [2.0, 0.5], 0.5)


def test_the_parts_of_the_time_sum_to_one() -> None:
    assert sum(shares(make_record())) == pytest.approx(1.0)


def test_the_grid_holds_the_points_that_share_their_switches() -> None:
    other = make_point("bild", 0.6, 2.0, 4, 9.9, 1.0, 0, 0)
    found = grids_of(make_section([*make_sweep(), other]), [guess(0.6, 2.0), guess(0.1, 2.0)])
    small, large = sorted(found, key=lambda grid: len(grid.cells))
    cells, axes, switches = large
    assert axes == ("fb", "rb")
    assert (len(cells), len(small.cells)) == (11, 1)
    assert (large.spans, small.spans) == (True, False)
    assert cells[0.6, 2.0] == (39.61, 1.6, True)
    assert cells[0.1, 2.0] == (39.5, 1.5, False)
    assert switches.startswith("BiLD")
    assert switches.endswith("drafts of up to 10")


@pytest.mark.parametrize(
    ("settings", "axes", "group"),
    [
        ([MethodConfig("lenience", max_draft=k) for k in (4, 8)], ("alpha", "max_draft"), "lenience alpha"),
        ([MethodConfig("dynamic", max_draft=k) for k in (4, 8)], ("fb", "max_draft"), "dynamic fb"),
        ([MethodConfig("bild", keep="share")], ("fb", "alpha"), "BiLD fb/alpha, keep=share, drafts of up to 10"),
    ],
)
def test_a_grid_may_be_of_any_stop_and_keep_rule(
    settings: list[MethodConfig], axes: tuple[str, str], group: str
) -> None:
    own = [ThresholdConfig(fb=fb, alpha=alpha) for fb in (0.3, 0.6) for alpha in (0.1, 0.2)]
    if settings[0].name == "lenience":
        own = [ThresholdConfig(alpha=alpha) for alpha in (0.1, 0.2)]
    elif settings[0].name == "dynamic":
        own = [ThresholdConfig(fb=fb) for fb in (0.3, 0.6)]
    found = [swept(method, threshold) for method in settings for threshold in own]
    (grid,) = grids_of(make_section(make_sweep()[:1]), found)
    assert (grid.axes, grid.group, len(grid.cells)) == (axes, group, 4)
    sheet = heat_sheet(make_section(make_sweep()), found)
    assert isinstance(sheet, Sheet)
    assert "BiLD fb/rb" in sheet.caption  # what was measured goes first
    assert "4 settings with other switches not shown" in sheet.caption


def test_ablations_are_told_by_their_thresholds() -> None:
    assert kind(make_record()) == "BiLD"
    assert kind(make_record(threshold__rb=math.inf)) == "no rollback (rb = ∞)"
    assert kind(make_record(threshold__fb=0.0)) == "no fallback (fb = 0)"
    assert kind(make_record(method__name="vanilla")) is None
    found = ablation_sheet(make_section(make_sweep()))
    assert isinstance(found, Missing)
    assert "threshold=rollback-only,fallback-only" in found.command


@pytest.mark.parametrize("width", ["print", "phone"])
def test_wild_intervals_and_wide_numbers_keep_points_and_labels_in_the_figure(width: str) -> None:
    wild = {"latency__speedup__total": Interval(1.4, 0.1, 60.0)}
    found = ablation_sheet(make_section([*make_sweep(), make_record(threshold__rb=math.inf, **wild, hash="9" * 64)]))
    assert isinstance(found, Sheet)
    assert found.draw("light", width).axes[0].get_xlim()[1] < 4  # the bar leaves the frame

    def with_long_numbers(theme: Theme, width: str) -> Figure:
        figure = found.make(theme, width)
        figure.axes[0].set_ylim(-0.00025, 0.00025)
        return figure

    figure = Sheet("", "", "", with_long_numbers).draw("light", width)
    figure.draw_without_rendering()
    labels = [each.yaxis.label.get_window_extent() for axes in figure.axes for each in (axes, *axes.child_axes)]
    assert len(labels) == 2
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in labels)


def test_places_are_whole_numbers_and_an_empty_panel_says_so(tmp_path: Path) -> None:
    put(tmp_path, make_record(), [(10.0, 18.0)] * 24, [[round_of(at, 1, 0) for at in range(1, 96, 4)]] * 1)
    (section,), _ = find_sections(tmp_path)
    found = agreement_sheet(section)
    assert isinstance(found, Sheet)
    figure = found.draw()
    figure.draw_without_rendering()
    left, right = figure.axes
    assert all(tick == int(tick) for tick in left.get_xticks())
    assert list(right.get_xticks()) == []
    assert [text.get_text() for text in right.texts] == ["none has 20 tokens"]


def test_early_exit_is_for_pairs_that_exit_early() -> None:
    assert early_exit_sheet(make_section(make_sweep())) is None
    changes: dict[str, Any] = {"pair__name": "mt5-small-exit1"}
    lacking = early_exit_sheet(make_section(make_sweep(**changes)))
    assert isinstance(lacking, Missing)
    assert "model=mt5-small model.exit=1" in lacking.command
    both = [*make_sweep(**changes), make_point("calm", None, None, None, 1.3, 39.9, 0, 0, label="calm", **changes)]
    found = early_exit_sheet(make_section(both))
    assert isinstance(found, Sheet)
    found.draw()
    assert relative(make_point("bild", 0.6, 2.0, 10, 2.0, 39.0, 0, 0)).value == 0.5


def test_measured_against_predicted_pairs_the_same_settings() -> None:
    section = make_section(make_sweep())
    found = predicted_sheet(section, [guess(0.6, 2.0), guess(0.1, 2.0)])
    assert isinstance(found, Sheet)
    assert found.caption.startswith("1 point. Predicted over measured speedup: settled beside the measurement, so no")
    assert isinstance(predicted_sheet(section, []), Missing)


def test_predictions_of_before_are_judged_apart_from_the_settled_ones() -> None:
    section = make_section(make_sweep(latency__examples=40))
    forecast = Forecast(PredictedSeconds(0.2, 0.19, 0.21), Interval(2.0, 1.9, 2.1))
    before = guess(0.6, 2.0, 1.62, before=forecast)  # measured: 1.6
    seen = Agreement(40, 1.9, Interval(1.78, 1.76, 1.8), 0.2, 0.21, False, 1.8, 0.205)
    found = predicted_sheet(section, [before, guess(0.6, 4.0, before=forecast, agreement=seen)])
    assert isinstance(found, Sheet)
    off = [2.0 / 1.6 - 1, 1.9 / 1.78 - 1]
    bias, scatter = 100 * statistics.mean(off), 100 * statistics.stdev(off)
    assert f"before the measurement: bias {bias:+.1f} % (mean), scatter {scatter:.1f} % (sd about it)" in found.caption
    assert "settled by prices taken beside it: bias +1.2 % (mean), scatter 0.1 %" in found.caption
    assert "!: 2 whose intervals do not meet" in found.caption
    figure = found.draw()
    assert [text.get_text() for text in figure.axes[0].texts] == ["!", "!"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["!"]  # of other examples, ms say nothing


def test_the_points_that_stand_for_a_section_are_its_picks_and_its_front() -> None:
    chosen = make_section(make_sweep()).telling(4)
    assert {"BiLD 0.9/2", "BiLD 0.7/4"} <= {label(record) for record in chosen}
    assert not {"vanilla", "small"} & {record.label for record in chosen}


@pytest.mark.whole
@pytest.mark.slow
def test_hundreds_of_points_do_not_take_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bild.report.report.VARIANTS", (("", "light", "print", ("svg",)),))
    root = tmp_path / "results"
    for record in make_sweep()[:3]:
        put(root, record)
    for i in range(16):
        for j in range(12):
            speedup, score = 1.2 + 0.04 * i - 0.001 * j, 40.5 - 0.1 * i - 0.01 * ((7 * i + 3 * j) % 11)
            put(root, make_point("bild", i / 16, 0.25 * (j + 1), 10, speedup, score, 5.0, 1.0))
    began = time.process_time()  # of this process alone, whatever else the machine does
    found = contents(root)
    files = write_contents(found, tmp_path / "out")
    assert time.process_time() - began < 40
    assert sum(len(section.records) for section in files.shown.sections) == 195
