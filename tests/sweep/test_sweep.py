"""Whole sweeps on the embedded pair: left in peace, killed at random moments, two at once, and done before."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bild.report.figures.methods import methods_table
from bild.report.sections import find_sections
from bild.results import find_records, read_samples
from bild.results.predicted import Predicted, find_predicted
from bild.results.prices import read_prices
from bild.tree import open_tree
from tests import lanes
from tests.zygote import Zygote

SWEEP = "bild.sweep.__main__:main"
EXAMPLES = 12
OPTIONS = (
    f"task.samples={EXAMPLES}",
    "task.target_limit=16",
    "measure.warmup=1",
    "measure.library=2",
    "measure.sessions=1",
    "measure.calm_minutes=0",
    "sweep.fb=[0.3,0.8]",
    "sweep.rb=[2]",
    "sweep.windows=[3]",
    "sweep.calibration=0.1",
    "sweep.front=-1",
    "sweep.least=6",
    "sweep.width=1",
    "sweep.minutes=0.0001",  # one stage, however wide a busy machine makes the intervals
)
LABELS = {"vanilla", "small", "speculative k3", "BiLD-A 0.3/2", "BiLD-A 0.8/2"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def peaceful(mother: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that was left in peace."""
    cwd = tmp_path_factory.mktemp("peaceful")
    child = mother.start(SWEEP, *OPTIONS, cwd=cwd)
    assert child.wait() == 0, child.log.read_text()
    return cwd


def predicted(cwd: Path) -> Predicted:
    ((_, found),), _ = find_predicted(cwd / "results")
    return found


def trees(cwd: Path) -> list[tuple[str, dict[str, list[Any]]]]:
    tree = open_tree(cwd / "results" / "embedded" / "embedded" / "tree")
    columns = ("parent", "token", "small_choice", "small_nll", "large_choice", "large_choice_nll", "large_nll")
    return [(e.id, {name: np.asarray(getattr(e.nodes, name)).tolist() for name in columns}) for e in tree.examples]


def records(cwd: Path) -> dict[str, dict[str, Any]]:
    """By folder, what does not depend on the clock."""
    found = {}
    points, skipped = find_records(cwd / "results")
    assert skipped == []
    for point in points:
        plain = json.loads((point.path / "record.json").read_bytes())
        kept = {part: plain[part] for part in ("hash", "label", "task", "method", "threshold", "quality", "counts")}
        kept["tokens"] = {s.id: s.tokens for s in read_samples(point.path)}
        found[point.path.name] = kept
    return found


def assert_same(cwd: Path, other: Path) -> None:
    """One set of results, equal to another's but for the times, and no half file."""
    assert list(cwd.rglob("*.tmp")) == []
    assert repr(trees(cwd)) == repr(trees(other))
    assert records(cwd) == records(other)
    one, two = predicted(cwd), predicted(other)
    assert one.finished
    assert [(p.label, p.quality, p.counts, p.chosen, p.measured) for p in one.points] == [
        (p.label, p.quality, p.counts, p.chosen, p.measured) for p in two.points
    ]


def progress(cwd: Path) -> int:
    """Count the files and the measured examples below a folder: about 100 when a sweep is done."""
    files = [path for path in cwd.rglob("*") if path.is_file()]
    return len(files) + sum(path.read_bytes().count(b"\n") for path in files if path.name == "samples.jsonl")


def test_a_sweep_leaves_a_tree_prices_predictions_and_points(peaceful: Path) -> None:
    found = predicted(peaceful)
    assert {p.label for p in found.points} == LABELS
    assert all(p.measured for p in found.points)
    assert {kept["label"] for kept in records(peaceful).values()} == LABELS
    assert read_prices(next(peaceful.rglob("tree/*/prices.json"))).error == found.prices
    for point in found.points:
        assert (point.agreement is None) == (point.label == "vanilla")
    # What was predicted before the measurement is kept apart from what was settled after it.
    (kept,) = peaceful.rglob("sweep-*/prices.json")
    assert read_prices(kept).error == found.before
    assert all(point.before is not None for point in found.points)
    judged = found.judgement()
    assert judged is not None
    assert judged.points == 4


