"""A command that dies at any call to the file system, in the middle of a write, on a full disk, without memory, by a
signal or at any time, and goes on: the one mechanism of the tests and of `scripts/check_kills.py`.

The processes come from `tests.zygote`. What changes something in the command's folder is counted by an audit hook; a
limit on the size of files ends a write in its middle, by a signal or as a full disk does, whichever library writes.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bild.errors import guard
from bild.export import main as export_main
from bild.results import find_records, read_samples, read_traces
from bild.results.predicted import PREDICTED, find_predicted
from bild.results.reading import EXAMPLE as NAME
from bild.tree import open_tree
from bild.tree.blocks import NODES, BlockFile
from bild.tree.store import EXAMPLES, TREE, read_all
from tests.cli.commands import REPOSITORY, environment
from tests.training.tiny import timeless
from tests.zygote import Zygote

EXAMPLE = REPOSITORY / "results" / NAME
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.copyfile"}
PAGE = 4096
LOG = 4000
"""Bytes that what a command says stays within."""
TOLD = {
    "full": (2, "disk is full|free some space"),
    "memory": (2, "memory of this machine is full"),
    "SIGINT": (130, "^stopped"),
    "SIGTERM": (143, "^stopped"),
}
"""Deaths that end in one sentence: the exit code, and words of it."""
KILLED = (-signal.SIGKILL, -signal.SIGXFSZ)

FAULTS = {"memory": (-signal.SIGSEGV,)}
"""Signals that a library's code ends the process by: oneDNN's, where its kernels for bf16 find no room."""


def thinned(folder: Path) -> Path:
    """Copy the example's results into a folder, with fewer points, predictions and examples of the tree.

    A report of the copy takes a twentieth of the time.
    """
    root = folder / "results"
    shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns("bild-0.1-3-*", "*-k10-*", "*-k24-*"))
    (predicted,), (head,) = root.rglob(PREDICTED), root.rglob(TREE)
    plain = json.loads(predicted.read_bytes())
    plain["points"] = [point for at, point in enumerate(plain["points"]) if point["measured"] or at % 64 == 0]
    predicted.write_text(json.dumps(plain))
    tables = [example.table for example in read_all(head.parent)[1][:4]]
    (head.parent / NODES).unlink()
    with BlockFile(head.parent / NODES) as file:
        for at, table in enumerate(tables):
            table.stored = 0
            file.append({at: table})
    lines = gzip.decompress((head.parent / EXAMPLES).read_bytes()).splitlines(keepends=True)
    (head.parent / EXAMPLES).write_bytes(gzip.compress(b"".join(lines[: len(tables)]), mtime=0))
    return root


def main() -> int:
    """Call `module:function` in this folder with a command line: `death number function arguments`.

    The deaths: `whole` (none), `call` (at the n-th change), `size` (where a file grows beyond n bytes), `full` (the
    same, but the disk is full there), `time` (after n milliseconds), `memory` (where it takes n bytes more than at its
    start), `SIGINT` or `SIGTERM` (where the n-th file is opened); or with a stdout of `STDOUTS`.
    """
    (death, number, function, *arguments), folder = sys.argv[1:], str(Path.cwd())
    limit, seen, opened = int(number), 0, 0

    def note(event: str, told: tuple[Any, ...]) -> None:
        nonlocal seen, opened
        if event == "open":
            opened += 1
            if opened == limit and death.startswith("SIG"):
                os.kill(os.getpid(), signal.Signals[death])
        if event in EVENTS and folder in str(Path(str(told[0])).absolute()) and (event != "open" or writes(told)):
            seen += 1
            if death == "call" and seen == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)
    if death in ("size", "full"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if death == "size" else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if death == "memory":
        limit += psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if death == "time":
        killer = threading.Timer(limit / 1e3, os.kill, (os.getpid(), signal.SIGKILL))
        killer.daemon = True
        killer.start()
    module, name = function.split(":")
    sys.argv = [module.removesuffix(".__main__"), *arguments]
    codes = [0]

    def work() -> None:
        codes.append(int(getattr(importlib.import_module(module), name)() or 0))
        if death == "whole":
            print("calls", seen, "opened", opened)

    if death in STDOUTS:
        STDOUTS[death]()
    try:
        code = guard(work) or codes[-1]
        if sys.stdout is not None:
            sys.stdout.flush()  # as at the end of a process: nothing may be left that cannot be written
    except SystemExit as end:  # --help of a parser
        code = int(end.code or 0)
    finally:
        sys.stdout = sys.__stdout__
    return code


def _unread() -> int:
    end, other = os.pipe()
    os.close(end)
    return other


def _stdout(opened: Callable[[], int]) -> None:
    os.dup2(opened(), 1)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="ascii")


def _closed() -> None:
    os.close(1)
    sys.stdout = None  # type: ignore[assignment]


STDOUTS: dict[str, Callable[[], None]] = {
    "ascii": partial(_stdout, partial(os.open, os.devnull, os.O_WRONLY)),
    "unread": partial(_stdout, _unread),
    "no room": partial(_stdout, partial(os.open, "/dev/full", os.O_WRONLY)),
    "closed": _closed,
}
"""Stdouts that fail."""


def export() -> int:
    """Write what the first point of the example wrote into a file, as a shell's `>` does."""
    with Path("out.jsonl").open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        return export_main([str(a_point())])


def a_point() -> Path:
    """The first point of the example."""
    return min(path.parent for path in EXAMPLE.rglob("samples.jsonl"))


