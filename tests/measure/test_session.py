"""From a configuration to records: what a session leaves beside the measurement itself."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bild.results import find_records
from tests.cli.commands import QUICK, call


@pytest.mark.spread(1)
@pytest.mark.parametrize(
    "options",
    [
        ("method=bild", "method.rules=authors", "method.max_draft=4", "threshold.rb=inf", "model=embedded-aligned"),
        ("method=calm", "method.decay=null", "threshold.exit=0.8"),
        ("method=vanilla", "model.exit=2", "task.seed=3"),
    ],
)
def test_the_recorded_command_makes_the_point_again(tmp_path: Path, options: tuple[str, ...]) -> None:
    first = call("bild.run", *options, "task.samples=2", *QUICK, cwd=tmp_path)
    assert first.code == 0, first.err
    (point,), _ = find_records(tmp_path / "results")
    assert point.record.command is not None
    program, flag, module, *words = shlex.split(point.record.command)
    assert (program, flag, module) == ("python", "-m", "bild.run")
    again = call(module, *words, cwd=tmp_path)
    assert again.code == 0, again.err
    assert f"{point.path.name} is finished; this is its record" in again.err
