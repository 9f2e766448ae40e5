"""What the machine can do at best: reading memory, and multiplying matrices, measured with plain torch."""

from __future__ import annotations

from time import perf_counter_ns

import torch

READ_MOST = 512 << 20
"""Bytes: beyond every cache, a longer buffer is read no slower."""
_READ_LEAST = 1 << 20
_LONG_ENOUGH_NS = 10_000_000
_LARGEST = {"cpu": 2048, "cuda": 8192}


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class ReadProbe:
    """Reads a buffer about as large as what one step reads: a small model lives in a cache, a large one does not."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.bytes = max(_READ_LEAST, min(size, READ_MOST)) // 4 * 4
        self.device = device
        self.buffer = torch.ones(self.bytes // 4, device=device)
        # Small reads are repeated within one timing, or the clock and the launch would be part of it.
        self.times = max(1, (64 << 20) // self.bytes)

    def __call__(self) -> float:
        """GB/s of one timing. A sum is the fastest plain read: products of a vector get at most as far."""
        synchronize(self.device)
        began = perf_counter_ns()
        for _ in range(self.times):
            total = self.buffer.sum()
        total.item()
        return self.bytes * self.times / (perf_counter_ns() - began)


class MatmulProbe:
    """Multiplies two square matrices in a dtype, as large as the device needs to show its rate."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.device, self.dtype = device, dtype
        self.size = 128
        while True:
            self.a = torch.full((self.size, self.size), 0.5, dtype=dtype, device=device)
            self()
            best = max(self() for _ in range(3))
            if 2 * self.size**3 / best > _LONG_ENOUGH_NS or self.size >= _LARGEST[device.type]:
                return
            self.size *= 2

    def __call__(self) -> float:
        """GFLOP/s of one product."""
        synchronize(self.device)
        began = perf_counter_ns()
        torch.mm(self.a, self.a)
        synchronize(self.device)
        return 2 * self.size**3 / (perf_counter_ns() - began)
