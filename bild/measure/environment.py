"""The environment of a run: hardware, versions, the state of the repository, how busy the machine was; and a GPU as
NVIDIA's library (NVML) tells of it: what it is, what slows it down, and who else uses it.

Every query of a GPU stands alone, because virtual, laptop and partitioned (MIG) ones refuse one or the other. Nothing
asks while something is timed: a run is looked at between examples, and what happened in between the driver has counted.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

import bild
from bild.engines.kernels import pin_precision
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
    """Return what changes by itself: load and clock of the CPU, and what a GPU tells (see `look`)."""
    now: dict[str, Any] = {"load_1min": round(psutil.getloadavg()[0], 2), "torch_threads": torch.get_num_threads()}
    clock = psutil.cpu_freq()  # None where the system does not tell; in a virtual machine often a nominal one
    now["cpu_mhz"] = round(clock.current) if clock else None
    return now | {key: value for key, value in look(device).items() if key != "driver"}


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
        load, gpu = others_busy(1.0 if minutes else 0.1), look(device).get("busy", 0.0)
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


_LOOK_SECONDS = 5.0
_REASONS = {
    0x04: "its power cap",
    0x08: "a hardware slowdown",
    0x20: "its temperature (software)",
    0x40: "its temperature (hardware)",
    0x80: "a power brake",
}
"""Bits of NVML's clocks-event reasons that make a run slower than the card is; others are idle or set by somebody."""
_POLICIES = {"power": 0, "thermal": 1, "board": 3, "reliability": 5}
"""NVML's performance policies, whose time of violation the driver adds up."""
_OFTEN, _LONG = 0.1, 0.05
"""The share of looks, and of the time, from which a run is marked as throttled."""


def handle_of(device: torch.device) -> tuple[Any, Any]:
    """Return (NVML, the device's handle), None both on a CPU and without NVIDIA's library."""
    if device.type != "cuda":
        return None, None
    with suppress(Exception):  # NVIDIA's library is absent, too old, or not allowed here
        import pynvml

        pynvml.nvmlInit()
        for prefix in ("GPU", "MIG"):
            with suppress(Exception):
                return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"{prefix}-{uuid_of(device)}")
    return None, None


