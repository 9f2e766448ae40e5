"""Hydra's own launchers for plain points: jobs in other processes, their results, the exit code of failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bild.results import find_records
from tests.cli.commands import QUICK, points, spawn

SHORT = ("task.samples=2", "measure.warmup=0", *QUICK[1:])
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("plugin", "options"),
    [
        ("hydra_plugins.hydra_joblib_launcher", ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")),
        ("hydra_plugins.hydra_submitit_launcher", ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5")),
    ],
)
def test_a_launcher_runs_plain_points(tmp_path: Path, plugin: str, options: tuple[str, ...]) -> None:
    pytest.importorskip(plugin)
    done = spawn("bild.run", "-m", *options, "threshold.fb=0.3,0.6", *SHORT, cwd=tmp_path)
    assert done.code == 0, done.err
    found, skipped = find_records(tmp_path / "results")
    assert {point.record.threshold.fb for point in found} == {0.3, 0.6}
    assert skipped == []


def test_a_job_that_fails_elsewhere_is_told(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    done = spawn("bild.run", "-m", *launcher, "task.samples=2,99999", *SHORT[1:], cwd=tmp_path)
    assert done.code == 2
    assert "error: task.samples=99999 is more than" in done.err
    assert len(points(tmp_path)) == 1
