"""Products of a few rows with a matrix in strips of 16 columns, compiled for the processor at hand by a C compiler.

The BLAS libraries copy a matrix into an order of their own before they multiply a few rows with it. Here the matrix
lies in that order from the start (docs/measurement.md has what it gains).
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRIP = 16
"""Columns of a strip: 64 bytes, a cache line of most processors."""
_SOURCE = Path(__file__).with_name("compiled.c")
_OPTIONS = ("-O3", "-fno-math-errno", "-shared", "-fPIC")
_FLAGS = ("-march=native", "-mcpu=native", "")
"""What compilers call the processor at hand: the first that is taken."""
_SECONDS = 60
_ARGUMENTS = {
    "product": "pllpllpl",
    "run_layers": "pppllll",
    "score": "ppplpp",
    "decode": "ppplpllllp",
    "draft": "ppplplllldlpp",
}
"""Of the functions in C: pointers, whole numbers and others."""
_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_long, "d": ctypes.c_double}

CompiledProduct = Callable[[int, int, int, int, int, int, int, int], None]
"""x, its step, rows, weights, in, strips, y, its step: addresses and numbers of floats, as in compiled.c."""


@dataclass(frozen=True)
class Strips:
    """[in, out] as strips; columns from `out` on are zero. fp32 on a CPU."""

    data: NDArray[np.float32]  # [strips, in, STRIP]
    address: int
    out: int
    product: CompiledProduct

    @staticmethod
    def of(rows: Tensor, empty: Callable[[tuple[int, ...]], NDArray[np.float32]]) -> Strips:
        """From a weight as checkpoints have it, [out, in], in memory that `empty` makes."""
        code = compiled()
        assert code is not None, "a kind that `kinds_on` did not offer"
        out, inner = rows.shape
        data = empty((ceil(out / STRIP), inner, STRIP))
        flat = torch.from_numpy(data)
        whole = out // STRIP
        flat[:whole] = rows[: whole * STRIP].view(whole, STRIP, inner).transpose(1, 2)
        if whole < len(data):
            flat[whole] = 0.0
            flat[whole, :, : out - whole * STRIP] = rows[whole * STRIP :].t()
        return Strips(data, data.ctypes.data, out, code.product)

    def times(self, x: int, x_step: int, rows: int, y: int, y_step: int) -> None:
        """Write x [rows, in] times this to y [rows, strips * STRIP], both by address and floats from row to row."""
        strips, inner, _ = self.data.shape
        self.product(x, x_step, rows, self.address, inner, strips, y, y_step)

    def multiply(self, x: Tensor) -> Tensor:
        """Return x [k, in] times this, [k, out], in memory of its own."""
        x = x.contiguous()
        y = torch.empty((x.shape[0], len(self.data) * STRIP))
        self.times(x.data_ptr(), x.shape[1], x.shape[0], y.data_ptr(), y.shape[1])
        return y[:, : self.out]


@cache
def compiled() -> ctypes.CDLL | None:
    """Compile for this processor, once a process; None where no compiler is or where its product does not work."""
    command = shlex.split(os.environ.get("CC", "")) or [next(filter(shutil.which, ("cc", "gcc", "clang")), "")]
    if not shutil.which(command[0]):
        return None
    with tempfile.TemporaryDirectory(prefix="bild-", ignore_cleanup_errors=True) as folder:
        library = Path(folder, "strips.so")
        for flag in _FLAGS:
            try:
                made = subprocess.run(
                    [*command, *_OPTIONS, *filter(None, [flag]), "-o", library, _SOURCE],
                    capture_output=True,
                    timeout=_SECONDS,
                    check=False,
                )
                if made.returncode == 0:
                    return _checked(ctypes.CDLL(str(library)))
            except (OSError, subprocess.TimeoutExpired):  # no place to write, or none from which code may be loaded
                return None
    return None


def _checked(code: ctypes.CDLL) -> ctypes.CDLL | None:
    """Return the compiled code if its product is what NumPy's is."""
    for name, kinds in _ARGUMENTS.items():
        getattr(code, name).argtypes = [_TYPES[kind] for kind in kinds]
        getattr(code, name).restype = ctypes.c_long if name == "draft" else None
    product: CompiledProduct = code.product
    draw = np.random.default_rng(0)
    for rows in (1, 2, 17):
        x, w = (draw.standard_normal(shape).astype(np.float32) for shape in ((rows, 33), (5, 33, STRIP)))
        y = np.empty((rows, 5 * STRIP), np.float32)
        product(x.ctypes.data, 33, rows, w.ctypes.data, 33, 5, y.ctypes.data, 5 * STRIP)
        if not np.allclose(y, np.matmul(x, w).transpose(1, 0, 2).reshape(rows, -1), rtol=1e-4, atol=1e-4):
            return None
    return code