def test_quality_is_of_all_examples_and_speed_of_the_timed_ones(peaceful: Path) -> None:
    tree = open_tree(peaceful / "results" / "embedded" / "embedded" / "tree")
    for kept in records(peaceful).values():
        quality = kept["quality"]
        assert (quality["examples"], quality["origin"], len(kept["tokens"])) == (EXAMPLES, "tree", 6)
        assert (kept["task"]["data"]["samples"], kept["counts"]["examples"]) == (6, 6)
        if kept["label"].startswith("BiLD"):
            replay = tree.replay(kept["threshold"]["fb"], 2.0, rules="authors")
            assert quality["scores"]["bleu"]["value"] == pytest.approx(replay.quality.value)
    for point in predicted(peaceful).points:
        (mine,) = [kept for kept in records(peaceful).values() if kept["label"] == point.label]
        assert point.quality.score == pytest.approx(mine["quality"]["scores"]["bleu"]["value"])


def test_predicted_quality_and_counts_are_those_of_the_live_points(peaceful: Path) -> None:
    """On the same examples the tree tells the very tokens that a live run writes."""
    tree = open_tree(peaceful / "results" / "embedded" / "embedded" / "tree")
    for fb in (0.3, 0.8):
        name = f"BiLD-A {fb}/2"
        (point,) = [kept for kept in records(peaceful).values() if kept["label"] == name]
        replay = tree.take(point["tokens"]).replay(fb, 2.0, rules="authors")
        assert dict(zip(point["tokens"], replay.tokens, strict=True)) == point["tokens"]
        assert replay.counts.large_passes == point["counts"]["large_passes"]
        assert replay.counts.small_passes == point["counts"]["small_passes"]


def test_all_measured_points_may_be_compared(peaceful: Path) -> None:
    sections, skipped = find_sections(peaceful / "results")
    assert len(sections) == 1
    assert list(skipped) == []


def test_the_terminal_tells_predicted_from_measured_and_what_to_type_next(peaceful: Path) -> None:
    told = (peaceful / "log").read_text()
    for words in ("What", "Takes", "predicted", "measured", "~", "Next: bild report", ".replay("):
        assert words in told, words
    assert "Traceback" not in told


FIND = ("sweep.max_draft=[4]", "sweep.choose=0.5")


def test_thresholds_are_chosen_on_one_half_and_confirmed_on_the_other(mother: Zygote, tmp_path: Path) -> None:
    def told(*options: str) -> str:
        usual = [option for option in OPTIONS if not option.startswith(("sweep.fb", "sweep.rb"))]
        child = mother.start(SWEEP, *usual, *FIND, *options, cwd=tmp_path)
        assert child.wait() == 0, child.log.read_text()
        return " ".join(child.log.read_text().split())

    chosen = told("sweep.find=speedup", "sweep.margin=90", "sweep.confirm=false")
    assert "sweep.find=speedup sweep.margin=90: " in chosen
    assert "settings replayed on 6 examples of choose chosen there: BiLD-A " in chosen
    assert "by point estimate on the same examples, as the paper chose: BiLD-A" in chosen
    assert "its optimism: chosen so on 200 random halves" in chosen
    assert "threshold.fb=" in chosen
    assert not list(tmp_path.rglob("record.json"))
    first = told("sweep.find=speedup", "sweep.margin=90")
    assert "on choose, where it was not chosen: BiLD-A " in first
    assert "on 6 examples, " in first
    assert "shown within 90" in first
    assert "The first confirmation of this pair on choose." in first
    assert len(list(tmp_path.rglob("tree/*/tree.json"))) == 2
    assert {kept["quality"]["examples"] for kept in records(tmp_path).values()} == {6}
    assert "The first confirmation" in told("sweep.find=speedup", "sweep.margin=90")  # the same again is no second look
    assert "Confirmation 2 of this pair on choose (before: BiLD-A " in told("sweep.find=quality", "sweep.at_least=0.1")
    pays = ("sweep.find=methods", "sweep.methods=[bild,speculative]", "sweep.margins=[0,90]")
    compared = told(*pays)
    assert "sweep.find=methods sweep.margins=[0,90]: " in compared
    assert "Which method pays" in compared
    assert "exact: 6 texts equal" in compared
    assert "Confirmation 3" in compared
    assert "Confirmation 4" not in told(*pays)
    table = next(table for (section,) in [find_sections(tmp_path)[0]] if (table := methods_table(section)))
    assert [row[:2] for row in table.rows] == [("BiLD", "0"), ("BiLD", "90"), ("speculative", "any")]
    assert table.rows[1][5] == "shown"


