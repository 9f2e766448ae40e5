"""A training or an alignment that is killed at any call to the file system, or with a file half written, and goes on;
so do runs and reports (`tests/killing.py`).

A few calls and sizes are tried; with CASES=all in the environment, all of them. `scripts/check_kills.py` has more.
"""

from __future__ import annotations

import os
import re
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
from tests.training.tiny import timeless, tiny_config, tiny_task, write_corpus
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
    assert run.holds("memory", 1_000_000)
    options = ("--only", "points", "--only", "pareto")
    report = Lab(mother, tmp_path / "report", written, "bild.report.__main__:main", str(EXAMPLE), *options)
    assert report.holds("full", max(run.sizes[0], report.sizes[-1]))


ROWS = ("shape=embedded-small", "shape.rows=150", "train=scratch", "train.steps=1", "train.batch=2", "splits.test=null")
TRAIN = ("task=file", "task.path=../corpus", "task.target_limit=6", "train.validate_samples=1", "device=cpu", *ROWS)
TWICE: dict[str, tuple[str, ...]] = {
    "run -m": ("bild.run:main", "-m", "threshold.fb=0.3,0.7", *QUICK),
    "train": ("bild.train:main", *TRAIN, "out=out"),
    "train -m": ("bild.train:main", "-m", "train.seed=0,1", "out=out${train.seed}", *TRAIN),
    "report": ("bild.report.__main__:main", str(EXAMPLE), "--only", "points"),
}


@pytest.mark.slow
@pytest.mark.spread(1)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", TWICE)
def test_two_processes_on_one_folder_end_as_one_does(mother: Zygote, tmp_path: Path, kind: str) -> None:
    write_corpus(tmp_path / "corpus")
    for name in ("alone", "both"):
        (tmp_path / name).mkdir()
    alone = mother.start(*TWICE[kind], cwd=tmp_path / "alone")
    assert alone.wait() == 0, alone.log.read_text()
    both = [mother.start(*TWICE[kind], cwd=tmp_path / "both") for _ in range(2)]
    said = [child.wait() for child in both], both[0].log.read_text()
    assert said[0] == [0, 0], said[1]
    assert kind == "report" or re.search("waiting: process.* is finished", said[1], re.DOTALL), said[1]
    assert not list(tmp_path.rglob("*.tmp"))
    if kind.startswith("train"):
        outs = sorted(path.parent.name for path in (tmp_path / "both").rglob("training.json"))
        assert [timeless(tmp_path / "both" / out) for out in outs] == [
            timeless(tmp_path / "alone" / out) for out in outs
        ]
        assert len(outs) == (2 if "-m" in kind else 1)
    else:
        state = measured if kind == "run -m" else written
        assert state(tmp_path / "both") == state(tmp_path / "alone")
