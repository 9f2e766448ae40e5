"""`bild gpu-check` (or `make gpu-check`): ten minutes on a GPU, without the hub. Is what runs there right, and as fast
as it should be? A table of verdicts, and one file, gpu-check.json, to send; bild report gpu-check.json shows it again.

    bild gpu-check                          the first GPU
    bild gpu-check device=cuda:1 minutes=20
    bild gpu-check device=cpu               the same steps at tiny sizes: that the check itself works
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bild.errors import BildError, guard
from bild.options import Option, device, number

if TYPE_CHECKING:
    from bild.check.machine import Scale
    from bild.results.check import Checked, CheckResult

_USUAL = {"device": "auto", "minutes": "10", "out": "gpu-check.json"}
_STEPS = {
    "machine": "driver, clocks, what slows it, who else uses it, precision switches",
    "tests": "pytest -m gpu",
    "cases": "an overflow, two engines that grow, a dropped pair, cuda:1",
    "agreement": "graph = fused = hf on 200 texts, fp32 and fp16, twice",
    "programs": "kernels, captures and memory of a step",
    "bench": "engines, peers, roofline at t5-small, t5-large, mt5-large, two dtypes",
    "run": "vanilla and BiLD on the embedded pair, clocks before, during and after",
    "tree": "a tree that runs out of memory on the way",
    "training": "training steps in fp32, fp16 and bf16",
}


def _options(arguments: list[str]) -> dict[str, str]:
    given = dict(_USUAL)
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or key not in _USUAL:
            raise BildError(f"bild gpu-check takes device=, minutes= and out=, but {word!r} was given.")
        given[key] = value
    for key, option in {"device": device(), "minutes": number(None, 0, 1440, above=True)}.items():
        Option(float if key == "minutes" else str, option.metadata).checked(key, given[key])
    if not given["out"].strip():
        raise BildError("out= is empty: name the file to write, such as out=gpu-check.json.")
    return given


def check(device: str, minutes: float, command: str) -> CheckResult:
    """Run every step on a device; a step that fails is a finding, and the others go on.

    BildError on a machine without a GPU (or with one that torch cannot use), unless the device is the CPU.
    """
    import torch

    from bild.check.machine import Scale
    from bild.cli import load, typed
    from bild.cli.compose import shapes
    from bild.config import ModelConfig
    from bild.measure.environment import describe, state
    from bild.measure.gpu import uuid_of, watch
    from bild.models import resolve_device
    from bild.models.device import tell_device
    from bild.results.check import CHECK_VERSION, CheckResult
    from bild.results.locking import device_lock

    place = resolve_device(device)
    if place.type == "cpu" and device != "cpu":
        steps = "".join(f"\n  {name:<10} {about}" for name, about in _STEPS.items())
        raise BildError(
            f"There is no GPU here. On one, in ten minutes, this would look at:{steps}\n"
            "Here, device=cpu takes the same steps at tiny sizes."
        )
    torch.set_num_threads(1)
    tell_device(place)
    scale = Scale.of(place, minutes, shapes(), typed(ModelConfig, load("model", "embedded")))
    seen, before = watch(place, anew=True), state(place)
    findings: list[Checked] = []
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    with device_lock(uuid_of(place)):
        for name, step in _steps().items():
            began = time.monotonic()
            if scale.on_gpu:
                torch.cuda.reset_peak_memory_stats(place)
            findings += _tried(name, step, scale)
            seconds[name] = round(time.monotonic() - began, 1)
            if scale.on_gpu:
                peaks[name] = round(torch.cuda.max_memory_allocated(place) / 1e9, 2)
            seen.between()
    environment = describe(place) | {"state": before, "state_after": state(place), "gpu": seen.told()}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return CheckResult(CHECK_VERSION, now, command, str(place), minutes, environment, seconds, peaks, findings)


def _steps() -> dict[str, Callable[[Scale], Iterator[Checked]]]:
    from bild.check import fast, machine, right, work

    made = (machine.machine, machine.tests, right.cases, right.agreement, fast.programs, fast.benches)
    return dict(zip(_STEPS, (*made, work.run, work.tree, work.training), strict=True))


def _tried(name: str, step: Callable[[Scale], Iterator[Checked]], scale: Scale) -> list[Checked]:
    from bild.models.checkpoint import free_memory
    from bild.progress import say
    from bild.results.check import SKIPPED, WRONG, Checked

    if scale.left() <= 0:
        return [Checked(name, _STEPS[name], SKIPPED, "out of time: give more with minutes=...")]
    say(f"gpu-check: {name}: {_STEPS[name]}")
    found: list[Checked] = []
    try:
        found.extend(step(scale))
    except Exception as error:  # whatever it is, it is what this check is for
        text = " ".join(str(error).split())[:300]
        found.append(Checked(name, _STEPS[name], WRONG, f"{type(error).__name__}: {text}"))
    free_memory()
    return found


def main() -> int:
    """Run the command line: 0 where all is well, 1 where something is wrong or slow, 2 without a GPU."""
    code: list[int] = []

    def command() -> None:
        if sys.argv[1:] in (["--help"], ["-h"]):
            print((__doc__ or "").replace("`", "").rstrip())
            return
        given = _options(sys.argv[1:])
        from bild.report.check import show_check
        from bild.results.check import OK, write_check

        path = Path(given["out"])
        asked = " ".join(["bild gpu-check", *sys.argv[1:]])
        result = check(given["device"], float(given["minutes"]), asked)
        write_check(result, path)
        show_check(path)
        code.append(int(result.worst != OK))
        print(f"Written: {path}")

    return guard(command, "stopped before it was done") or sum(code)


if __name__ == "__main__":
    sys.exit(main())
