"""The kinds of product that matrices take on a device, measured for each size when an engine is built.

No kind wins everywhere, not even on one machine (docs/measurement.md), so each size of matrix is measured with one row,
a few and more. A default stays unless another kind is clearly faster, so that two processes on one machine choose
alike; where they do not, a point and a tree keep the choice, and with it the arithmetic, that they began with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter_ns, thread_time_ns
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from bild.engines.bridge import source_width
from bild.engines.layouts import COMPILED, NUMPY_KINDS, PACKS, PLAIN, TRITON, WIDTHS, Block, Matrix, layout_of
from bild.engines.strips import compiled

COLUMNS = (*WIDTHS, "encoder")
"""What a kind is chosen for: the decoder's width classes, and the encoder at any length."""
_ROWS = {WIDTHS[0]: (1,), WIDTHS[1]: (4, 8), WIDTHS[2]: (16,), "encoder": (64,)}
CLEARLY = 1.1
"""The speedup from which a kind takes the place of the default, or of one over the same layout."""
SECOND_LAYOUT = 1.25
"""The speedup from which a matrix is kept in one more layout."""
WHOLE = 1.25
"""How many times as long compiled strips may take as the best mix of kinds: whole compiled passes save more."""
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 8
_BUDGET_NS = 4_000_000
"""Time for a kind at one number of rows; no more rounds begin when all kinds have used theirs."""
_BEHIND = 1.6
"""A kind that took so many times as long as the fastest in the first rounds is not timed again."""
_BEYOND_CACHES = 128 << 20
_MOST_COLUMNS, _MOST_COPIES = 4096, 8
"""Columns that are measured of a matrix with more, as a head has; and matrices of a size that are made."""
_MEASURED_FROM = 1 << 13
"""Entries from which a matrix is worth measuring; smaller ones take the default."""
_PACKED_FROM = 1 << 18
"""Entries from which oneDNN is tried: its call alone takes longer than a smaller product."""

MatrixSizes = Sequence[tuple[int, int]]
"""[in, out] of matrices."""


@dataclass(frozen=True)
class Kernels:
    """The kinds of product of one device, dtype and number of threads, and what they rest on."""

    why: str
    kinds: dict[str, dict[str, str]] = field(default_factory=dict)
    """By size, "INxOUT", and column."""
    us: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """By size, column and kind: microseconds of a product, the least of several; of all numbers of rows together."""

    def of(self, inner: int, out: int, *, encoder: bool = False) -> tuple[str, str, str]:
        """Return the kinds of a matrix by width class."""
        found = self.kinds.get(f"{inner}x{out}", {})
        one, few, more = (found.get("encoder" if encoder else column, PLAIN) for column in WIDTHS)
        return one, few, more


UNMEASURED = Kernels("the kind that every device has")


def sizes_of(config: Any, vocabulary: int) -> MatrixSizes:
    """Return [in, out] of the matrices of a checkpoint as `t5.prepare` lays them out, equal ones repeated."""
    width, inner, dense = int(config.d_model), int(config.num_heads * config.d_kv), int(config.d_ff)
    layer = [(width, 3 * inner), (inner, width), (width, (1 + config.is_gated_act) * dense), (dense, width)]
    cross, decoders = [(width, inner), (inner, width)], config.num_decoder_layers
    once = [(source_width(config), 2 * decoders * inner), (width, vocabulary)]
    return [*(layer * config.num_layers), *((layer + cross) * decoders), *once]


def kernels_for(device: torch.device, dtype: torch.dtype, sizes: MatrixSizes, triton: bool = False) -> Kernels:
    """Return this process's choice for matrices of these sizes; what was measured once is not measured again.

    `triton`: for captured passes that can take Triton's products, which takes seconds to compile them.
    """
    kinds = kinds_on(device.type, dtype, torch.get_num_threads())
    if not (triton and _compiles(device)):
        kinds = tuple(kind for kind in kinds if kind != TRITON)
    if device.type == "cpu" and any(kind in NUMPY_KINDS for kind in kinds):
        _blas().limit(limits=1)  # stays so: a second thread would be one that no record tells of
    bytes_of_all = dtype.itemsize * sum(inner * out for inner, out in sizes)
    footprint = min(bytes_of_all, _BEYOND_CACHES).bit_length() - 1
    us = {
        f"{inner}x{out}": _measured(device, dtype, kinds, inner, out, footprint)
        for inner, out in dict.fromkeys(sizes)
        if inner * out >= _MEASURED_FROM
    }
    whole = COMPILED in kinds and _whole_pays([us[name] for name in _names(sizes) if name in us])
    found = {
        name: chosen(us[name], whole) if name in us else dict.fromkeys(COLUMNS, COMPILED if whole else kinds[0])
        for name in dict.fromkeys(_names(sizes))
    }
    return Kernels(f"measured on {device.type} in {str(dtype).removeprefix('torch.')}", found, us)


