"""The kernels that multiply matrices on this machine's CPU: measured once a process, and kept in every record.

NumPy's wheels bring an OpenBLAS whose kernel for small products is twice as fast as torch's ways where the CPU has
AVX-512, and no better where it has not. The two cases lie far apart, so a few milliseconds tell them from each other;
at a smaller difference the choice stays with torch, so that two processes on one machine choose alike. Where they do
not, a point and a tree keep the kernels, and with them the arithmetic, that they began with.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from bild.engines.base import DTYPES
from bild.engines.layouts import Matrix, Rows, product_buffer

_MATRIX = (256, 1024)
"""[in, out]: 1 MB, about what a layer of a small model has."""
_COUNTS = (1, 4, 8)
_REPEATS = 15
CLEARLY = 1.4
"""The speedup from which panels are chosen: about 2 with AVX-512, 0.9 to 1.2 by chance without."""


@dataclass(frozen=True)
class Kernels:
    """The choice for fp32 on a CPU, and what it rests on."""

    name: str
    """"panels" (NumPy's BLAS over `Panels`) or "torch" (rows over [in, out], more of them over packed weights)."""
    why: str
    us: dict[str, dict[str, float]] = field(default_factory=dict)
    """By name: median us of a product of 1, 4 and 8 rows with a matrix of 256 x 1,024."""


def kernels_for(device: torch.device, dtype: torch.dtype) -> Kernels:
    """Return the choice of this process for an engine on this device and in this dtype."""
    if device.type != "cpu" or dtype != torch.float32:
        return Kernels("torch", "panels are for fp32 on a CPU")
    if torch.get_num_threads() > 1:
        return Kernels("torch", "panels are for one thread")
    return _measured()


def kept_or_own(kept: Mapping[str, Any] | None, own: Kernels) -> Kernels:
    """Return the choice that a tree or a point keeps as plain JSON, or a process's own.

    Its own counts where nothing was kept, and where it could not use panels (more threads, another NumPy).
    """
    return own if kept is None or (kept["name"] == "panels" and not own.us) else Kernels(**kept)


def kernels_told(engine: str, device: str, dtype: str) -> dict[str, Any] | None:
    """Return the choice for a record; None for an engine that has none to make."""
    return asdict(kernels_for(torch.device(device), DTYPES[dtype])) if engine == "fused" else None


@cache
def _measured() -> Kernels:
    libraries = ThreadpoolController().select(user_api="blas", internal_api="openblas")
    found = [one.architecture for one in libraries.lib_controllers if "numpy" in one.filepath]
    if not found or not hasattr(np, "vecdot"):
        return Kernels("torch", "this NumPy brings no OpenBLAS of its own, or is older than 2.0")
    libraries.limit(limits=1)  # stays so: a second thread would be one that no record tells of
    us = measure()
    better = CLEARLY * sum(us["panels"].values()) < sum(us["torch"].values())
    return Kernels("panels" if better else "torch", f"measured, with NumPy's OpenBLAS for {found[0]}", us)


@torch.inference_mode()
def measure() -> dict[str, dict[str, float]]:
    """Time both ways in turn, with the matrix in the cache."""
    inner, out = _MATRIX
    weight = torch.randn(out, inner, generator=torch.Generator().manual_seed(0))
    torch_way, panel_way = Matrix.of(weight), Matrix.of(weight, in_panels=True)
    us: dict[str, dict[str, float]] = {"torch": {}, "panels": {}}
    for count in _COUNTS:
        us["torch"][str(count)], us["panels"][str(count)] = _in_turn(
            _times(torch_way, count), _product(panel_way, count)
        )
    return us


def _times(matrix: Matrix, count: int) -> Callable[[], object]:
    x = torch.ones(count, matrix.inner)
    return lambda: matrix.times(x)


def _product(matrix: Matrix, count: int) -> Callable[[], object]:
    assert matrix.panels is not None
    panels, rows = matrix.panels, Rows.of(count, matrix.inner)
    _, product = product_buffer(rows, panels)
    x = np.ones((rows.fed, matrix.inner), np.float32)
    return lambda: panels.times(x, rows, product)


def _in_turn(*ways: Callable[[], object]) -> list[float]:
    """Return the median us of each."""
    taken: list[list[float]] = [[] for _ in ways]
    for repeat in range(_REPEATS + 3):
        for way, values in zip(ways, taken, strict=True):
            began = perf_counter_ns()
            way()
            if repeat >= 3:  # the first ones warm up
                values.append((perf_counter_ns() - began) / 1e3)
    return [round(statistics.median(values), 1) for values in taken]
