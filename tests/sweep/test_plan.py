"""The plan: for each of the four tasks offline, without checkpoints and data, and with what an earlier sweep left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bild.bench import roofline as rates
from bild.cli import compose
from bild.cli.published import shapes
from bild.sweep import plan, sizes
from bild.sweep.config import SweepConfig
from tests.cli.commands import call

EXAMPLES = {"iwslt2017": "888", "wmt14": "3,000", "xsum": "11,332", "cnndm": "13,368"}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, no network, and a probe that is over at once."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(plan, "_PROBE_SECONDS", 0.0)
    monkeypatch.setattr(rates, "_LONG_ENOUGH_NS", 0)


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
    found = sizes.model_sizes(checkpoints, None, shapes())
    assert found is not None
    assert [size.weights for size in found] == pytest.approx([large, small], rel=0.01)


def test_a_pair_whose_sizes_nothing_tells_is_planned_without_hours(tmp_path: Path) -> None:
    own = ("model=folders", "model.large=somebody/own", "model.small=somebody/other", "task=xsum")
    done = call("bild.sweep.__main__", *own, "sweep=quick", "plan=only", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "hours: unknown, the sizes of somebody/own are not known here" in done.out
