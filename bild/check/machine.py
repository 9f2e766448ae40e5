"""The sizes of a check, those of a GPU or tiny ones by which the same steps run on a CPU in seconds; and the steps that
look at the machine: driver and libraries, the tests that need a GPU, what a captured step costs and has in it, and
every engine and peer against the roofline."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

import bild
from bild.bench.config import BenchConfig
from bild.bench.engine_bench import run_bench
from bild.config import ModelConfig, ShapeConfig
from bild.engines import DTYPES, build_engine
from bild.engines.kernels import pin_precision
from bild.measure.environment import look, watch
from bild.models.checkpoint import free_memory
from bild.models.device import has_bf16, kernels_missing, nvidia
from bild.models.shapes import CONTEXT, free_bytes, model_config, module_bytes, random_model
from bild.results.bench import FAILED, MEASURED, OK, SKIPPED, SLOW, WRONG, BackendRow, BenchResult, Checked


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
    reduced = pin_precision()["fp16_reduced_reduction"]  # as the engines run, if it holds
    tf32 = torch.backends.cuda.matmul.allow_tf32 or os.environ.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1"
    seen = f"TF32 {'on' if tf32 else 'off'}, fp16 sums {'in fp16' if reduced else 'in fp32'}"
    precision = {"allow_tf32": bool(tf32), "fp16_reduction": str(reduced)}
    yield Checked(step, "precision", WRONG if tf32 or reduced else OK, seen, precision)


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


_WIDTHS = (1, 12)
_LAYER_MS = 0.08
"""What a decoder layer's kernels, about 23 in fp32 and 29 in fp16, take in a graph beside their bytes (an H100)."""
_SLOW = 1.5
"""The times of roofline and kernels together beyond which graph is slow."""
_LIBRARY = 2.0
"""The times that graph must be faster than the library's modules."""


def programs(scale: Scale) -> Iterator[Checked]:
    """Count the kernels of a step by width, time its capture and its replay, and see the memory that they take."""
    for name in scale.shapes[:2]:
        for dtype in scale.dtypes:
            yield _program(scale, name, dtype)
            free_memory()


def _program(scale: Scale, name: str, dtype: str) -> Checked:
    shape = scale.known[name]
    module = random_model(shape, DTYPES[dtype], scale.device, 0)
    engine = build_engine("graph", module, dtype=dtype, eos=-1, vocabulary=shape.rows)
    source = [*range(2, 40), 1]
    figures: dict[str, Any] = {}
    outside = _outside(scale.device)
    for width in _WIDTHS:
        tokens = list(range(2, 2 + width))
        engine.start(source)
        began = perf_counter()
        engine.step(tokens)
        engine.synchronize()
        first = perf_counter() - began
        replays = []
        for _ in range(20):
            engine.rewind(0)
            began = perf_counter()
            engine.step(tokens)
            engine.synchronize()
            replays.append(perf_counter() - began)
        replay = sorted(replays)[len(replays) // 2]
        engine.rewind(0)
        count = _kernels(lambda tokens=tokens: engine.step(tokens), scale.device)
        figures[f"width {width}"] = {"capture_ms": 1e3 * (first - replay), "ms": 1e3 * replay, "kernels": count}
    figures["bytes_outside_tensors"] = _outside(scale.device) - outside
    one = figures[f"width {_WIDTHS[0]}"]
    seen = (
        f"{one['kernels']} {'kernels' if scale.on_gpu else 'operations'} a step, {one['ms']:.2f} ms; "
        f"capture {one['capture_ms']:.0f} ms, {figures['bytes_outside_tensors'] / 1e6:.0f} MB beside tensors"
    )
    return Checked("programs", f"{name}, {dtype}", OK, seen, figures)


def _outside(device: torch.device) -> int:
    """Return the bytes that are taken on the device beside torch's allocator."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free - torch.cuda.memory_reserved(device))


def _kernels(step: Any, device: torch.device) -> int:
    """Count what one call launches: kernels on a GPU, torch's operations on a CPU."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=kinds) as found:
        step()
    return sum(event.device_type.name == device.type.upper() for event in found.events() or ())


def benches(scale: Scale) -> Iterator[Checked]:
    """Bench the engines and the peers at published shapes."""
    for name in scale.shapes:
        for dtype in scale.dtypes:
            shape, what = scale.known[name], f"{name}, {dtype}"
            needed = 3.3 * module_bytes(model_config(shape), DTYPES[dtype]) + CONTEXT  # module, two layouts, peaks
            if scale.left() < 20:
                yield Checked("bench", what, SKIPPED, "out of time: give more with minutes=...")
            elif needed > free_bytes(scale.device):
                yield Checked("bench", what, SKIPPED, f"needs {needed / 1e9:.1f} GB of the device's memory")
            else:
                config = BenchConfig(
                    shape=shape,
                    engines=["hf", "fused", "graph", *["graph-triton"] * scale.on_gpu],
                    dtype=dtype,
                    device=str(scale.device),
                    tokens=scale.tokens,
                    repeats=scale.repeats,
                    warmup=1,
                    widths=[1, 4, 12],
                    source_length=64 if scale.on_gpu else 8,
                    cached=32 if scale.on_gpu else 4,
                )
                yield from _judged(run_bench(config, lambda line: None), what, scale, shape.decoder_layers)
                free_memory()
            watch(scale.device).between()


def _judged(result: BenchResult, what: str, scale: Scale, layers: int) -> Iterator[Checked]:
    """Say what was measured of each row, and whether graph is as near to the roofline as it should be."""
    for name, row in result.rows.items():
        figures = dataclasses.asdict(row)
        if row.status != MEASURED or row.ms_per_token is None:
            verdict = WRONG if row.status == FAILED else SKIPPED
            yield Checked("bench", f"{what}: {name}", verdict, f"{row.status}: {row.note or ''}", figures)
            continue
        seen = f"{row.ms_per_token.median:.2f} ms a token"
        seen += f", {row.over_roofline:.1f}x the roofline" if row.over_roofline else ""
        slow = name == "graph" and scale.on_gpu and _slow(result, row, layers)
        yield Checked("bench", f"{what}: {name}", SLOW if slow else OK, seen, figures)


def _slow(result: BenchResult, graph: BackendRow, layers: int) -> bool:
    """Tell whether graph is far from roofline and launches, or near to the library's modules."""
    hf = result.rows.get("hf")
    assert graph.ms_per_token is not None
    if hf is not None and hf.ms_per_token is not None and hf.ms_per_token.median < _LIBRARY * graph.ms_per_token.median:
        return True
    ms, over = graph.ms_per_token.median, graph.over_roofline
    return over is not None and ms > _SLOW * (ms / over + layers * _LAYER_MS)