def test_stages_are_timed_in_fresh_processes(mother: Zygote, tmp_path: Path) -> None:
    options = [option for option in OPTIONS if not option.startswith(("measure.sessions", "sweep.front"))]
    child = mother.start(SWEEP, *options, "measure.sessions=2", "sweep.front=1", cwd=tmp_path)
    assert child.wait() == 0, child.log.read_text()
    points, _ = find_records(tmp_path / "results")
    for point in points:
        sessions = point.record.latency.sessions
        assert (point.record.sessions, [each.examples for each in sessions]) == (2, [3, 3])
        assert len({s.id for s in read_samples(point.path)}) == 6  # none is timed twice
        assert point.record.quality.examples == EXAMPLES
    found = read_prices(next(tmp_path.rglob("tree/*/prices.json")))
    before = read_prices(next(tmp_path.rglob("sweep-*/prices.json")))
    assert found.texts == before.texts + 12  # two beside each of the six examples, in the sessions' own processes


def test_the_same_command_again_does_nothing_anew(mother: Zygote, peaceful: Path) -> None:
    before = {p: p.read_bytes() for p in peaceful.rglob("record.json")}
    samples = {p: p.read_bytes() for p in peaceful.rglob("samples.jsonl")}
    tree = repr(trees(peaceful))
    child = mother.start(SWEEP, *OPTIONS, cwd=peaceful)
    assert child.wait() == 0
    assert {p: p.read_bytes() for p in peaceful.rglob("record.json")} == before
    assert {p: p.read_bytes() for p in peaceful.rglob("samples.jsonl")} == samples
    assert repr(trees(peaceful)) == tree
    assert len(find_predicted(peaceful)[0]) == 1


@pytest.mark.timeout(1800)
def test_kills_at_random_moments_change_nothing(mother: Zygote, peaceful: Path, tmp_path: Path) -> None:
    """Six of them, or ten with CASES=all."""
    dice = random.Random(8)
    killed, attempts = 0, lanes.some(range(10), 6)
    for attempt in attempts:
        child = mother.start(SWEEP, *OPTIONS, cwd=tmp_path)
        enough = progress(tmp_path) + (dice.randint(1, 10) if attempt else 0)
        while progress(tmp_path) < enough and not child.ended():
            time.sleep(0.02)
        time.sleep(dice.uniform(0.0, 0.05))
        child.kill()
        killed += child.wait() == -9
    assert killed > 1  # on a busy machine some end before they are killed
    last = mother.start(SWEEP, *OPTIONS, cwd=tmp_path)
    assert last.wait() == 0, last.log.read_text()
    assert_same(tmp_path, peaceful)


def test_two_sweeps_at_once_end_with_one_set_of_results(mother: Zygote, peaceful: Path, tmp_path: Path) -> None:
    both = [mother.start(SWEEP, *OPTIONS, cwd=tmp_path) for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0], both[0].log.read_text()
    assert "waiting: process" in both[0].log.read_text()
    assert_same(tmp_path, peaceful)


def test_more_examples_go_on_from_those_measured(mother: Zygote, peaceful: Path, tmp_path: Path) -> None:
    """A finer width grows the sub-sample in the same folders, and every record is of the larger one."""
    shutil.copytree(peaceful / "results", tmp_path / "results")
    before = {path.name for path in tmp_path.rglob("*-*") if (path / "record.json").exists()}
    child = mother.start(SWEEP, *OPTIONS[:-2], "sweep.width=0.001", cwd=tmp_path)
    assert child.wait() == 0, child.log.read_text()
    found = records(tmp_path)
    assert set(found) == before
    assert {len(kept["tokens"]) for kept in found.values()} == {EXAMPLES}
    assert {kept["task"]["data"]["samples"] for kept in found.values()} == {EXAMPLES}
