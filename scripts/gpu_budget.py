"""Count what one token costs engine `graph` on a GPU, without one: kernels, bytes, and an estimate of the time.

    python scripts/gpu_budget.py                               # T5 and mT5, small and large, fp32 and fp16
    python scripts/gpu_budget.py --shape t5-large --width 12   # a verification pass

The programs run on CUDA tensors without data (tests/engines/fake_cuda.py), so the kernels are those that a capture
would hold, and the bytes those that its products read. The H100's three figures are fitted to steps that were measured
on one (docs/measurement.md); the other cards' are of data sheets and others' measurements, and a lower end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bild.config import ShapeConfig  # noqa: E402
from bild.engines import DTYPES, build_operations  # noqa: E402
from bild.engines.graph import GraphEngine  # noqa: E402
from bild.engines.graph_pool import GraphPool  # noqa: E402
from bild.engines.graph_programs import Operations  # noqa: E402
from bild.models.shapes import model_config  # noqa: E402
from bild.results.work import Sizes  # noqa: E402
from tests.engines.fake_cuda import Log, fake_cuda, fake_module  # noqa: E402

SHAPES = ("t5-small", "t5-large", "mt5-small", "mt5-large")


class Device(NamedTuple):
    """GB/s that it streams, us of a small kernel in a graph, and us that a product takes beside its bytes."""

    rate: float
    kernel_us: float
    product_us: float


DEVICES = {"T4": Device(250, 2.2, 1.0), "A100": Device(1350, 1.7, 0.8), "H100": Device(2970, 2.9, 1.9)}


def pass_of(
    shape: ShapeConfig, dtype: str, width: int, source: int, capacity: int, operations: Operations
) -> tuple[Log, int]:
    """Run one pass of the decoder on fake tensors: what it launches, and the bytes of the roofline."""
    config = model_config(shape)
    zeros: Any = torch.zeros
    with (
        fake_cuda() as mode,
        torch.inference_mode(),
        patch.object(torch, "zeros", lambda *size, pin_memory=False, **options: zeros(*size, **options)),
        patch.object(GraphPool, "_open"),
        patch.object(torch.cuda, "Event"),
    ):
        module = fake_module(mode, config, DTYPES[dtype], "cuda:0")
        with mode:
            options: dict[str, Any] = {"eos": 1, "vocabulary": shape.rows, "capacity": capacity}
            made = GraphEngine(module, dtype=DTYPES[dtype], operations=operations, **options)
            buffers = made._source(source)
        with mode, Log() as log:
            made._plain("step", buffers, width)
    work = Sizes.of(config, shape.rows).work(width, source, capacity // 2, weights=dtype, states=dtype)
    return log, work.bytes


def main() -> None:
    """Print one line for each shape and dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", help=f"names of conf/shape; else {', '.join(SHAPES)}")
    parser.add_argument("--width", type=int, default=1, help="new positions of the pass")
    parser.add_argument("--source", type=int, default=64)
    parser.add_argument("--capacity", type=int, default=128)
    parser.add_argument("--triton", action="store_true", help="engine=graph-triton (needs Triton)")
    options = parser.parse_args()
    operations = build_operations("graph-triton" if options.triton else "graph", torch.device("cuda"))
    print(f"| width {options.width}, source {options.source} | kernels (products) | MB read (roofline) |", end="")
    print(*(f" {name}: roofline / estimate, ms |" for name in DEVICES), sep="")
    print("| :-- | --: | --: |" + " --: |" * len(DEVICES))
    for name in options.shape or SHAPES:
        shape = ShapeConfig(**yaml.safe_load((ROOT / f"conf/shape/{name}.yaml").read_text(encoding="utf-8")))
        for dtype in ("fp32", "fp16"):
            log, least = pass_of(shape, dtype, options.width, options.source, options.capacity, operations)
            products = [launch for launch in log.launches if launch.product]
            read = sum(t.numel() * t.element_size() for launch in products for t in launch.given)
            line = f"| {name} {dtype} | {log.kernels} ({len(products)}) | {read / 1e6:,.0f} ({least / 1e6:,.0f}) |"
            for device in DEVICES.values():
                small = (log.kernels - len(products)) * device.kernel_us + len(products) * device.product_us
                roofline, estimate = least / device.rate / 1e6, read / device.rate / 1e6 + small / 1e3
                line += f" {roofline:.2f} / {estimate:.2f} ({estimate / roofline:.2f}x) |"
            print(line)


if __name__ == "__main__":
    main()
