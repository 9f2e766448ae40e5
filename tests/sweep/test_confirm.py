"""Two sets of examples that share none, and the ledger of what was looked at."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bild.cli import compose
from bild.config import MethodConfig, RunConfig, ThresholdConfig
from bild.errors import BildError
from bild.measure.session import command_of
from bild.results.codec import read_lines
from bild.results.predicted import LEDGER, LedgerEntry
from bild.sweep.config import SweepConfig
from bild.sweep.find import divide, enter
from bild.sweep.grid import SweptPoint, vanilla_point
from tests.cli.commands import but


def sets(*options: str) -> tuple[set[str], set[str]]:
    config = compose(but(["task=embedded", "sweep.find=speedup"], *options), "sweep", SweepConfig)
    here, there = divide(config)
    return {e.id for e in here.data}, {e.id for e in there.data}


def own_file(folder: Path) -> tuple[str, ...]:
    """A task of one's own with two splits."""
    for split, count in (("dev", 5), ("eval", 3)):
        lines = [f'{{"source": "{split} {i}", "reference": "text {i}"}}\n' for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return ("task=file", f"task.path={folder}", "task.split=dev")


def test_a_share_is_chosen_on_and_the_rest_confirms() -> None:
    here, there = sets("sweep.choose=0.25", "task.samples=40", "task.confirm=null")
    assert (len(here), len(there)) == (10, 30)
    assert not here & there
    half, rest = sets("task.samples=40", "task.confirm=null")
    assert (len(half), len(rest)) == (20, 20)
    assert here < half


def test_a_task_with_two_splits_is_confirmed_on_the_other(tmp_path: Path) -> None:
    here, there = sets(*own_file(tmp_path), "task.confirm=eval")
    assert (len(here), len(there)) == (5, 3)
    assert sets(*own_file(tmp_path), "task.confirm=eval", "sweep.choose=eval") == (there, here)
    assert sets(*own_file(tmp_path), "sweep.choose=eval") == (there, here)
    with pytest.raises(BildError, match="names no split beside dev to confirm on"):
        sets(*own_file(tmp_path), "sweep.choose=dev")


def test_the_command_that_is_printed_reads_the_same_data_again(tmp_path: Path) -> None:
    config = compose(but(["sweep.find=speedup"], *own_file(tmp_path), "task.tokenize=char"), "sweep", SweepConfig)
    point = vanilla_point().recorded()
    _, _, _, *options = shlex.split(command_of(config, *point, None, here=True))
    assert compose(options, "run", RunConfig).task == config.task
    assert str(tmp_path) not in command_of(config, *point, None)  # as a record has it


def test_a_file_of_ids_is_chosen_on(tmp_path: Path) -> None:
    options = own_file(tmp_path)
    everything, _ = sets(*options, "task.confirm=eval")
    one, two, *others = sorted(everything)
    (tmp_path / "ids.txt").write_text(f"{one}\n\n{two}\n")
    assert sets(*options, f"sweep.choose={tmp_path}/ids.txt") == ({one, two}, set(others))
    (tmp_path / "ids.txt").write_text("nobody\n")
    with pytest.raises(BildError, match="has the id nobody, which no example of the task has"):
        sets(*options, f"sweep.choose={tmp_path}/ids.txt")
    (tmp_path / "ids.txt").write_text("\n".join(everything))
    with pytest.raises(BildError, match="leaves one side without examples"):
        sets(*options, f"sweep.choose={tmp_path}/ids.txt")


@pytest.mark.parametrize("share", ["0", "1", "1.5"])
def test_a_share_out_of_range_is_refused(share: str) -> None:
    with pytest.raises(BildError, match="a share lies between 0 and 1"):
        sets(f"sweep.choose={share}")


def test_choosing_without_a_search_is_refused() -> None:
    with pytest.raises(BildError, match=r"sweep\.choose has no effect here"):
        compose(["sweep.choose=0.5"], "sweep", SweepConfig)


def work(folder: Path, data: str = "d") -> Any:
    task, examples = SimpleNamespace(split="test"), SimpleNamespace(provenance={"hash": data})
    return SimpleNamespace(folder=folder, config=SimpleNamespace(task=task), full=examples, data=examples)


def point(fb: float) -> SweptPoint:
    return SweptPoint(MethodConfig(), ThresholdConfig(fb, 2.0), "grid")


def test_each_other_look_at_the_same_examples_is_counted(tmp_path: Path) -> None:
    assert enter(work(tmp_path), [point(0.3)], 0.5) == []
    assert enter(work(tmp_path), [point(0.3)], 1.0) == []  # the same setting is the same look
    assert enter(work(tmp_path, "other"), [point(0.5)], 0.5) == []
    (earlier,) = enter(work(tmp_path), [point(0.4), point(0.5)], 0.5)
    assert (earlier.labels, earlier.bound) == ([point(0.3).label], 0.5)
    assert len(enter(work(tmp_path), [point(0.5), point(0.4)], 0.5)) == 1
    assert len(read_lines(LedgerEntry, tmp_path / LEDGER)) == 3


def test_a_torn_line_is_no_look_and_spoils_no_other(tmp_path: Path) -> None:
    enter(work(tmp_path), [point(0.3)], 0.5)
    path = tmp_path / LEDGER
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole + whole[:length])
        found = enter(work(tmp_path), [point(0.4)], 0.5)
        assert [look.labels for look in found] in ([[point(0.3).label]], [[point(0.3).label]] * 2)
        assert read_lines(LedgerEntry, path)[-1].labels == [point(0.4).label]
