"""The options of a sweep, and its points: what is accepted, what is refused in one sentence, and what follows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bild.cli import compose, options
from bild.cli.compose import published_settings
from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.errors import BildError
from bild.sweep.config import Goal, GridConfig, SweepConfig
from bild.sweep.grid import BASELINE, GRID, PUBLISHED, SweptPoint, grid_points
from tests.cli.commands import call


def sweep(*overrides: str) -> SweepConfig:
    found = compose(list(overrides), "sweep", SweepConfig)
    assert isinstance(found, SweepConfig)
    return found


@pytest.mark.parametrize(
    ("task", "fb", "rb"),
    [
        ("iwslt2017", [0.5, 0.6, 0.7, 0.8, 0.9], list(range(1, 11))),
        ("xsum", [0.2, 0.3, 0.4, 0.5, 0.6], [2, 3, 4, 5, 6]),
    ],
)
def test_the_papers_grid_goes_by_the_kind_of_task(task: str, fb: list[float], rb: list[float]) -> None:
    config = sweep(f"task={task}", "sweep=paper")
    assert config.sweep.axes(config.method, config.task.kinds) == {"fb": fb, "rb": rb}
    other = sweep(f"task={task}", "sweep.fb=[0.1]").sweep
    assert other.axes(config.method, config.task.kinds) == {"fb": [0.1], "rb": rb}


@pytest.mark.spread(3)
@pytest.mark.parametrize(
    ("typed", "labels"),
    [
        (
            "method=cascade sweep.alpha=[0.05,0.2] sweep.fb=[0,0.3]",
            ["cascade 0/0.05", "cascade 0/0.2", "cascade 0.3/0.05", "cascade 0.3/0.2"],
        ),
        ("method=cascade sweep.alpha=[0.05]", ["cascade 0.05 k10"]),
        ("method.keep=share sweep.fb=[0.4] sweep.alpha=[0.05,1]", ["BiLD share 0.4/0.05", "BiLD share 0.4/1"]),
        ("method.keep=top sweep.fb=[0.4] sweep.top=[1,3]", ["BiLD top 0.4/1", "BiLD top 0.4/3"]),
        ("method=relaxed sweep.alpha=[0.5] sweep.top=[2,4]", ["relaxed 0.5 top2 k10", "relaxed 0.5 top4 k10"]),
        ("method=dynamic sweep.fb=[0.4] sweep.max_draft=[4,10]", ["dynamic 0.4 k4", "dynamic 0.4"]),
        ("method=heuristic", ["heuristic k10"]),
        ("method=oracle sweep.rb=[2]", ["oracle 2 k10"]),
        (
            "sweep.methods=[bild,cascade,heuristic] sweep.rules=[paper,authors] sweep.fb=[0.5] sweep.rb=[2] "
            "sweep.alpha=[0.1]",
            ["BiLD 0.5/2", "BiLD-A 0.5/2", "cascade 0.5/0.1", "heuristic k10"],
        ),
    ],
)
def test_every_method_is_swept_over_the_thresholds_that_it_heeds(typed: str, labels: list[str]) -> None:
    config = sweep("sweep.rules=[paper]", *typed.split())
    points = grid_points(config.sweep, config.task, config.method)
    assert [point.label for point in points if point.origin == GRID] == labels
    assert [point.label for point in points if not point.live] == [label for label in labels if "oracle" in label]


@pytest.mark.parametrize("grid", options("sweep"))
def test_every_grid_composes_with_every_kind_of_task(grid: str) -> None:
    for task in ("embedded", "xsum"):
        config = sweep(f"task={task}", f"sweep={grid}")
        points = grid_points(config.sweep, config.task, config.method, [])
        assert points[0].method.name == "vanilla"
        assert len({point.key for point in points}) == len(points)


def test_a_setting_is_in_the_sweep_once_however_it_is_written() -> None:
    grid = GridConfig(fb=[0.5, 0.50], rb=[2, 2.0, 3], windows=[10])
    own = (MethodConfig(), ThresholdConfig(0.5, 2))
    points = grid_points(grid, TaskConfig(), MethodConfig(), [own])
    assert [point.origin for point in points] == [BASELINE] * 3 + [PUBLISHED, GRID]
    one, other = (SweptPoint(MethodConfig("vanilla"), ThresholdConfig(fb), BASELINE) for fb in (0.1, 0.6))
    assert one.key == other.key


def test_the_papers_settings_are_composed_from_its_experiments() -> None:
    found = published_settings("iwslt2017", "mt5-large-aligned")
    assert {(t.fb, t.rb) for _, t in found} == {(0.9, 3.0), (0.6, 4.0)}
    assert {method.rules for method, _ in found} == {"authors"}
    assert published_settings("embedded", "embedded") == []


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    ("typed", "goal", "told"),
    [
        ("find=speedup margin=1", Goal("speedup", 1.0), "sweep.find=speedup sweep.margin=1"),
        ("find=speedup", Goal("speedup", 0.5), "sweep.find=speedup sweep.margin=0.5"),
        ("find=speedup margin=0", Goal("speedup", 0.0), "sweep.find=speedup sweep.margin=0"),
        ("find=speedup margin=-0.5", Goal("speedup", -0.5), "sweep.find=speedup sweep.margin=-0.5"),
        ("find=quality at_least=1.8", Goal("quality", 1.8), "sweep.find=quality sweep.at_least=1.8"),
        ("find=front", Goal("front", 0.5), "sweep.find=front"),
        ("find=methods", Goal("methods", 1.0, (0.0, 0.5, 1.0)), "sweep.find=methods sweep.margins=[0,0.5,1]"),
        ("find=methods margins=[2,0.3]", Goal("methods", 2.0, (0.3, 2.0)), "sweep.find=methods sweep.margins=[0.3,2]"),
    ],
)
def test_goals(typed: str, goal: Goal, told: str) -> None:
    found = sweep(*(f"sweep.{option}" for option in typed.split())).sweep.goal(0.5)
    assert found == goal
    assert str(found) == told


def test_power_is_how_far_from_its_margin_a_choice_keeps() -> None:
    """By hand: 1.645 is the 95 % end and 0.842 the 80 % one; of six lossy claims the first must stand at 1 - 0.05/6."""
    alone = sweep("sweep.find=speedup", "sweep.power=0.8").sweep.goal(0.5)
    even = sweep("sweep.find=speedup", "sweep.power=0.5").sweep.goal(0.5)
    several = ("sweep.find=methods", "sweep.methods=[bild,speculative,cascade,difference]", "sweep.margins=[0.5,1]")
    family = sweep(*several, "sweep.power=0.8").sweep.goal(0.5)
    assert alone is not None
    assert even is not None
    assert family is not None
    assert alone.reach == pytest.approx((1.645 + 0.842) / 1.645, abs=1e-3)
    assert even.reach == pytest.approx(1.0)
    assert family.reach == pytest.approx((2.394 + 0.842) / 1.645, abs=1e-3)


def test_a_grid_has_every_writer_of_the_first_token_that_is_asked_for() -> None:
    def firsts(grid: GridConfig, base: MethodConfig) -> list[str | None]:
        points = grid_points(grid, TaskConfig(), base, [])
        assert len({point.key for point in points}) == len(points)
        return [point.method.first for point in points if point.origin == "grid"]

    both = GridConfig(fb=[0.5], rb=[2, 5], first=["large", "small"])
    assert firsts(both, MethodConfig()) == ["large", "large", "small", "small"]
    assert firsts(GridConfig(fb=[0.5], rb=[2]), MethodConfig(first="small")) == ["small"]


@pytest.mark.spread(10)
@pytest.mark.parametrize(
    ("arguments", "beginning"),
    [
        ("sweep.fb=[0.5,1.5]", "sweep.fb=1.5 is out of range"),
        ("sweep.rb=[-1]", "sweep.rb=-1 is out of range"),
        ("sweep.max_draft=[0]", "sweep.max_draft=[0] is out of range"),
        ("sweep.max_draft=[auto]", "sweep.max_draft=auto is not a whole number"),
        ("sweep.rules=[mine]", "sweep.rules=mine is not known"),
        ("sweep.first=[both]", "sweep.first=both is not known: choose one of large, small"),
        ("sweep.fbb=[1]", "sweep.fbb is not an option (did you mean sweep.fb?)"),
        ("sweep=nope", "sweep=nope is not known: choose one of fine, paper, quick"),
        ("sweep.find=fast", "sweep.find=fast is not known: choose one of speedup, quality, front, methods"),
        (
            "sweep.find=quality",
            "sweep.find=quality needs the speedup that must be kept, above 0: give sweep.at_least=1.8",
        ),
        ("sweep.find=quality sweep.at_least=0", "sweep.at_least=0 is out of range: it must be above 0"),
        ("sweep.find=quality sweep.at_least=-1", "sweep.at_least=-1 is out of range: it must be above 0"),
        ("sweep.find=quality sweep.at_least=1.8x", "sweep.at_least=1.8x is not a number"),
        ("sweep.find=speedup sweep.margin=nan", "sweep.margin=nan is out of range"),
        ("sweep.find=speedup sweep.at_least=2", "sweep.at_least has no effect here"),
        ("sweep.find=front sweep.margin=1", "sweep.margin has no effect here"),
        ("sweep.margin=1", "sweep.margin has no effect here: leave it out, or search with sweep.find=speedup"),
        ("sweep.find=speedup sweep.margins=[1]", "sweep.margins has no effect here: leave it out, or search with"),
        ("sweep.power=0.8", "sweep.power has no effect here: leave it out, or search with sweep.find=speedup or"),
        ("sweep.find=front sweep.power=0.8", "sweep.power has no effect here"),
        ("sweep.find=speedup sweep.power=1", "sweep.power=1 is out of range: it must be from 0.5 to 0.999"),
        ("plan=maybe", "plan=maybe is not known"),
        ("threshold.fb=0.5", "threshold.fb has no effect here"),
        ("method=vanilla", "method=vanilla has no thresholds to sweep: it is a baseline of every sweep already"),
        ("sweep.methods=[bild,small]", "method=small has no thresholds to sweep"),
        ("sweep.methods=[bild,calm]", "method=calm cannot be swept"),
        ("sweep.methods=[bold]", "sweep.methods=bold is not known"),
        ("method=cascade sweep.methods=[bild]", "method=cascade has no effect beside sweep.methods"),
        ("method=cascade sweep.rb=[2]", "sweep.rb has no effect on cascade: leave it out"),
        ("sweep.methods=[cascade,dynamic] sweep.rb=[2]", "sweep.rb has no effect on cascade, dynamic: leave it out"),
        ("sweep.alpha=[0.1]", "sweep.alpha has no effect on bild: leave it out"),
        ("method=speculative sweep.top=[3]", "sweep.top has no effect on speculative: leave it out"),
        ("sweep.alpha=[2]", "sweep.alpha=2 is out of range"),
        ("sweep.top=[0]", "sweep.top=0 is out of range"),
        ("sweep.top=[1.5]", "sweep.top=1.5 is not a whole number"),
        ("method.stop=auto", "method.stop=auto goes by costs that only a live run measures"),
        ("method=oracle sweep.find=speedup", "sweep.find looks for settings that can run live"),
        ("method.rules=authors", "method.rules has no effect here"),
        ("sweep.width=0", "sweep.width=0 is out of range"),
        ("task=xsum model=embedded", "model=embedded does not fit task=xsum"),
    ],
)
def test_a_wrong_option_ends_in_one_sentence(tmp_path: Path, arguments: str, beginning: str) -> None:
    assert call("bild.sweep.__main__", *arguments.split(), cwd=tmp_path).refusal().startswith(beginning)
    assert list(tmp_path.iterdir()) == []


def test_an_infinite_rollback_threshold_is_a_point_of_its_own() -> None:
    points = grid_points(GridConfig(fb=[0.5], rb=[math.inf, 5]), TaskConfig(), MethodConfig(), [])
    assert [point.label for point in points[-2:]] == ["BiLD 0.5/inf", "BiLD 0.5/5"]


def test_thresholds_that_nothing_tells_are_asked_for() -> None:
    with pytest.raises(BildError, match=r"^The grid has no thresholds of method=cascade for translation-de-en: give"):
        grid_points(GridConfig(), TaskConfig(), MethodConfig("cascade"))
    with pytest.raises(BildError, match=r"give sweep.fb=\[0.3,0.6,0.9\] and sweep.rb=\[1,3,5\].$"):
        grid_points(GridConfig(), TaskConfig(), MethodConfig())