def _names(sizes: MatrixSizes) -> list[str]:
    return [f"{inner}x{out}" for inner, out in sizes]


def _whole_pays(us: Sequence[Mapping[str, Mapping[str, float]]]) -> bool:
    """Return whether a model's matrices, with these times, are to be compiled strips alone, as compiled passes need."""
    columns = [by[column] for by in us for column in COLUMNS if column != WIDTHS[2]]
    return sum(by_kind[COMPILED] for by_kind in columns) <= WHOLE * sum(min(by_kind.values()) for by_kind in columns)


def followed(kept: Mapping[str, Any] | None, kinds: Sequence[str], sizes: MatrixSizes) -> Kernels | None:
    """Return the choice that a tree or a point keeps as plain JSON, if it can be followed with these kinds.

    None where nothing was kept, and where it lacks a size or has a kind that is not here (more threads, another NumPy).
    """
    names = set(_names(sizes))
    if kept is None or "kinds" not in kept or not kept["kinds"].keys() >= names:
        return None
    asked = {kind for by_column in kept["kinds"].values() for kind in by_column.values()}
    return Kernels(**kept) if asked <= set(kinds) else None


def kinds_on(device: str, dtype: torch.dtype, threads: int) -> tuple[str, ...]:
    """Return the kinds that a device, a dtype and a number of threads have, the default first."""
    kinds: tuple[str, ...] = (PLAIN, "torch out-in")
    if device == "cuda":
        return (*kinds, TRITON)
    if device != "cpu" or dtype != torch.float32:
        return kinds
    if threads == 1:
        numpy = NUMPY_KINDS if _blas().lib_controllers else ()
        kinds = (*numpy, *kinds, *([COMPILED] if compiled() else []))
    return (*kinds, *(["packed"] if PACKS else []))


@cache
def _compiles(device: torch.device) -> bool:
    """Return whether Triton is here and compiles for a GPU: it needs a C compiler, and knows no old GPUs."""
    try:
        from bild.engines.triton_product import multiply

        ones = torch.ones(16, 16, device=device)
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return bool((multiply(ones[:1], Matrix.of(ones, (TRITON,) * 3)) == 16.0).all())
    except Exception:  # whatever a compiler may raise, cuBLAS does as well
        return False


def pin_precision() -> dict[str, Any]:
    """Hold products on a GPU to their dtype, whatever the container's defaults, and return the switches for a record.

    With TF32 an fp32 product has 10 bits of mantissa, and sums of fp16 and bf16 in their own dtype can overflow.
    """
    torch.set_float32_matmul_precision("highest")
    matmul = torch.backends.cuda.matmul
    matmul.allow_fp16_reduced_precision_reduction = matmul.allow_bf16_reduced_precision_reduction = False
    return {
        "float32_matmul": torch.get_float32_matmul_precision(),
        "fp16_reduced_reduction": matmul.allow_fp16_reduced_precision_reduction,
        "bf16_reduced_reduction": matmul.allow_bf16_reduced_precision_reduction,
    }


@cache
def _blas() -> ThreadpoolController:
    """Return NumPy's own OpenBLAS; none where it was built with another BLAS."""
    found = ThreadpoolController().select(user_api="blas", internal_api="openblas")
    return found.select(filepath=[one.filepath for one in found.lib_controllers if "numpy" in one.filepath])


def chosen(us: Mapping[str, Mapping[str, float]], whole: bool = False) -> dict[str, str]:
    """Return the kind of each column from the times of all kinds, the default first; `whole`: for compiled passes.

    The kind for one row stays for more of them unless another is clearly faster; one that needs the matrix in a
    second layout, hence more memory, must be faster still. The encoder has matrices of its own, hence a layout too.
    """
    default = COMPILED if whole else next(iter(us[WIDTHS[0]]))
    found = dict.fromkeys(COLUMNS, default) if whole else {WIDTHS[0]: _best(us[WIDTHS[0]], default)}
    one = found[WIDTHS[0]]
    layouts = {layout_of(one)}
    for column in WIDTHS[2 if whole else 1 :]:
        held = {kind: value for kind, value in us[column].items() if layout_of(kind) in layouts}
        best = _best(held, one)
        found[column] = _best(us[column], best, SECOND_LAYOUT)
        layouts.add(layout_of(found[column]))
    found.setdefault("encoder", _best(us["encoder"], default))
    return found


