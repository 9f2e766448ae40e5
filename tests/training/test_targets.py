"""The large model's outputs: as one-by-one decoding gives them, and none lost or doubled by a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bild.engines import build_engine
from bild.errors import BildError
from bild.training.corpus import by_length
from bild.training.judge import greedy_batch
from bild.training.targets import TargetFile
from tests.training.tiny import tiny_module

IDS = [f"line-{i}" for i in range(40)]
BATCHES = by_length(40, lambda i: 1 + (7 * i) % 11, 4)


def open_file(folder: Path, identity: str = "a") -> TargetFile:
    folder.mkdir(exist_ok=True)
    return TargetFile(folder, identity, IDS, BATCHES)


def fill(file: TargetFile, until: int | None = None) -> None:
    for number in range(file.done, len(file.batches) if until is None else until):
        file.append(number, [[i, 1] for i in file.batches[number]])


def test_batched_outputs_are_those_of_the_engine() -> None:
    module = tiny_module(3).eval()
    for name, parameter in module.named_parameters():  # a new T5 repeats itself: louder layers, a sharper head
        with torch.no_grad():
            parameter.mul_(4.0 if ".o." in name or "wo" in name else 1.0)
    sources = [[3 + (5 * i * j) % 140 for j in range(1, 2 + i % 7)] + [1] for i in range(12)]
    found = greedy_batch(module, sources, vocabulary=150, max_length=12)
    engine = build_engine("hf", module, dtype="fp32", eos=1, vocabulary=150)
    for i, source in enumerate(sources):
        engine.start(source)
        tokens, _, _ = engine.draft([0], 11, 0.0)
        assert found[i] == tokens, i
    begun = [found[i][: i % 4] + [7] * (i % 3) for i in range(12)]
    options = {"vocabulary": 150, "max_length": 12}
    for start, source, text in zip(begun, sources, greedy_batch(module, sources, begun, **options), strict=True):
        engine.start(source)
        assert text == start + engine.draft([0, *start], 11 - len(start), 0.0)[0]


@pytest.mark.slow
def test_a_killed_writer_goes_on_where_it_was(tmp_path: Path) -> None:
    script = f"""
import time, sys
from pathlib import Path
from tests.training.test_targets import open_file, fill
file = open_file(Path({str(tmp_path / "killed")!r}))
for number in range(len(file.batches)):
    if number + 1 == len(file.batches):
        time.sleep(300)  # it is killed before its last batch, however busy the machine is
    fill(file, number + 1)
    print(number, flush=True)
    time.sleep(0.05)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.02)
    process.kill()
    process.wait()
    whole = open_file(tmp_path / "whole")
    fill(whole)
    resumed = open_file(tmp_path / "killed")
    assert 3 <= resumed.done < len(resumed.batches)
    fill(resumed)
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert resumed.read() == [[i, 1] for i in range(40)]


@pytest.mark.parametrize("cut", [1, 15, 60, 200])
def test_what_a_kill_tore_is_written_again(tmp_path: Path, cut: int) -> None:
    whole = open_file(tmp_path / "whole")
    fill(whole)
    torn = open_file(tmp_path / "torn")
    fill(torn, 5)
    torn.path.write_bytes(torn.path.read_bytes()[:-cut])
    again = open_file(tmp_path / "torn")
    assert again.done < 5
    fill(again)
    assert again.path.read_bytes() == whole.path.read_bytes()
    names = [json.loads(line)["id"] for line in again.path.read_text().splitlines()]
    assert sorted(names) == sorted(IDS)


def test_an_unfinished_file_is_no_target(tmp_path: Path) -> None:
    file = open_file(tmp_path / "a")
    fill(file, 2)
    with pytest.raises(BildError, match="8 of 40 outputs"):
        file.read()


def test_outputs_of_another_model_are_refused(tmp_path: Path) -> None:
    fill(open_file(tmp_path / "a"), 1)
    with pytest.raises(BildError, match="outputs of another model"):
        open_file(tmp_path / "a", identity="b")
