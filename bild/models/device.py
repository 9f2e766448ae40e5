"""The device that a command runs on: chosen, compared with the driver, and told in one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from bild.errors import BildError, refusing, told
from bild.progress import say

WHEELS = "https://download.pytorch.org/whl"
OLDER = "cu126"
"""torch's build for older drivers (525 and up) and older GPUs (Maxwell to Hopper); the usual one is for CUDA 13."""
_OLDEST_DRIVER = 525


@dataclass(frozen=True)
class Nvidia:
    """The driver's own account of this machine's GPUs, whatever torch sees of them."""

    names: tuple[str, ...]
    driver: str
    cuda: tuple[int, int]
    """The newest CUDA that the driver runs."""
    silent: str | None = None
    """The reason why it gives none, where the driver is installed and does not answer."""


def nvidia() -> Nvidia | None:
    """Ask NVIDIA's driver (NVML); None where there is none, or no GPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        version = int(pynvml.nvmlSystemGetCudaDriverVersion())
        names = tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        return Nvidia(names, driver, (version // 1000, version % 1000 // 10)) if names else None
    except Exception as error:  # no library, no driver, or one that does not answer
        return Nvidia((), "", (0, 0), told(error)) if shutil.which("nvidia-smi") else None


def cuda_trouble() -> tuple[str, str] | None:
    """Return the reason why torch cannot use this machine's NVIDIA GPU, and what mends it; None where nothing is wrong.

    A GPU that CUDA_VISIBLE_DEVICES hides counts as none: whoever hides it wants the CPU.
    """
    if torch.cuda.is_available() or os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return None
    found = nvidia()
    if found is None:
        return None
    if found.silent is not None:
        return f"NVIDIA's driver does not answer ({found.silent})", "reboot, or install the driver again"
    gpu, built = found.names[0], torch.version.cuda
    if built is None:
        return f"there is a {gpu}, but this torch is a build for CPUs", reinstall(found)
    if int(built.split(".")[0]) > found.cuda[0]:
        runs = f"driver {found.driver} runs CUDA {found.cuda[0]}.{found.cuda[1]} at most"
        return f"there is a {gpu}, but its {runs}, and this torch is built for CUDA {built}", reinstall(found)
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        reason = "it gives no reason"
    except Exception as error:
        reason = told(error)
    return f"there is a {gpu}, but torch cannot use it ({reason})", "see whether nvidia-smi shows it, and reboot"


def reinstall(found: Nvidia) -> str:
    """Return the command that takes a build of torch which this driver runs."""
    if found.driver.split(".")[0].isdigit() and int(found.driver.split(".")[0]) < _OLDEST_DRIVER:
        return f"install driver {_OLDEST_DRIVER} or newer first, then make env CUDA={OLDER}"
    build = "cu130" if found.cuda >= (13, 0) else OLDER
    version = torch.__version__.partition("+")[0]
    pip = f"pip install --force-reinstall torch=={version} --index-url {WHEELS}/{build}"
    return f"make env CUDA={build}, or {pip}"


def kernels_missing(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Tell whether a build of torch (its arch list: "sm_75", "compute_90") has no code for a GPU of this capability."""
    for arch in built_for:
        kind, _, digits = arch.partition("_")
        number = int("".join(filter(str.isdigit, digits)) or 0)
        major, minor = divmod(number, 10)
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return False
        if kind == "compute" and (major, minor) <= capability:
            return False
    return bool(built_for)


def resolve_device(device: str) -> torch.device:
    """Return the device of a name; "auto" takes the first CUDA device, and the CPU where there is no GPU.

    BildError for no device, and where there is a GPU that torch cannot use: `cpu` is how one says CPU.
    """
    if device != "auto":
        use = "use auto, cpu, cuda or cuda:N"
        with refusing(lambda _: f"engine.device={device} is not a device: {use}.", RuntimeError):
            chosen = torch.device(device)
        if chosen.type not in ("cpu", "cuda"):
            raise BildError(f"engine.device={device} is not supported: {use}.")
        if chosen.type == "cpu":
            return chosen
    if trouble := cuda_trouble():
        raise BildError(f"engine.device={device}: {': '.join(trouble)}; device=cpu is how one says CPU.")
    # Counted by NVML where it can be, which counts GPUs that torch cannot use.
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        chosen = torch.device("cuda:0" if count else "cpu")
    if chosen.type == "cuda":
        if (chosen.index or 0) >= count:
            raise BildError(f"engine.device={device} was asked for, but torch sees {count} CUDA devices.")
        chosen = torch.device("cuda", chosen.index or 0)
        _check_kernels(chosen)
    return chosen


def _check_kernels(device: torch.device) -> None:
    capability, built_for = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if kernels_missing(capability, built_for):
        raise BildError(
            f"{torch.cuda.get_device_name(device)} (sm_{capability[0]}{capability[1]}) is no GPU that this torch is "
            f"built for ({', '.join(built_for)}): make env CUDA={OLDER} has code for older ones."
        )


def has_bf16(device: torch.device) -> bool:
    """Tell whether a device computes in bf16 (sm_80 and newer) and does not only emulate it."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] >= 8


@cache
def tell_device(device: torch.device, dtype: str | None = None) -> None:
    """Say once what this process runs on."""
    if device.type == "cpu":
        where = "the CPU" if nvidia() is None else "the CPU, not the GPU"
        say(f"running on {where}{f' in {dtype}' if dtype else ''} (torch {torch.__version__})")
        return
    found = nvidia()
    driver = f", driver {found.driver}" if found and found.driver else ""
    name = torch.cuda.get_device_name(device)
    say(f"running on {name} ({device}){f' in {dtype}' if dtype else ''} (torch {torch.__version__}{driver})")
    if dtype == "bf16" and not has_bf16(device):
        say(f"warning: {name} has no bf16 and emulates it, slowly: use dtype=fp16 or fp32")
