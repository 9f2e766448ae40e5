"""Step five and six: what a captured step costs and has in it, and every engine and peer against the roofline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import torch

from bild.bench.config import BenchConfig
from bild.bench.engine_bench import run_bench
from bild.check.machine import Scale
from bild.engines import DTYPES, build_engine
from bild.measure.gpu import watch
from bild.models.checkpoint import free_memory
from bild.models.memory import CONTEXT, free_bytes, module_bytes
from bild.models.shapes import model_config, random_model
from bild.results.bench import FAILED, MEASURED, BackendRow, BenchResult
from bild.results.check import OK, SKIPPED, SLOW, WRONG, Checked

_WIDTHS = (1, 12)
_ROOFLINE = {"fp32": 2.5, "fp16": 4.5}
"""The times of the roofline beyond which graph is slow: launch-bound at the small shapes, so wide."""
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
                yield from _judged(run_bench(config, lambda line: None), what, scale)
                free_memory()
            watch(scale.device).between()


def _judged(result: BenchResult, what: str, scale: Scale) -> Iterator[Checked]:
    """Say what was measured of each row, and whether graph is as near to the roofline as it should be."""
    for name, row in result.rows.items():
        figures = dataclasses.asdict(row)
        if row.status != MEASURED or row.ms_per_token is None:
            verdict = WRONG if row.status == FAILED else SKIPPED
            yield Checked("bench", f"{what}: {name}", verdict, f"{row.status}: {row.note or ''}", figures)
            continue
        seen = f"{row.ms_per_token.median:.2f} ms a token"
        seen += f", {row.over_roofline:.1f}x the roofline" if row.over_roofline else ""
        slow = name == "graph" and scale.on_gpu and _slow(result, row)
        yield Checked("bench", f"{what}: {name}", SLOW if slow else OK, seen, figures)


def _slow(result: BenchResult, graph: BackendRow) -> bool:
    """Tell whether graph is far from the roofline, or near to the library's modules."""
    hf = result.rows.get("hf")
    assert graph.ms_per_token is not None
    if hf is not None and hf.ms_per_token is not None and hf.ms_per_token.median < _LIBRARY * graph.ms_per_token.median:
        return True
    return (graph.over_roofline or 0.0) > _ROOFLINE[result.dtype]
