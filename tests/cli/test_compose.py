"""Every option under conf/ composes, and a task or a pair that was not named is chosen to fit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bild.cli import GROUPS, compose, conf_dir, load, options
from bild.config import METHODS, MethodConfig, RunConfig, ThresholdConfig
from bild.decoding import thresholds_of
from bild.decoding.methods import heeds
from bild.demo import DemoConfig
from bild.errors import BildError
from bild.options import folder_of
from bild.sweep.config import SweepConfig
from tests.cli.commands import spawn

FOLDERS = ("model.large=a", "model.small=b")
TRANSLATION = {"iwslt2017", "wmt14", "multi30k", "multi30k-files", "embedded", "file"}
SUMMARISATION = {"xsum", "cnndm", "embedded-news"}
EXIT = {option: ["model.exit=1"] for option in ("mt5-small", "t5-small")}
"""The options that these need beside their name: a small model, here the first layer."""
FITS = {
    "embedded": TRANSLATION,
    "mt5-large-aligned": {"iwslt2017", "wmt14"},
    "t5-large": SUMMARISATION,
    "pretrained/mt5-large-small": TRANSLATION,
    "pretrained/t5-base-small": SUMMARISATION,
}
LARGE_OF = {
    "embedded": "embedded",
    "mt5-large-aligned": "-de-en",
    "t5-large": ("-xsum", "-cnndm"),
    "pretrained/mt5-large-small": "google/mt5-large",
    "pretrained/t5-base-small": "google-t5/t5-base",
}


@pytest.mark.spread(8)
@pytest.mark.parametrize(
    ("group", "option"),
    [
        (group, option)
        for group in GROUPS
        for option in options(group)
        if option not in ("folders", "oracle")  # oracle is refused live: see the test below
    ],
)
def test_every_option_composes_by_itself(group: str, option: str) -> None:
    config = compose([f"{group}={option}", *EXIT.get(option, [])])
    assert isinstance(config, RunConfig)
    assert config.model.fit(config.task) is not None
    if group in ("task", "method", "engine"):
        assert getattr(config, group).name == option
    if group == "model":
        made_for = option.removeprefix("pretrained/")
        assert config.model.name == (made_for if made_for == option else f"{made_for}-pretrained")


def test_every_method_has_its_file_which_names_its_rules() -> None:
    assert set(options("method")) == set(METHODS)
    for name, spec in METHODS.items():
        text = (conf_dir() / "method" / f"{name}.yaml").read_text(encoding="utf-8")
        comment = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
        named = set(load("method", name))
        assert named - {"name"} <= heeds(MethodConfig(name), ThresholdConfig()), "every option has an effect"
        if spec.stop and name not in ("bild", "cascade"):  # these two name every rule that goes with them
            assert f"stop={spec.stop}, keep={spec.keep}" in comment


def test_the_oracle_is_refused_live_in_one_sentence() -> None:
    with pytest.raises(BildError, match="method=oracle cannot be run live"):
        compose(["method=oracle"])


def test_a_pair_of_folders_composes_with_both_of_them() -> None:
    config = compose(["model=folders", *FOLDERS])
    assert (config.task.name, config.model.large, config.model.small) == ("file", "a", "b")


@pytest.mark.spread(3)
@pytest.mark.parametrize(
    ("task", "pair"),
    [
        ("xsum", "t5-large"),
        ("cnndm", "t5-large"),
        ("embedded-news", "t5-large"),
        ("iwslt2017", "mt5-large"),
        ("wmt14", "mt5-large"),
        ("embedded", "embedded"),
        ("multi30k", "embedded"),
        ("multi30k-files", "embedded"),
        ("file", "embedded"),
    ],
)
def test_a_task_alone_chooses_its_pair(task: str, pair: str) -> None:
    config = compose([f"task={task}"])
    assert (config.task.name, config.model.name) == (task, pair)


@pytest.mark.spread(3)
@pytest.mark.parametrize(
    ("pair", "task"),
    [
        ("t5-large", "xsum"),
        ("t5-large-aligned", "xsum"),
        ("mt5-large", "iwslt2017"),
        ("mt5-large-aligned", "iwslt2017"),
        ("pretrained/t5-base-small", "cnndm"),
        ("pretrained/mt5-large-small", "iwslt2017"),
        ("embedded", "embedded"),
    ],
)
def test_a_pair_alone_chooses_its_task(pair: str, task: str) -> None:
    assert compose([f"model={pair}"]).task.name == task


def test_nothing_named_is_the_embedded_pair_on_the_embedded_task() -> None:
    config = compose([])
    assert (config.task.name, config.model.name, config.method.name, config.engine.name) == (
        "embedded",
        "embedded",
        "bild",
        "fused",
    )
    assert thresholds_of(config.method, config.threshold) == {"fb": 0.6, "rb": 5.0}
    assert config.method.max_draft == 10
    assert (config.results, config.resume) == ("results", True)


@pytest.mark.spread(6)
@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize(("pair", "tasks"), FITS.items())
def test_a_pair_is_taken_for_its_own_tasks_and_refused_for_others(task: str, pair: str, tasks: set[str]) -> None:
    if task in tasks:
        config = compose([f"task={task}", f"model={pair}"])
        assert config.model.fit(config.task).large.endswith(LARGE_OF[pair])
    else:
        with pytest.raises(BildError, match=f"does not fit task={task}"):
            compose([f"task={task}", f"model={pair}"])


@pytest.mark.spread(2)
@pytest.mark.parametrize("task", options("task"))
def test_a_pair_of_folders_fits_every_task(task: str) -> None:
    config = compose([f"task={task}", "model=folders", *FOLDERS])
    assert config.model.fit(config.task).large == "a"


def test_ones_own_checkpoints_win_over_the_published_ones() -> None:
    config = compose(["task=xsum", "model.small=mine"])
    fit = config.model.fit(config.task)
    assert (fit.large, fit.small) == ("kssteven/T5-large-xsum", "mine")


def test_a_threshold_of_zero_is_zero_and_not_the_default() -> None:
    config = compose(["threshold.fb=0.0", "threshold.rb=0.0"])
    assert (config.threshold.fb, config.threshold.rb) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("option", "fb", "rb"), [("default", None, None), ("fallback-only", 0.6, math.inf), ("rollback-only", 0.0, 2.0)]
)
def test_the_named_thresholds(option: str, fb: float | None, rb: float | None) -> None:
    config = compose([f"threshold={option}"])
    assert (config.threshold.fb, config.threshold.rb) == (fb, rb)


def test_thresholds_may_be_written_in_any_way_that_is_a_number() -> None:
    config = compose(["threshold.fb=1", "threshold.rb=inf"])
    assert (config.threshold.fb, config.threshold.rb) == (1.0, math.inf)


def test_the_demo_has_points_of_its_own() -> None:
    config = compose([], "demo", DemoConfig)
    settings = config.settings()
    assert [method.name for method, _ in settings][:3] == ["vanilla", "small", "speculative"]
    assert [(t.fb, t.rb) for method, t in settings if method.name == "bild"] == [(0.57, 9.7)]
    assert {method.first for method, _ in settings} == {"small"}
    assert (config.task.name, config.model.name, config.results) == ("embedded", "embedded-bridge", "results/demo")


def test_the_demo_is_judged_on_texts_that_nothing_was_chosen_on() -> None:
    config = compose([], "demo", DemoConfig)
    assert config.task.split == config.task.confirm == "confirm"
    assert config.timed is not None
    assert compose(["task=multi30k"], "demo", DemoConfig).task.split == "test"
    assert compose(["task.split=choose"], "demo", DemoConfig).task.split == "choose"


def test_a_point_of_the_demo_is_any_method_with_its_switches_and_thresholds() -> None:
    points = "{method: cascade, alpha: 0.2}, {method: calm, exit: 0.8, confidence: softmax}, {method: chow, alpha: 0.3}"
    options = [f"points=[{points}, {{rules: authors, first: large}}]", "method.unsure=drop", "timed=null"]
    config = compose(options, "demo", DemoConfig)
    (cascade, loses), (calm, leaves), (chow, _), (bild, usual) = config.settings()
    assert (cascade.name, cascade.max_draft, loses.alpha) == ("cascade", 10, 0.2)
    assert (calm.name, calm.confidence, leaves.exit) == ("calm", "softmax", 0.8)
    assert chow.name == "chow"
    assert (bild.name, bild.rules, bild.first, bild.unsure) == ("bild", "authors", "large", "drop")
    assert thresholds_of(bild, usual) == {"fb": 0.6, "rb": 5.0}


def test_a_home_is_found_where_the_shell_left_it_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compose(["results=~/a"]).results == f"{tmp_path}/a"
    assert folder_of("~/a") == tmp_path / "a"


def test_a_name_of_several_lines_is_refused() -> None:
    with pytest.raises(BildError, match=r"task\.name=a b has a line break"):
        compose(['task.name="a\nb"'])


def test_an_entry_of_a_mapping_is_given_whole_or_in_parts() -> None:
    whole = compose(["lengths.new={source: 1, target: 2}", "sweep.kinds.mine={fb: [0.3]}"], "sweep", SweepConfig)
    parts = ["lengths.new.source=1", "lengths.new.target=2", "sweep.kinds.mine.fb=[0.3]"]
    assert whole == compose(parts, "sweep", SweepConfig)
    assert (whole.lengths["new"].target, whole.sweep.kinds["mine"].fb) == (2, [0.3])
    pair = compose(["model=folders", "model.checkpoints.embedded={large: a b, small: c}", "task=embedded"])
    assert pair.model.checkpoints["embedded"].large == "a b"


def test_hydras_own_help_comes_whatever_was_chosen(tmp_path: Path) -> None:
    # Not in this process: Hydra configures logging, which closes what absl once took for standard error.
    done = spawn("bild.run", "--hydra-help", "task=embedded", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "hydra/launcher" in done.out
