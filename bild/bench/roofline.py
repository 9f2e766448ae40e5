"""The least that a pass can cost, and what the machine can do at best: reading memory, and multiplying matrices.

Both are measured with plain torch."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

import torch

from bild.results.work import PassWork


def roofline_ms(work: PassWork, gb_per_s: float, gflop_per_s: float) -> tuple[float, str]:
    """Return the longer of reading and multiplying, in ms, and which it is ("read" or "multiply")."""
    reading, multiplying = work.bytes / gb_per_s / 1e6, work.flops / gflop_per_s / 1e6
    return (reading, "read") if reading >= multiplying else (multiplying, "multiply")


READ_MOST = 512 << 20
"""Bytes: beyond every cache, a longer buffer is read no slower."""
_READ_LEAST = 1 << 20
_LONG_ENOUGH_NS = {"cpu": 10_000_000, "cuda": 20_000_000}
_LARGEST = {"cpu": 2048, "cuda": 16384}


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Clock:
    """Times work on a device: by the clock on a CPU, by events on a GPU, where launches must not count."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.long_enough_ns = _LONG_ENOUGH_NS[device.type]

    def ns(self, work: Callable[[], object], times: int) -> float:
        """Return the ns of so many calls."""
        if self.device.type != "cuda":
            began = perf_counter_ns()
            for _ in range(times):
                work()
            return perf_counter_ns() - began
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with torch.cuda.device(self.device):
            first.record()
            for _ in range(times):
                work()
            last.record()
            last.synchronize()
        return float(first.elapsed_time(last)) * 1e6


class ReadProbe:
    """Reads a buffer about as large as what one step reads: a small model lives in a cache, a large one does not."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.bytes = max(_READ_LEAST, min(size, READ_MOST)) // 4 * 4
        self.clock = _Clock(device)
        self.buffer = torch.ones(self.bytes // 4, device=device)
        # Reads are repeated within one timing, or the clock and the launch would be part of it.
        self.times = max(1, (64 << 20) // self.bytes)
        while self.clock.ns(self.buffer.sum, self.times) < self.clock.long_enough_ns:
            self.times *= 2

    def __call__(self) -> float:
        """Return the GB/s of one timing. A sum is the fastest plain read: products of a vector get at most as far."""
        return self.bytes * self.times / self.clock.ns(self.buffer.sum, self.times)


class MatmulProbe:
    """Multiplies two square matrices in a dtype, as large as the device needs to show its rate."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.clock = _Clock(device)
        self.size = 128
        while True:
            # Random, as weights are: a chip that multiplies one number by itself runs at higher clocks.
            self.a = torch.randn(self.size, self.size, device=device).to(dtype)
            self()
            best = max(self() for _ in range(3))
            if 2 * self.size**3 / best > self.clock.long_enough_ns or self.size >= _LARGEST[device.type]:
                return
            self.size *= 2

    def __call__(self) -> float:
        """Return the GFLOP/s of one product."""
        return 2 * self.size**3 / self.clock.ns(lambda: torch.mm(self.a, self.a), 1)
