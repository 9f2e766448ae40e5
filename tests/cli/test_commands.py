"""The command lines from the outside: help, the composed configuration, the demo, and where files go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bild.cli import options
from tests.cli.commands import QUICK, Finished, call, points, record, spawn


@pytest.mark.parametrize("module", ["bild.run", "bild.demo"])
def test_help_lists_the_options_of_every_group(tmp_path: Path, module: str) -> None:
    done = call(module, "--help", cwd=tmp_path)
    assert done.code == 0
    assert f"python -m {module}" in done.out
    assert all(name in done.out for name in options("task"))
    assert "threshold:\n  fb: null" in done.out


def test_the_configuration_can_be_shown_without_running(tmp_path: Path) -> None:
    done = spawn("bild.run", "experiment=paper/xsum-aligned-rb2-fb0.6", "--cfg", "job", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    shown = yaml.safe_load(done.out)
    assert (shown["threshold"]["fb"], shown["threshold"]["rb"], shown["method"]["rules"]) == (0.6, 2.0, "authors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", ["-m task.samples=1 threshold.fb=2,3", "task.samples=1 -m threshold.fb=2,3"])
def test_options_may_stand_on_both_sides_of_m(tmp_path: Path, order: str) -> None:
    assert call("bild.run", *order.split(), cwd=tmp_path).refusal().startswith("threshold.fb=2 is out of range")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """The demo with four points, judged on eight examples, of which three are timed."""
    cwd = tmp_path_factory.mktemp("demo")
    four = "points=[{method: vanilla}, {method: small}, {method: speculative}, {fb: 0.4, rb: 3}]"
    return call("bild.demo", four, "task.samples=8", "timed=3", *QUICK, cwd=cwd), cwd


@pytest.mark.slow
def test_the_demo_measures_its_points_and_writes_a_table_and_a_figure(demo: tuple[Finished, Path]) -> None:
    done, cwd = demo
    assert done.code == 0, done.err
    assert {path.name for path in cwd.iterdir()} == {"results", "demo"}
    made = points(cwd / "results" / "demo" / "embedded" / "embedded-bridge")
    labels = ["BiLD 0.4/3", "small", "speculative k10", "vanilla"]
    assert [record(point)["label"] for point in made] == labels
    table = (cwd / "demo" / "table.md").read_text()
    assert all(label in table for label in ("vanilla", "small", "BiLD 0.4/3"))
    assert (cwd / "demo" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert "Written: demo/table.md" in done.out


@pytest.mark.slow
def test_the_demo_ends_in_a_verdict_and_the_next_command(demo: tuple[Finished, Path]) -> None:
    claim, following = demo[0].out.rstrip().splitlines()[-2:]
    assert re.fullmatch(
        r"BiLD 0\.4/3: \d\.\d\dx \[.+, .+\].* on 3 examples, [+-]\d\.\d\d BLEU on 8: "
        r"(shown within|refuted at|undecided at) 0\.5.*\.",
        claim,
    )
    assert following == "Next: bild sweep task=embedded model=embedded-bridge sweep.find=speedup sweep.margin=0.5"


@pytest.mark.slow
def test_the_demo_times_few_examples_and_judges_all(demo: tuple[Finished, Path]) -> None:
    for found in (record(point) for point in points(demo[1])):
        assert (found["quality"]["origin"], found["quality"]["examples"]) == ("tree", 8)
        assert found["latency"]["examples"] == 3


@pytest.mark.slow
def test_the_points_of_the_demo_may_be_compared(demo: tuple[Finished, Path]) -> None:
    found = [record(point) for point in points(demo[1])]
    assert len({r["task"]["data"]["hash"] for r in found}) == 1
    assert len({r["environment"]["machine"]["fingerprint"] for r in found}) == 1
    by_method = {r["method"]["name"]: r for r in found}
    vanilla, speculative, small = (by_method[name] for name in ("vanilla", "speculative", "small"))
    assert vanilla["latency"]["speedup"]["total"]["value"] == 1.0
    assert vanilla["quality"]["scores"] == speculative["quality"]["scores"]
    assert speculative["quality"]["difference"]["bleu"]["value"] == 0.0
    assert small["counts"]["large_passes"] == small["counts"]["tokens_per_large_pass"] == 0
    assert vanilla["counts"]["small_passes"] == 0


@pytest.mark.slow
def test_a_results_folder_may_be_named(tmp_path: Path) -> None:
    elsewhere = tmp_path / "a place of my own"
    done = call("bild.run", f"results='{elsewhere}'", "task.samples=1", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err
    (point,) = points(elsewhere)
    saved = yaml.safe_load((point / "config.yaml").read_text())
    assert saved["results"] == str(elsewhere)
    assert saved["task"]["samples"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a place of my own"}
