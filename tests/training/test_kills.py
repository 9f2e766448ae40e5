"""A training or an alignment that is killed at any call to the file system, or with a file half written, and goes on;
so do runs and reports (`tests/killing.py`).

A few calls and sizes are tried; with CASES=all in the environment, all of them. `scripts/check_kills.py` has more.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bild.config import ModelConfig
from bild.training.alignment import align
from bild.training.config import AlignConfig, AlignSettings, SplitSettings, TrainSettings
from bild.training.job import train
from tests.killing import EXAMPLE, Lab, measured, trained, written
from tests.training.tiny import tiny_config, tiny_task, write_corpus
from tests.zygote import Zygote

JOB = "tests.training.test_kills:job"


def job() -> None:
    """Train or align in the working folder: `kind folder`, where the corpus and the teacher lie in the folder."""
    kind, folder = sys.argv[1:]
    corpus, teacher, out = Path(folder) / "corpus", str(Path(folder) / "teacher" / "out"), Path("out")
    settings: dict[str, Any] = {"epochs": 1, "steps": 1, "validate_samples": 2, "checkpoint_minutes": 0.0}
    task = replace(tiny_task(corpus), target_limit=8)
    if kind == "train":
        train(replace(tiny_config(corpus, out, **settings), task=task, splits=SplitSettings()))
    else:
        align(
            AlignConfig(
                task=task,
                model=ModelConfig("folders", large=teacher, small=teacher),
                train=TrainSettings(batch=4, **settings),
                align=AlignSettings(start="finetuned", batch=12),
                device="cpu",
                out=str(out),
            )
        )


def prepare(mother: Zygote, folder: Path) -> None:
    """Write a corpus, and train a model to align."""
    write_corpus(folder / "corpus")
    (folder / "teacher").mkdir()
    child = mother.start(JOB, "train", str(folder), cwd=folder / "teacher")
    assert child.wait() == 0, child.log.read_text()


@pytest.fixture(scope="module")
def laboratory(mother: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and a teacher."""
    folder = tmp_path_factory.mktemp("kills")
    prepare(mother, folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["train", "align"])
def test_killed_anywhere_it_ends_in_the_same_bits(laboratory: Path, mother: Zygote, kind: str, tmp_path: Path) -> None:
    lab = Lab(mother, tmp_path, trained, JOB, kind, str(laboratory))
    assert lab.calls > 20
    step = 1 if os.environ.get("CASES") == "all" else 7
    died = [lab.holds("call", number) for number in range(1, lab.calls + 1, step)]
    died += [lab.holds("size", size) for size in lab.sizes[::step]]
    assert all(died)
    assert all(lab.holds("full", size) for size in lab.sizes[-2::-step])


QUICK = ("task.samples=3", "task.target_limit=16", "measure.warmup=1", "measure.library=1", "measure.calm_minutes=0")


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_and_a_report_that_are_killed_end_as_if_they_were_not(mother: Zygote, tmp_path: Path) -> None:
    for name in ("run", "report"):
        (tmp_path / name).mkdir()
    run = Lab(mother, tmp_path / "run", measured, "bild.run:main", *QUICK)
    assert run.holds("call", run.calls // 2)
    options = ("--only", "points", "--only", "pareto")
    report = Lab(mother, tmp_path / "report", written, "bild.report.__main__:main", str(EXAMPLE), *options)
    assert report.holds("full", max(run.sizes[0], report.sizes[-1]))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["-m", "train"])
def test_two_processes_on_one_folder_end_as_one_does(
    laboratory: Path, mother: Zygote, tmp_path: Path, kind: str
) -> None:
    command = ("bild.run:main", "-m", "threshold.fb=0.3,0.7", *QUICK) if kind == "-m" else (JOB, kind, str(laboratory))
    both = [mother.start(*command, cwd=tmp_path) for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0], both[0].log.read_text()
    said = both[0].log.read_text()
    assert "waiting: process" in said
    assert "is finished" in said
    assert not list(tmp_path.rglob("*.tmp"))
    found = measured(tmp_path) if kind == "-m" else trained(tmp_path)
    assert len(found) == (4 if kind == "-m" else 2)  # two points, and what was skipped and left
