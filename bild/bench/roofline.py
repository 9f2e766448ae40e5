"""The least that one decoder pass can cost: the bytes it must read and the operations it must do. Arithmetic only.

What the machine can do at best: reading memory, and multiplying matrices, measured with plain torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import torch

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True)
class PassWork:
    """One pass of a decoder over new positions."""

    bytes: int
    """Read: matrices, head, keys and values of the source and of the cached positions. Writes are left out."""
    flops: int
    """A multiplication and an addition are two."""


@dataclass(frozen=True)
class Decoder:
    """The sizes of a T5 or mT5 that its work follows from."""

    layers: int
    width: int  # D
    inner: int  # heads * key size
    feed_forward: int  # F
    matrices_in: int
    """Matrices of [D, F]: 1, gated 2."""
    vocabulary: int
    wide_wo: bool = False
    """Whether fp16 leaves the second feed-forward matrix in fp32."""

    @staticmethod
    def of(config: Any, vocabulary: int, *, wide_wo: bool = False) -> Decoder:
        """Read the library's configuration; `vocabulary` is the number of rows of the head that are used."""
        return Decoder(
            layers=config.num_decoder_layers,
            width=config.d_model,
            inner=config.num_heads * config.d_kv,
            feed_forward=config.d_ff,
            matrices_in=2 if config.is_gated_act else 1,
            vocabulary=vocabulary,
            wide_wo=wide_wo,
        )

    @property
    def head(self) -> int:
        """Return the number of weights of the head."""
        return self.vocabulary * self.width

    @property
    def matrices(self) -> int:
        """Return the number of weights that every pass multiplies by: the layers' and the head's.

        Self-attention has q, k, v and o; cross-attention q and o, since the source's keys and values are made once.
        """
        layer = 6 * self.width * self.inner + (self.matrices_in + 1) * self.width * self.feed_forward
        return self.layers * layer + self.head

    def work(self, width: int, source: int, cached: float, *, weights: str, states: str) -> PassWork:
        """Return the work of a pass over `width` new positions behind `cached` ones, on a source of `source` positions.

        `weights` and `states` (keys, values, embeddings) name their dtypes. Every new position sees all before it and
        itself, and is asked for its logits. Norms, softmax and biases are a thousandth of it and left out.
        """
        memory = round(2 * self.layers * self.inner * (source + cached))
        read = self.matrices * ELEMENT_BYTES[weights]
        if self.wide_wo and weights == "fp16":
            read += self.layers * self.width * self.feed_forward * (ELEMENT_BYTES["fp32"] - ELEMENT_BYTES["fp16"])
        read += (memory + width * self.width) * ELEMENT_BYTES[states]
        seen = source + cached + (width + 1) / 2
        return PassWork(read, round(width * (2 * self.matrices + 4 * self.layers * self.inner * seen)))


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
