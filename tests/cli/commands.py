"""Running the command lines, in this process (without the seconds that torch takes to import) or in another one."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

REPOSITORY = Path(__file__).parents[2]

QUICK = (
    *("measure.warmup=1", "measure.library=2", "measure.calm_minutes=0"),
    "task.target_limit=12",
)
"""Options that make a run short."""


def but(usual: Iterable[str], *others: str) -> tuple[str, ...]:
    """Return options with others in the place of those of the same key, as no key is taken twice."""
    keys = {each.partition("=")[0] for each in others}
    return (*(each for each in usual if each.partition("=")[0] not in keys), *others)


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one sentence that the command ended in, without a traceback and without output."""
        assert self.code == 2, self
        assert self.out == ""
        told = ("warning: The machine is busy", "running on ")
        lines = [line for line in self.err.splitlines() if not line.startswith(told)]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert lines[0].endswith(".")
        return lines[0].removeprefix("error: ")


def call(module: str, *arguments: str, cwd: Path) -> Finished:
    """`python -m <module> <arguments>` in this process."""
    main = importlib.import_module(module).main
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [module, *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd),
    ):
        try:
            code = main()
        except SystemExit as error:
            code = error.code
    assert isinstance(code, int)
    return Finished(code, out.getvalue(), err.getvalue())


def environment(extra: Mapping[str, str] | None = None, path: Path = REPOSITORY) -> dict[str, str]:
    """The environment of a process that is to import the package from `path`."""
    return {**os.environ, **(extra or {}), "PYTHONPATH": str(path)}


def start(module: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`python -m <module> <arguments>` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, and all under it, ignores Ctrl-C; what is tested here must not inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def spawn(module: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Finished:
    """`start`, and wait for its end."""
    process = start(module, *arguments, cwd=cwd, env=env)
    out, err = process.communicate()
    return Finished(process.returncode, out, err)


def points(results: Path) -> list[Path]:
    """The folders of all points below a results folder."""
    return sorted(path.parent for path in results.rglob("config.yaml"))


def only_point(results: Path) -> Path:
    """The folder of the one point below a results folder."""
    (path,) = points(results)
    return path


def record(point: Path) -> dict[str, Any]:
    """The record of a point as plain JSON."""
    return json.loads((point / "record.json").read_bytes())
