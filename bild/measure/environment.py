"""The environment of a run: hardware, versions, the state of the repository, and how busy the machine was."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

import bild
from bild.engines.kernels import pin_precision
from bild.measure.gpu import look, uuid_of
from bild.progress import say
from bild.results.parts import SessionNote

CALM_GPU = 10.0
"""Percent of a GPU's time that others may take."""
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "sacrebleu", "rouge-score", "numpy", "sentencepiece")
"""Packages whose version can change a token, a score or a time."""


def describe(device: torch.device) -> dict[str, Any]:
    """Return the environment of a run on `device`; `machine.fingerprint` is equal on equal hardware only."""
    machine: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "architecture": platform.machine(),
        "system": platform.system(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine["gpu"] = properties.name
        machine["gpu_memory_gib"] = round(properties.total_memory / 2**30)
        machine["cuda"] = torch.version.cuda
        machine["gpu_uuid"] = uuid_of(device)  # two cards of one kind are two machines
        machine["driver"] = look(device).get("driver")
    machine["fingerprint"] = hashlib.sha256(repr(sorted(machine.items())).encode()).hexdigest()[:16]
    machine["name"] = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    precision = {"precision": pin_precision()} if device.type == "cuda" else {}
    return precision | {
        "machine": machine,
        "packages": {name: _version(name) for name in PACKAGES} | {"bild": bild.__version__},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git_state(Path(__file__).resolve().parent),
    }


def state(device: torch.device) -> dict[str, Any]:
    """Return what changes by itself: load and clock of the CPU, and what a GPU tells (see `bild.measure.gpu.look`)."""
    now: dict[str, Any] = {"load_1min": round(psutil.getloadavg()[0], 2), "torch_threads": torch.get_num_threads()}
    clock = psutil.cpu_freq()  # None where the system does not tell; in a virtual machine often a nominal one
    now["cpu_mhz"] = round(clock.current) if clock else None
    if device.type == "cuda":
        now |= {key: value for key, value in look(device).items() if key != "driver"}
    return now


def busy_warning(now: dict[str, Any]) -> str | None:
    """Return a sentence where other work will disturb the times of this run, else None."""
    free = (os.cpu_count() or 1) - float(now["load_1min"])
    if free >= now["torch_threads"]:
        return None
    return (
        f"The machine is busy (load {now['load_1min']:.1f} on {os.cpu_count()} threads): a busy machine "
        "changes speedups as well as times; run again on a quiet one before you report either."
    )


def wait_for_calm(device: torch.device, threads: int, minutes: float) -> SessionNote:
    """Wait until others leave the machine alone, for so many minutes at most, and tell how it was found.

    With 0 minutes nothing is waited for, and every machine is calm enough.
    """
    began = time.monotonic()
    said = False
    while True:
        load, gpu = others_busy(1.0 if minutes else 0.1), _gpu_busy(device)
        waited = time.monotonic() - began
        calm = load <= calm_load(threads) and gpu <= CALM_GPU
        if calm or waited >= 60 * minutes:
            return SessionNote(round(load, 2), calm or not minutes, round(waited, 1))
        if not said:
            what = f"others keep {load:.1f} of {os.cpu_count()} threads busy"
            what = f"others keep the GPU {gpu:.0f} % busy" if gpu > CALM_GPU else what
            say(f"waiting up to {minutes:g} minutes for a calm machine: {what} (measure.calm_minutes=0 does not wait)")
            said = True
        time.sleep(2.0)


def calm_load(threads: int) -> float:
    """Return how many threads others may keep busy beside so many of ours: up to half of the machine with them."""
    return max(0.25, (os.cpu_count() or 1) / 2 - threads)


def others_busy(seconds: float) -> float:
    """Return how many of the machine's threads are busy while this process does nothing for so long."""
    return psutil.cpu_percent(interval=seconds) / 100 * (os.cpu_count() or 1)


def _gpu_busy(device: torch.device) -> float:
    """Return the share of the time, in percent, that somebody keeps the GPU busy; 0 where nobody can tell."""
    return float(look(device).get("busy", 0.0)) if device.type == "cuda" else 0.0


_WHAT_RUNS = (":/bild", ":/conf", ":/pyproject.toml", ":/constraints.txt")


def git_state(folder: Path) -> dict[str, Any]:
    """Return the commit of the code's repository, and whether what runs (code, settings, pins) differs from it.

    Null for both where the code is in none. Texts and results do not count: a run that replaces an example is no other.
    """

    def git(*arguments: str) -> str | None:
        # Without optional locks: a run that is killed must not leave a lock in somebody's repository.
        command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed package may lie inside somebody else's repository (a virtual environment in it): not its state.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {"sha": None, "dirty": None}
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *_WHAT_RUNS)
    return {"sha": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