def writes(told: tuple[Any, ...]) -> bool:
    """Tell whether a file is opened to be written; by the flags, which the mode of Python's own `open` leaves out."""
    mode, flags = told[1], told[2]
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) or any(letter in (mode or "") for letter in "wxa+")


def trained(place: Path) -> Any:
    """All of a training but its clock, bit by bit, and that nothing else lies there."""
    out = place / "out"
    return timeless(out), sorted(path.name for path in out.iterdir())


def measured(place: Path) -> Any:
    """All of points, trees and predictions but the clock."""
    points, skipped = find_records(place / "results")
    found: dict[str, Any] = {"skipped": skipped, "left": list(place.rglob("*.tmp"))}
    for point in points:
        plain = json.loads((point.path / "record.json").read_bytes())
        kept = {part: plain[part] for part in ("hash", "label", "task", "method", "threshold", "quality", "counts")}
        clock = {"ns", "baseline", "library", "session"}
        samples = [{k: v for k, v in vars(s).items() if k not in clock} for s in read_samples(point.path)]
        kept["samples"] = sorted(samples, key=lambda each: str(each["id"]))
        kept["rounds"] = repr(sorted(read_traces(point.path).items()))
        found[point.path.name] = kept
    for path in sorted((place / "results").rglob("tree/*/tree.json")):
        tree = open_tree(path.parent)
        found[path.parent.name] = [
            (e.id, repr([e.nodes.token, e.nodes.parent, e.nodes.large_nll])) for e in tree.examples
        ]
    for path, sweep in find_predicted(place / "results")[0]:
        found[path.parent.name] = [(p.label, p.quality, p.counts, p.chosen, p.measured) for p in sweep.points]
    return found


def written(place: Path) -> Any:
    """All files of a report, bit by bit."""
    files = (path for path in place.rglob("*") if path.is_file() and path.name != "log")
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


class Lab:
    """One command left in peace, and others that die and go on."""

    def __init__(
        self, mother: Zygote, folder: Path, state: Callable[[Path], Any], function: str, *arguments: str
    ) -> None:
        self.mother, self.folder, self.state, self.command = mother, folder, state, (function, *arguments)
        began = time.monotonic()
        assert self.run("whole") == 0, self.log("whole")
        self.seconds = time.monotonic() - began
        self.whole = state(folder / "whole")
        counts = re.findall(r"calls (\d+) opened (\d+)", self.log("whole"))
        self.calls, self.opened = map(int, counts[-1]) if counts else (0, 0)
        files = [path for path in (folder / "whole").rglob("*") if path.is_file() and path.name != "log"]
        self.bytes = sum(-(-path.stat().st_size // PAGE) * PAGE for path in files)
        self.sizes = sorted({path.stat().st_size // 2 for path in files if path.stat().st_size > 1})

    def run(self, name: str, death: str = "whole", number: int = 0) -> int:
        """Run in a folder of this name to the end, or to a death; return the exit code."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return self.mother.start("tests.killing:main", death, str(number), *self.command, cwd=place).wait()

    def log(self, name: str) -> str:
        """Return what was said in a folder."""
        return (self.folder / name / "log").read_text()

    def fills(self, size: int) -> bool:
        """Run on a disk of so many bytes, then with room, to the same end; return whether it was full. Needs root."""
        place = self.folder / f"disk{size}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
        try:
            (place / "log").symlink_to(self.folder / f"{place.name}.log")  # what is said finds room
            code = self.run(place.name)
            said = self.log(place.name)
            assert code in (0, 2), said
            assert "Traceback" not in said
            assert code == 0 or "disk is full" in said or "free some space" in said, said
            assert not list(place.rglob("*.tmp"))
            subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
            assert self.run(place.name) == 0, self.log(place.name)
            assert self.state(place) == self.whole, ("disk", size)
        finally:
            subprocess.run(["umount", place], check=True)
        return code != 0

    def holds(self, death: str, number: int) -> bool:
        """Let one die and go on to the same end; return whether it died at all."""
        if death == "disk":
            return self.fills(number)
        name = f"{death}{number}"
        shutil.rmtree(self.folder / name, ignore_errors=True)
        code = self.run(name, death, number)
        said = self.log(name)
        ended, told = TOLD.get(death, (None, ""))
        assert code in ((0, ended, *FAULTS.get(death, ())) if ended else (0, *KILLED)), (code, said)
        assert "Traceback" not in said
        if code == ended and (death != "full" or number > LOG):  # its log found room
            assert re.search(told, said, re.MULTILINE), said
            assert not [*(self.folder / name).rglob("*.tmp")], said
        assert self.run(name) == 0, self.log(name)
        assert self.state(self.folder / name) == self.whole, (death, number)
        shutil.rmtree(self.folder / name)
        return code != 0


class Limited(Lab):
    """One command as processes of their own, which `ulimit -v` ends anywhere, also as libraries are loaded."""

    def run(self, name: str, death: str = "whole", number: int = 0) -> int:
        """See `Lab.run`; what goes to stdout is in `told`, and `memory` limits all that the process takes."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        function, *arguments = self.command
        limit = f"ulimit -v {number // 1024}; " if death == "memory" else ""
        with (place / "told").open("w") as told, (place / "log").open("a") as log:
            return subprocess.run(
                ["sh", "-c", limit + 'exec "$0" -m "$@"', sys.executable, function.partition(":")[0], *arguments],
                cwd=place,
                env=environment({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}),
                stdout=told,
                stderr=log,
                timeout=600,
                check=False,
            ).returncode
