"""Processes to be killed, without the seconds that torch takes to import: forked from one process that has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.cli.commands import environment

SCRIPT = """
import contextlib, gc, importlib, json, os, signal, sys, traceback
import torch
torch.set_num_threads(1)
import bild.sweep.__main__, bild.sweep.drive, bild.sweep.plan, bild.sweep.show, bild.tree.grow, transformers, sacrebleu
from bild.models import load_pair
for small in ("embedded/small", "embedded/small-aligned"):
    load_pair("embedded", small, device="cpu").kernels  # imports what is imported late, and all children multiply alike
import psutil
psutil.cpu_percent = lambda interval: 0.0  # it waits for no other test
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        _, status = os.waitpid(order["wait"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    gc.freeze()  # no child looks through what was imported
    child = 0 if order["here"] else os.fork()
    if order["here"]:
        module, function = order["function"].split(":")
        sys.argv = [module, *order["arguments"]]
        with open(order["log"], "a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            code = getattr(importlib.import_module(module), function)() or 0
        print(code, flush=True)
    elif child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(order["cwd"])
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        module, function = order["function"].split(":")
        sys.argv = [module.removesuffix(".__main__"), *order["arguments"]]
        code = 1
        try:
            code = getattr(importlib.import_module(module), function)() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    else:
        print(child, flush=True)
"""


@dataclass
class Child:
    """A running process."""

    pid: int
    log: Path
    parent: Zygote

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it."""
        return int(self.parent.ask({"wait": self.pid}))

    def ended(self) -> bool:
        """Return whether it is over, and only waited for."""
        return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE

    def kill(self) -> None:
        """`kill -9`."""
        os.kill(self.pid, 9)


class Zygote:
    """A process that has imported everything, and forks."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, order: dict[str, Any]) -> str:
        """Send an order, and read its one-line answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def start(self, function: str, *arguments: str, cwd: Path) -> Child:
        """Call "module:function" with a command line of these arguments; what it says goes to `log` in `cwd`."""
        log = cwd / "log"
        return Child(int(self._call(function, arguments, cwd, log, here=False)), log, self)

    def run(self, function: str, *arguments: str, cwd: Path) -> None:
        """Call "module:function" in the process itself: whatever it imports late, its children then have."""
        assert self._call(function, arguments, cwd, cwd / "log", here=True) == "0", (cwd / "log").read_text()

    def _call(self, function: str, arguments: tuple[str, ...], cwd: Path, log: Path, *, here: bool) -> str:
        order = {"function": function, "arguments": arguments, "cwd": str(cwd), "log": str(log), "here": here}
        return self.ask(order)


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty where it has ended, be it between two questions."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def zygote() -> Iterator[Zygote]:
    """Start one for as long as it is used."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Zygote(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=120)
