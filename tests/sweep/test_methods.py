"""A sweep over several methods at once: their points are in one front, and every prediction is what runs live."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bild.report.predictions import sweeps_of
from bild.report.sections import find_sections
from bild.results import Point, find_records, read_samples
from bild.results.parts import Method
from bild.results.predicted import Predicted, find_predicted
from bild.tree import Tree, open_tree
from tests.cli.commands import call

EXAMPLES = 4
OPTIONS = (
    f"task.samples={EXAMPLES}",
    "task.target_limit=16",
    "measure.warmup=0",
    "measure.library=0",
    "measure.sessions=1",
    "sweep.methods=[bild,cascade,oracle]",
    "sweep.rules=[paper]",
    "sweep.fb=[0.5]",
    "sweep.rb=[2]",
    "sweep.alpha=[0.1,0.4]",
    "sweep.windows=[3]",
    "sweep.calibration=0.1",
    "sweep.front=-1",
    "sweep.least=4",
)
LIVE = {"vanilla", "small", "speculative k3", "BiLD 0.5/2", "cascade 0.5/0.1", "cascade 0.5/0.4"}
BOUND = "oracle 2 k10"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    cwd = tmp_path_factory.mktemp("methods")
    done = call("bild.sweep.__main__", *OPTIONS, cwd=cwd)
    assert done.code == 0, done.err
    return cwd, done.out


def predicted(cwd: Path) -> Predicted:
    ((_, found),), _ = find_predicted(cwd / "results")
    return found


def tree_of(cwd: Path) -> Tree:
    return open_tree(cwd / "results" / "embedded" / "embedded" / "tree")


def options_of(method: Method) -> dict[str, object]:
    kept = ("stop", "keep", "max_draft", "first", "after_rollback", "verify_eos", "unsure", "scan", "rules")
    return {name: value for name in kept if (value := getattr(method, name)) is not None}


def test_all_methods_are_in_one_front_and_the_oracle_is_never_measured(swept: tuple[Path, str]) -> None:
    cwd, told = swept
    found = {point.label: point for point in predicted(cwd).points}
    assert found.keys() == LIVE | {BOUND}
    assert {label for label, point in found.items() if point.measured} == LIVE
    bound = found[BOUND]
    assert (bound.front, bound.chosen, bound.agreement) == (False, None, None)
    assert (bound.method.stop, bound.method.keep, bound.threshold.rb) == ("oracle", "nll", 2.0)
    assert "4 of the grid (1 BiLD, 2 cascade, 1 oracle)" in told
    assert "upper bounds among them (stop=oracle, predicted and never measured): 1" in told
    assert "Upper bounds (stop=oracle; in predicted.json alone): 1, up to ~" in told


def measured(cwd: Path) -> list[Point]:
    points, skipped = find_records(cwd / "results")
    assert skipped == []
    return points


@pytest.mark.parametrize("label", sorted(LIVE))
def test_every_prediction_is_what_runs_live(swept: tuple[Path, str], label: str) -> None:
    cwd, _ = swept
    (point,) = [each for each in measured(cwd) if each.record.label == label]
    record, samples = point.record, {sample.id: sample.tokens for sample in read_samples(point.path)}
    given = {name: value for name, value in vars(record.threshold).items() if value is not None}
    replay = tree_of(cwd).take(samples).replay(method=record.method.name, **options_of(record.method), **given)
    assert dict(zip(samples, replay.tokens, strict=True)) == samples
    (own,) = [each for each in predicted(cwd).points if each.label == label]
    assert (own.method, own.threshold) == (record.method, record.threshold)
    assert own.counts.large_passes == replay.counts.large_passes == record.counts.large_passes
    assert own.counts.small_passes == replay.counts.small_passes == record.counts.small_passes


def test_the_report_has_no_upper_bound_on_its_front(swept: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bild.report.report.VARIANTS", (("", "light", "print", ("svg",)),))
    cwd, _ = swept
    (section,), _ = find_sections(cwd / "results")
    points = sweeps_of(section, find_predicted(cwd / "results")[0]).points
    models = (section.first.pair.large, section.first.pair.small)
    assert list(predicted(cwd).models.values()) == [model.fingerprint for model in models]
    assert BOUND in {point.label for point in points}
    assert BOUND not in {point.label for point in points if point.front}
    done = call("bild.report.__main__", "results", "--out", "report", cwd=cwd)
    assert done.code == 0, done.err


def test_a_found_point_is_told_with_the_command_that_runs_it(swept: tuple[Path, str]) -> None:
    cwd, _ = swept
    methods = ["sweep.methods=[cascade]", "sweep.find=speedup", "sweep.margin=100", "sweep.confirm=false"]
    options = [o for o in OPTIONS if not o.startswith(("sweep.methods", "sweep.fb", "sweep.rb", "sweep.alpha"))]
    done = call("bild.sweep.__main__", *options, *methods, cwd=cwd)
    assert done.code == 0, done.err
    command = next(line for line in done.out.splitlines() if "bild.run" in line).strip()
    assert "method=cascade" in command
    assert "method.stop=unsure method.keep=share" in command
    _, _, module, *words = shlex.split(command)
    assert module == "bild.run"
    ran = call("bild.run", *words, cwd=cwd)
    assert ran.code == 0, ran.err