def uuid_of(device: torch.device) -> str:
    """Return the UUID of a CUDA device, which no CUDA_VISIBLE_DEVICES renames; else the device's own name."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else str(device)


def _reasons(nvml: Any, handle: Any) -> list[str]:
    ask = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    bits = (ask or nvml.nvmlDeviceGetCurrentClocksThrottleReasons)(handle)
    return [name for bit, name in _REASONS.items() if bits & bit]


_QUERIES: dict[str, Callable[[Any, Any], Any]] = {
    "driver": lambda nvml, h: nvml.nvmlSystemGetDriverVersion(),
    "sm_clock_mhz": lambda nvml, h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda nvml, h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_MEM),
    "max_sm_clock_mhz": lambda nvml, h: nvml.nvmlDeviceGetMaxClockInfo(h, nvml.NVML_CLOCK_SM),
    "temperature_c": lambda nvml, h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU),
    "power_w": lambda nvml, h: round(nvml.nvmlDeviceGetPowerUsage(h) / 1000),
    "power_limit_w": lambda nvml, h: round(nvml.nvmlDeviceGetEnforcedPowerLimit(h) / 1000),
    "busy": lambda nvml, h: nvml.nvmlDeviceGetUtilizationRates(h).gpu,
    "free_memory_mib": lambda nvml, h: nvml.nvmlDeviceGetMemoryInfo(h).free >> 20,
    "slowed_by": _reasons,
    # One is this one, by whatever number a container gives it.
    "other_processes": lambda nvml, h: max(0, len(nvml.nvmlDeviceGetComputeRunningProcesses(h)) - 1),
    "persistence": lambda nvml, h: bool(nvml.nvmlDeviceGetPersistenceMode(h)),
    "ecc": lambda nvml, h: bool(nvml.nvmlDeviceGetEccMode(h)[0]),
    "mig": lambda nvml, h: bool(nvml.nvmlDeviceGetMigMode(h)[0]),
}


def look(device: torch.device) -> dict[str, Any]:
    """Return clocks (MHz), what slows it, temperature (C), power (W), memory (MiB), ...: as far as it tells."""
    now: dict[str, Any] = {}
    nvml, handle = handle_of(device)
    for name, query in _QUERIES.items() if nvml else ():
        with suppress(Exception):  # this GPU or this driver does not tell
            now[name] = query(nvml, handle)
    return {name: value for name, value in now.items() if value is not None}


_watches: dict[torch.device, Watch] = {}


def watch(device: torch.device, anew: bool = False, idle: int = 0) -> Watch:
    """Return this process's watch over a device; `anew` begins another, for another measurement.

    So many other processes on it are ours and do nothing meanwhile.
    """
    if anew or device not in _watches:
        _watches[device] = Watch(device, idle)
    return _watches[device]


class Watch:
    """One measurement's GPU: looked at before, between examples and after; on a CPU it does nothing."""

    def __init__(self, device: torch.device, idle: int = 0) -> None:
        self.device = device
        self.idle = idle
        self.looks: list[dict[str, Any]] = []
        self._counted = self._counters()
        self._began = self._next = time.monotonic()

    def between(self) -> None:
        """Look, if the last time is a few seconds ago. Call it where nothing is timed."""
        if self.device.type == "cuda" and time.monotonic() >= self._next:
            self.looks.append(look(self.device))
            self._next = time.monotonic() + _LOOK_SECONDS

    def _counters(self) -> dict[str, float]:
        """Return the seconds in which each policy has held the clocks down, since the driver was loaded."""
        counted: dict[str, float] = {}
        nvml, handle = handle_of(self.device)
        for name, kind in _POLICIES.items() if nvml else ():
            with suppress(Exception):  # this GPU or this driver does not tell
                counted[name] = nvml.nvmlDeviceGetViolationStatus(handle, kind).violationTime / 1e9
        return counted

    def told(self) -> dict[str, Any] | None:
        """Return what was seen so far, for the record; None on a CPU."""
        seen = [each for each in self.looks if each]
        if not seen:
            return None
        now = self._counters()
        clocks = [each["sm_clock_mhz"] for each in seen if "sm_clock_mhz" in each]
        return {
            "looks": len(seen),
            "sm_clock_mhz": [min(clocks), max(clocks)] if clocks else None,
            "temperature_c": max((each.get("temperature_c", 0) for each in seen), default=None),
            "slowed_by": dict(sorted(Counter(name for each in seen for name in each.get("slowed_by", ())).items())),
            "slowed_seconds": {name: round(now[name] - was, 1) for name, was in self._counted.items() if name in now},
            "seconds": round(time.monotonic() - self._began, 1),
            "other_processes": max(0, max(each.get("other_processes", 0) for each in seen) - self.idle),
            "last": seen[-1],
        }

    def warning(self) -> str | None:
        """Return a sentence where the GPU was throttled or shared, else None."""
        told = self.told()
        if told is None:
            return None
        often = [name for name, n in told["slowed_by"].items() if n > _OFTEN * told["looks"]]
        long = [name for name, s in told["slowed_seconds"].items() if s > _LONG * told["seconds"]]
        parts = []
        if often or long:
            most = told["last"].get("max_sm_clock_mhz")
            clocks = f", {told['sm_clock_mhz'][0]} of {most} MHz at the least" if told["sm_clock_mhz"] and most else ""
            why = " and ".join(often) or f"its {' and '.join(long)} limit"
            parts.append(f"The GPU was slowed down by {why}{clocks}: its times are those of a throttled card.")
        if told["other_processes"]:
            parts.append(f"The GPU was shared with {told['other_processes']} other process(es): times are disturbed.")
        return " ".join(parts) or None
