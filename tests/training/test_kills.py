"""A training or an alignment that is killed at any call to the file system, or with a file half written, and goes on.

The killed process comes from `tests.zygote`. It dies at the n-th call that changes something in its folder, which an
audit hook counts, or where a file would grow beyond a size, which a limit of the system turns into a signal in the
middle of the write, whichever library writes. Every fourth call and size are tried; with CASES=all in the environment,
all of them.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bild.config import ModelConfig
from bild.training.alignment import align
from bild.training.config import AlignConfig, AlignSettings, SplitSettings, TrainSettings
from bild.training.job import train
from tests.training.tiny import timeless, tiny_config, tiny_task, write_corpus
from tests.zygote import Zygote

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.copyfile"}


def main() -> int:
    """Train or align: `kind folder`, and, to be killed, `call n` or `size n`."""
    kind, folder, *death = sys.argv[1:]
    out, limit = Path(folder) / "out", int(death[1]) if death else 0
    seen = 0

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in EVENTS and str(out) in str(arguments[0]) and (event != "open" or writes(arguments)):
            seen += 1
            if death and death[0] == "call" and seen == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)
    if death and death[0] == "size":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    settings: dict[str, Any] = {"epochs": 1, "steps": 1, "validate_samples": 2, "checkpoint_minutes": 0.0}
    corpus, teacher = Path(folder).parent / "corpus", str(Path(folder).parent / "teacher" / "out")
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
    print("calls", seen)
    return 0


def writes(arguments: tuple[Any, ...]) -> bool:
    """Tell whether a file is opened to be written; by the flags, which the mode of Python's own `open` leaves out."""
    mode, flags = arguments[1], arguments[2]
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) or any(letter in (mode or "") for letter in "wxa+")


class Lab:
    """One whole training, and others that are killed."""

    def __init__(self, mother: Zygote, folder: Path, kind: str) -> None:
        self.mother, self.folder, self.kind = mother, folder, kind
        assert self.run("whole") == 0, self.log("whole")
        self.whole = timeless(folder / "whole" / "out")
        self.calls = int(self.log("whole").split("calls ")[1].split()[0])
        self.sizes = sorted(path.stat().st_size for path in (folder / "whole" / "out").iterdir())

    def run(self, name: str, *death: str) -> int:
        """Run in a folder of this name to the end, or to a death; return the exit code."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return self.mother.start("tests.training.test_kills:main", self.kind, str(place), *death, cwd=place).wait()

    def log(self, name: str) -> str:
        """Return what was said in a folder."""
        return (self.folder / name / "log").read_text()

    def holds(self, name: str, *death: str) -> None:
        """Kill one, and go on to the same bits."""
        code = self.run(name, *death)
        assert code in (-signal.SIGKILL, -signal.SIGXFSZ, 0), self.log(name)
        assert code or death[0] == "size"
        assert self.run(name) == 0, self.log(name)
        assert timeless(self.folder / name / "out") == self.whole, death
        left = {path.name for path in (self.folder / name / "out").iterdir()}
        assert left == {path.name for path in (self.folder / "whole" / "out").iterdir()}


@pytest.fixture(scope="module")
def laboratory(mother: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, and a trained model to align."""
    folder = tmp_path_factory.mktemp("kills")
    write_corpus(folder / "corpus")
    (folder / "teacher").mkdir()
    mother.run("tests.training.test_kills:main", "train", str(folder / "teacher"), cwd=folder / "teacher")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["train", "align"])
def test_killed_anywhere_it_ends_in_the_same_bits(laboratory: Path, mother: Zygote, kind: str, tmp_path: Path) -> None:
    for name in ("corpus", "teacher"):
        (tmp_path / name).symlink_to(laboratory / name)
    lab = Lab(mother, tmp_path, kind)
    assert lab.calls > 20
    step = 1 if os.environ.get("CASES") == "all" else 4
    for number in range(1 + (kind == "align"), lab.calls + 1, step):
        lab.holds(f"call{number}", "call", str(number))
    for size in sorted({size // 2 for size in lab.sizes if size > 1})[::step]:
        lab.holds(f"size{size}", "size", str(size))