def _best(us: Mapping[str, float], default: str, clearly: float = CLEARLY) -> str:
    if default not in us:  # a kind for few rows
        default = next(kind for kind in us if layout_of(kind) == layout_of(default))
    fastest = min(us, key=lambda kind: us[kind])
    return default if us[default] <= clearly * us[fastest] else fastest


@cache
@torch.inference_mode()
def _measured(
    device: torch.device, dtype: torch.dtype, kinds: tuple[str, ...], inner: int, out: int, footprint: int
) -> dict[str, dict[str, float]]:
    """Time all kinds in turn: us by column and kind.

    Each goes round copies of its matrix, all of them together as large as 2**footprint bytes, the model or more than
    the caches hold: so a product finds its matrix where it will find it between the model's other layers.
    """
    out = min(out, _MOST_COLUMNS)
    if inner * out < _PACKED_FROM:
        kinds = tuple(kind for kind in kinds if kind != "packed")
    copies = min(max(1, round(2**footprint / (len(kinds) * inner * out * dtype.itemsize))), _MOST_COPIES)
    weight = torch.randn(out, inner, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    us: dict[str, dict[str, float]] = {column: dict.fromkeys(kinds, 0.0) for column in COLUMNS}
    ways = {kind: [Matrix.of(weight.clone(), (kind,) * 3) for _ in range(copies)] for kind in kinds}
    for column, all_rows in _ROWS.items():
        if column not in WIDTHS[:2]:
            ways.pop(TRITON, None)
            us[column].pop(TRITON, None)
        for rows in all_rows:
            found = _in_turn({kind: _product(matrices, rows, device) for kind, matrices in ways.items()}, device)
            for kind, value in found.items():
                us[column][kind] = round(us[column][kind] + value, 1)
    return us


def _product(matrices: Sequence[Matrix], rows: int, device: torch.device) -> Callable[[int], object]:
    """Return a function that multiplies with the i-th copy as the engine does."""
    one = matrices[0]
    if device.type != "cpu" or one.dtype != torch.float32:
        x = torch.randn(rows, one.inner, device=device).to(one.dtype)
        if one.kinds[0] == TRITON:
            from bild.engines.triton_product import multiply

            return lambda i: multiply(x, matrices[i % len(matrices)])
        return lambda i: matrices[i % len(matrices)].times(x)
    block = Block(rows, one.inner)
    block.tensor.copy_(torch.randn(block.tensor.shape))
    product = Block(rows, one.out)
    ways = [matrix.products()[0] for matrix in matrices]
    return lambda i: ways[i % len(ways)](block, product)


def _in_turn(ways: Mapping[str, Callable[[int], object]], device: torch.device) -> dict[str, float]:
    """Return the least us of each, so that work beside it counts as little as can be."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    spent, rounds = 0.0, 0
    while rounds <= _LEAST_ROUNDS or (rounds < _MOST_ROUNDS and spent < len(ways) * _BUDGET_NS):
        for name, way in ways.items():
            if rounds < 2 or min(taken[name]) < _BEHIND * min(map(min, taken.values())):
                ns = _cuda_ns(way, rounds, device) if device.type == "cuda" else _cpu_ns(way, rounds)
                spent += ns
                if rounds:  # the first one warms up
                    taken[name].append(ns / 1e3)
        rounds += 1
    return {name: min(values) for name, values in taken.items()}


def _cpu_ns(way: Callable[[int], object], i: int) -> float:
    """Time the i-th product; where one thread works, by that thread's own time alone."""
    clock = thread_time_ns if torch.get_num_threads() == 1 else perf_counter_ns
    began = clock()
    way(i)
    return clock() - began


_REPLAYS, _PAUSE_CYCLES = 20, 3_000_000


def _cuda_ns(way: Callable[[int], object], i: int, device: torch.device) -> float:
    """Time a product by events, behind a pause in which the launches are queued: a captured pass has none either."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        torch.cuda._sleep(_PAUSE_CYCLES)  # type: ignore[no-untyped-call]
        began.record()
        for n in range(_REPLAYS):
            way(i * _REPLAYS + n)
        ended.record()
        ended.synchronize()
    return float(began.elapsed_time(ended)) * 1e6 / _REPLAYS
