"""The sizes of a check, those of a GPU or tiny ones by which the same steps run on a CPU in seconds; and step one and
two: the machine with its driver and its libraries, and the tests that need a GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

import bild
from bild.config import ModelConfig, ShapeConfig
from bild.measure.gpu import look
from bild.models.device import has_bf16, kernels_missing, nvidia
from bild.results.check import OK, SKIPPED, SLOW, WRONG, Checked


@dataclass
class Scale:
    """The device, how much of everything, and when it must end."""

    device: torch.device
    minutes: float
    known: Mapping[str, ShapeConfig]
    model: ModelConfig
    """The embedded pair."""
    texts: int
    """Texts on which the engines must agree."""
    shapes: Sequence[str]
    """Published shapes that are benched."""
    dtypes: Sequence[str]
    tokens: int
    repeats: int
    samples: int
    """Examples of the run and of the tree."""
    capacity: int
    """Positions that two engines have room for, before they must grow."""
    began: float = field(default_factory=time.monotonic)

    @staticmethod
    def of(device: torch.device, minutes: float, known: Mapping[str, ShapeConfig], model: ModelConfig) -> Scale:
        """Return the sizes for a device; `known` are the published shapes, `model` the embedded pair."""
        if device.type == "cuda":
            shapes = ("t5-small", "t5-large", "mt5-large")
            return Scale(device, minutes, known, model, 200, shapes, ("fp32", "fp16"), 32, 5, 40, 32)
        return Scale(device, minutes, known, model, 3, ("embedded-small",), ("fp32",), 3, 1, 3, 8)

    @property
    def on_gpu(self) -> bool:
        """Tell whether this is the real thing."""
        return self.device.type == "cuda"

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.began + 60 * self.minutes - time.monotonic()


_PREFIXES = ("TORCH_", "NVIDIA_", "CUBLAS_", "CUDA_", "PYTORCH_")


def machine(scale: Scale) -> Iterator[Checked]:
    """Look at driver, architecture, environment and precision switches."""
    step = "machine"
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_PREFIXES)}
    tools = {name: shutil.which(name) is not None for name in ("gcc", "compute-sanitizer", "nvidia-smi")}
    figures = {"variables": variables, "tools": tools, "torch": torch.__version__, "cuda": torch.version.cuda}
    if not scale.on_gpu:
        yield Checked(step, "device", OK, f"the CPU, torch {torch.__version__}", figures)
        return
    found, now = nvidia(), look(scale.device)
    capability, built_for = torch.cuda.get_device_capability(scale.device), torch.cuda.get_arch_list()
    name = f"{torch.cuda.get_device_name(scale.device)} (sm_{capability[0]}{capability[1]})"
    lacking = kernels_missing(capability, built_for)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    figures |= {"built_for": built_for, "cudnn": cudnn, "bf16": has_bf16(scale.device)}
    yield Checked(step, "architecture", WRONG if lacking else OK, f"{name}; torch has {', '.join(built_for)}", figures)
    if found is None or found.silent is not None:
        yield Checked(step, "driver", WRONG, "NVML does not answer: clocks and heat stay unknown")
    else:
        runs = ".".join(map(str, found.cuda))
        seen = f"{found.driver} for CUDA {runs}; torch {torch.__version__} for CUDA {torch.version.cuda}"
        yield Checked(step, "driver", OK, seen, now)
    others, slowed = now.get("other_processes", 0), now.get("slowed_by", [])
    state = f"{others} other processes, slowed by {', '.join(slowed) or 'nothing'}, MIG {now.get('mig', 'unknown')}"
    yield Checked(step, "quiet", SLOW if others or slowed else OK, state, now)
    tf32 = torch.backends.cuda.matmul.allow_tf32 or os.environ.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1"
    reduced = torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    seen = f"TF32 {'on' if tf32 else 'off'}, fp16 sums {'in fp16' if reduced else 'in fp32'}"
    precision = {"allow_tf32": bool(tf32), "fp16_reduction": str(reduced)}
    yield Checked(step, "precision", WRONG if tf32 else OK, seen, precision)


def tests(scale: Scale) -> Iterator[Checked]:
    """Run the project's tests that need a GPU, where they are here (they are not in an installed wheel)."""
    root = Path(bild.__file__).parents[1]
    if not (root / "tests" / "engines").is_dir():
        yield Checked("tests", "pytest -m gpu", SKIPPED, "the tests are in a clone of the project, not in the wheel")
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:xdist", "tests"]
    if not scale.on_gpu:
        command[-1] = "tests/engines/test_cuda.py"
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=max(60.0, scale.left() / 2))
    except subprocess.TimeoutExpired:
        yield Checked("tests", "pytest -m gpu", SLOW, "it did not end within half of the time")
        return
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    passed = re.search(r"(\d+) passed", lines[-1])
    good = done.returncode == 0 and (passed is not None or not scale.on_gpu)
    seen = f"{lines[-1].strip('= ')}{'; ' + failed[0] if failed else ''}"
    yield Checked("tests", "pytest -m gpu", OK if good else WRONG, seen, {"failed": failed, "code": done.returncode})
