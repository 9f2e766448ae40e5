"""The check of a GPU: is what runs there right, and as fast as it should be? Ten minutes, and no hub."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import torch

from bild.check import machine, right
from bild.check.machine import Scale
from bild.config import ModelConfig, ShapeConfig
from bild.errors import BildError
from bild.measure.environment import describe, state, uuid_of, watch
from bild.models import resolve_device
from bild.models.checkpoint import free_memory
from bild.models.device import tell_device
from bild.progress import say, timestamp
from bild.results.bench import CHECK_VERSION, SKIPPED, WRONG, Checked, CheckResult
from bild.results.locking import device_lock

Step = Callable[[Scale], Iterator[Checked]]
STEPS: dict[str, tuple[Step, str]] = {
    "machine": (machine.machine, "driver, clocks, what slows it, who else uses it, precision switches"),
    "tests": (machine.tests, "pytest -m gpu"),
    "cases": (right.cases, "an overflow, two engines that grow, a dropped pair, cleared workspaces, cuda:1"),
    "agreement": (right.agreement, "graph = fused = hf on 200 texts, fp32 and fp16, twice"),
    "programs": (machine.programs, "kernels, captures and memory of a step"),
    "bench": (machine.benches, "engines, peers, roofline at t5-small, t5-large, mt5-large, two dtypes"),
    "run": (right.run, "vanilla and BiLD on the embedded pair, clocks before, during and after"),
    "tree": (right.tree, "a tree that runs out of memory on the way"),
    "training": (right.training, "training steps in fp32, fp16 and bf16"),
}


def check(
    device: str, minutes: float, command: str, known: Mapping[str, ShapeConfig], model: ModelConfig
) -> CheckResult:
    """Run every step on a device; a step that fails is a finding, and the others go on.

    `known` are the published shapes, `model` is the embedded pair. BildError on a machine without a GPU (or with one
    that torch cannot use), unless the device is the CPU.
    """
    place = resolve_device(device)
    if place.type == "cpu" and device != "cpu":
        print("On a GPU, in ten minutes, this looks at:")
        print("\n".join(f"  {name:<10} {about}" for name, (_, about) in STEPS.items()), flush=True)
        raise BildError("There is no GPU here: device=cpu takes the same steps at tiny sizes.")
    torch.set_num_threads(1)
    tell_device(place)
    scale = Scale.of(place, minutes, known, model)
    seen, before = watch(place, anew=True), state(place)
    findings: list[Checked] = []
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    with device_lock(uuid_of(place)):
        for name, (step, about) in STEPS.items():
            began = time.monotonic()
            if scale.on_gpu:
                torch.cuda.reset_peak_memory_stats(place)
            findings += _tried(name, about, step, scale)
            seconds[name] = round(time.monotonic() - began, 1)
            if scale.on_gpu:
                peaks[name] = round(torch.cuda.max_memory_allocated(place) / 1e9, 2)
            seen.between()
    environment = describe(place) | {"state": before, "state_after": state(place), "gpu": seen.told()}
    return CheckResult(CHECK_VERSION, timestamp(), command, str(place), minutes, environment, seconds, peaks, findings)


def _tried(name: str, about: str, step: Step, scale: Scale) -> list[Checked]:
    if scale.left() <= 0:
        return [Checked(name, about, SKIPPED, "out of time: give more with minutes=...")]
    say(f"gpu-check: {name}: {about}")
    found: list[Checked] = []
    try:
        found.extend(step(scale))
    except Exception as error:  # whatever it is, it is what this check is for
        text = " ".join(str(error).split())[:300]
        found.append(Checked(name, about, WRONG, f"{type(error).__name__}: {text}"))
    free_memory()
    return found
