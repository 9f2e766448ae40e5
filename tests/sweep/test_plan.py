"""The plan: for each of the four tasks offline, without checkpoints and data, and with what an earlier sweep left."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bild.bench import roofline as rates
from bild.cli import compose
from bild.cli.compose import shapes
from bild.engines import DTYPES
from bild.errors import BildError
from bild.models.shapes import configs_named, module_bytes
from bild.results.work import Sizes
from bild.sweep import estimates, plan
from bild.sweep.config import GridConfig, SweepConfig
from bild.sweep.context import GrownTree, SweepWork
from bild.sweep.estimates import Span, Taken, factors, keep, taken_before, texts_of
from bild.sweep.grid import grid_points
from bild.sweep.plan import Plan, SessionWidth, Stored
from bild.sweep.show_plan import TreeCost, planned_and_taken, show_plan, sweep_cost
from tests.cli.commands import call

EXAMPLES = {"iwslt2017": "888", "wmt14": "3,000", "xsum": "11,332", "cnndm": "13,368"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, no network, and a probe that is over at once."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(estimates, "_PROBE_SECONDS", 0.0)
    monkeypatch.setattr(rates, "_LONG_ENOUGH_NS", {"cpu": 0})


def test_no_span_of_a_plan_stands_upside_down() -> None:
    config = compose(["sweep.minutes=0.01", "sweep.least=500"], "sweep", SweepConfig)
    slow = Taken("live", "", "", config.model.pair_name, "", 9.0, 1.0, 1.0)
    for minutes, examples, known in itertools.product((0.0, 0.5, 60.0), (1, 40, 9000), ([], [slow])):
        config.sweep.minutes = minutes
        for span in estimates.planned(config, Span(0.1, 0.2), known, examples=examples, measured=9).values():
            assert span.low <= span.high


@pytest.mark.spread(1)
@pytest.mark.parametrize("task", EXAMPLES)
def test_a_plan_of_each_of_the_four_tasks_offline(task: str, tmp_path: Path) -> None:
    done = call("bild.sweep.__main__", f"task={task}", "plan=only", cwd=tmp_path)
    assert done.code == 0, done.err
    assert f"{EXAMPLES[task]} examples" in done.out
    for words in (
        "points:",
        "nothing yet in",
        "one vanilla pass:",
        "the tree:",
        "live:",
        "in all:",
        "sessions a stage:",
        "a claim of at most 0.5 lost takes about",
        "disk:",
        "memory:",
    ):
        assert words in done.out, words
    assert not (tmp_path / "results").exists()


def test_the_embedded_pair_needs_no_guess(tmp_path: Path) -> None:
    done = call("bild.sweep.__main__", "sweep=quick", "plan=only", "task.samples=10", cwd=tmp_path)
    assert "24 points: 20 of the grid, 4 baselines, 0 published" in done.out
    assert "10 examples (task.samples)" in done.out
    assert re.search(r"texts of \d+ source and \d+ output tokens on average \(the length of the texts\)", done.out)


@pytest.mark.parametrize(("model", "large", "small"), [("t5-large", 738e6, 60.5e6), ("mt5-large", 1.23e9, 300e6)])
def test_sizes_follow_from_names(model: str, large: float, small: float) -> None:
    config = compose([f"model={model}"], "sweep", SweepConfig)
    checkpoints = config.model.fit(config.task)
    assert checkpoints is not None
    found = configs_named(checkpoints, None, shapes())
    assert found is not None
    assert [module_bytes(each, DTYPES["fp32"]) // 4 for each in found] == pytest.approx([large, small], rel=0.01)
    assert estimates.large_sizes(checkpoints, shapes()) == Sizes.of(found[0], found[0].vocab_size)


def planned(*overrides: str) -> Plan:
    config = compose(list(overrides), "sweep", SweepConfig)
    points = grid_points(config.sweep, config.task, config.method, [])
    return Plan.of(config, points, shapes())


@pytest.mark.parametrize("same", [("task.confirm=choose",), ("task.split=confirm",)])
def test_nothing_is_confirmed_on_the_split_that_it_is_chosen_on(same: tuple[str, ...]) -> None:
    with pytest.raises(BildError, match="is the split that is chosen on: confirm on another"):
        planned("sweep.find=speedup", *same)


def test_the_numbers_of_a_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "probe", lambda *_: (10.0, 100.0))
    found = planned("task=xsum", "model=t5-large", "sweep=quick", f"results={tmp_path}/none")
    assert found.text is not None
    text, stages = found.text[0], found.stages
    assert (len(found.points), found.measured, found.examples) == (24, 9, 11_332)
    assert found.stored == Stored(tmp_path / "none" / "xsum" / "t5-large", [], 0, 0, [], [])
    # 28 tokens, each of which reads T5-large's decoder in fp32; and 302 M weights of an encoder by 540 source tokens.
    least = 28 * 0.174 + 2 * 302e6 * 540 / 100e9
    assert (text.low, text.high) == pytest.approx((1.2 * least, 2.5 * least), rel=0.05)
    assert (stages["tree"].low, stages["tree"].high) == pytest.approx((0.5 * 11_332 * text.low, 4 * 11_332 * text.high))
    # The quarter of an hour that sweep=quick gives it holds less than the first stage, which is measured anyway.
    first = 32 * (9 + 1 + 2) + 2 * 32
    assert stages["live"].low == pytest.approx(0.4 * first * text.low + 5 * 4)
    assert stages["live"].high == pytest.approx(1.2 * first * text.high + 10 * 30)
    # Both models and a head of its own for each, and the library's module of the large one.
    assert found.needs["fp32"].weights == pytest.approx(4 * (738e6 + 60.5e6 + 32128 * (1024 + 512)), rel=0.01)
    assert found.needs["fp32"].module == pytest.approx(4 * 738e6, rel=0.01)
    assert next(iter(found.needs)) == "fp32"
    assert found.lengths_source == "conf/sweep.yaml"


def test_a_claim_takes_examples_and_sessions(tmp_path: Path) -> None:
    found = planned("task=xsum", "model=t5-large", "sweep=quick", f"results={tmp_path}/none", "measure.margin=1")
    assert (found.claim.margin, found.claim.source) == (1.0, "an assumption")
    assert found.claim.examples == math.ceil((2.4865 * found.claim.sd) ** 2)
    assert found.sessions.width == pytest.approx(2.776 * 0.02 / math.sqrt(5), rel=1e-3)
    assert SessionWidth(1, 0.02, "").width == math.inf


def test_of_few_examples_no_more_are_planned_than_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "decoded_probe", lambda *_: 0.5)
    found = planned("task.samples=10", "sweep=quick", "measure.sessions=1", f"results={tmp_path}/none")
    texts = 10 * (9 + 1 + 2) + 2 * 10
    assert found.stages["live"] == Span(0.5 * 0.4 * texts, 0.5 * 1.2 * texts)


def test_a_tree_that_was_grown_is_no_cost_any_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "decoded_probe", lambda *_: 0.5)
    options = ["sweep.fb=[0.3]", "sweep.rb=[2]", "task.samples=2", "task.target_limit=24", "measure.sessions=1"]
    config = compose([*options, f"results={tmp_path}/results"], "sweep", SweepConfig)
    points = grid_points(config.sweep, config.task, config.method, [])
    before = sweep_cost(config, points, {})
    GrownTree(SweepWork(config)).replays(points)
    found = sweep_cost(config, points, {})
    assert (found.tree, found.done) == (TreeCost(before.tree.key, Span(0.0, 0.0), 0.0), "its tree")
    assert found.seconds == before.seconds.plus(before.tree.seconds.times(-1))
    farther = grid_points(GridConfig(fb=[0.01, 0.5, 0.99], rb=[0.1, 9.0]), config.task, config.method, [])
    assert sweep_cost(config, farther, {}).tree.seconds.low > 0.0
    config.task.samples = 3
    assert sweep_cost(config, points, {}).tree.seconds.low > 0.0


def test_a_plan_goes_by_what_earlier_stages_took(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Planned and taken are kept side by side, and the next plan of this machine goes by what was taken."""
    monkeypatch.setattr(plan, "decoded_probe", lambda *_: 0.5)
    options = ("task.samples=10", "sweep=quick", "measure.sessions=1", f"results={tmp_path}")
    first = planned(*options)
    assert first.learned == 0
    took = Taken("tree", first.machine, "fused", "embedded", "embedded", seconds=90.0, texts=10.0, text=0.5)
    assert texts_of(first.config, "tree", 10, 9) == 10
    told = planned_and_taken(first.stages, [took])
    assert told == ["Took: the tree 1.5 min, planned 2.5 s to 20 s !. The next plan here goes by it."]
    keep(tmp_path, [took], first.stages)
    (tmp_path / "stages.jsonl").open("a").write('{"stage": "tr')  # a kill
    ((known),) = taken_before(tmp_path, first.machine, "fused")
    assert known.planned == [2.5, 20.0]
    assert taken_before(tmp_path, "another", "fused") == []
    second = planned(*options)
    assert (second.learned, second.stages["tree"]) == (1, Span(90 / 1.25, 90 * 1.25))
    assert second.stages["prices"] == first.stages["prices"]
    other = Taken("tree", first.machine, "fused", "t5-large", "xsum", seconds=1.0, texts=10.0, text=0.5)
    assert factors("tree", [took, other], "embedded") == factors("tree", [took], "embedded")
    assert factors("tree", [took], "t5-large") == factors("tree", [took], "embedded")
    assert factors("tree", [took, replace(took, text=0.0)], "embedded") == factors("tree", [took], "embedded")


def test_a_budget_without_end_is_not_told_in_minutes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for minutes in ("60", "inf"):
        show_plan(planned("task=xsum", "model=t5-large", f"results={tmp_path}", f"sweep.minutes={minutes}"))
        told = " ".join(capsys.readouterr().out.split())
        assert ("known to ±3%, or 60 minutes are spent 5 sessions" in told) == (minutes == "60")
        assert "inf" not in told


def test_a_pair_whose_sizes_nothing_tells_is_planned_without_hours(tmp_path: Path) -> None:
    own = ("model=folders", "model.large=somebody/own", "model.small=somebody/other", "task=xsum")
    done = call("bild.sweep.__main__", *own, "sweep=quick", "plan=only", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "hours: unknown, the sizes of somebody/own are not known here" in done.out
