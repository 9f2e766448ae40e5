"""`python -m scripts.time_layouts`: time the layouts of `bild.engines.layouts` on this machine's CPU.

Products of 1 to 16 rows with a matrix in five layouts, and ways to summarise a wide head. The ways take turns, and each
goes round copies of its matrix that no cache can hold together, as the layers of a large model do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bild.engines.kernels import kernels_for
from bild.engines.layouts import Panels, Rows, product_buffer

MATRICES = {
    "T5-small qkv": (512, 1536),
    "T5-small wi": (512, 2048),
    "T5-small head": (512, 32128),
    "T5-large qkv": (1024, 3072),
    "T5-large wi": (1024, 4096),
}
"""[in, out]."""
ROWS = (1, 2, 4, 8, 16)
VOCABULARIES = (32128, 250112)
_BEYOND_CACHES = 160 << 20
_REPEATS = 9

Product = Callable[[Tensor, int], object]
Summary = Callable[[Tensor, int], object]


def products(inner: int, outer: int, rows: int) -> dict[str, Product]:
    """Ways to multiply x [rows, inner], by their names, and to read; the second argument picks a copy of the matrix."""
    copies = max(1, _BEYOND_CACHES // (4 * inner * outer))
    weights = [torch.randn(outer, inner) for _ in range(copies)]
    across = [weight.t().contiguous() for weight in weights]
    found: dict[str, Product] = {
        "read": lambda _, i: weights[i % copies].sum(),  # no other can be faster
        "[out, in]": lambda x, i: F.linear(x, weights[i % copies]),
        "[in, out]": lambda x, i: x @ across[i % copies],
    }
    if torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        packed = [torch.ops.mkldnn._reorder_linear_weight(weight, 8) for weight in weights]
        found["oneDNN"] = lambda x, i: torch.ops.mkldnn._linear_pointwise(x, packed[i % copies], None, "none", [], "")
    if hasattr(torch.ops.mkl, "_mkl_reorder_linear_weight"):
        ordered = [torch.ops.mkl._mkl_reorder_linear_weight(weight, rows) for weight in weights]
        found["MKL"] = lambda x, i: torch.ops.mkl._mkl_linear(x, ordered[i % copies], weights[i % copies], None, rows)
    found["panels"] = panel_product([Panels.of(weight) for weight in weights], rows)
    return found


def panel_product(matrices: Sequence[Panels], rows: int) -> Product:
    """As `HostDecoder` multiplies: one row is fed twice, and nothing is allocated."""
    inner = matrices[0].data.shape[1]
    fed = Rows.of(rows, inner)
    _, product = product_buffer(fed, matrices[0])
    room = np.ones((fed.fed, inner), np.float32)
    return lambda _, i: matrices[i % len(matrices)].times(room, fed, product)


def summaries() -> dict[str, Summary]:
    """Ways to the choice and its log-probability, from logits [rows, vocabulary]; there are no copies to pick from."""

    def by_log_softmax(x: Tensor, _: int) -> object:
        logp = torch.log_softmax(x, -1).numpy()
        return [float(logp[row, token]) for row, token in enumerate(logp.argmax(-1).tolist())]

    def by_max(x: Tensor, _: int) -> object:
        best, choice = torch.log_softmax(x, -1).max(-1)
        return best.tolist(), choice.tolist()

    def by_both(x: Tensor, _: int) -> object:
        choice = x.numpy().argmax(-1).tolist()
        total = torch.logsumexp(x, -1).tolist()
        return [float(x[row, token]) - total[row] for row, token in enumerate(choice)]

    def by_logsumexp(x: Tensor, _: int) -> object:
        best, choice = x.max(-1)
        return (best - torch.logsumexp(x, -1)).tolist(), choice.tolist()

    return {
        "log_softmax, NumPy argmax": by_log_softmax,
        "log_softmax, max": by_max,
        "logsumexp, NumPy argmax": by_both,
        "logsumexp, max": by_logsumexp,
    }


def in_turn(ways: Mapping[str, Callable[..., object]], passes: int, *arguments: Tensor) -> dict[str, float]:
    """Median us of one call of each way, with the arguments and a number; they alternate, so drift hits them alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(_REPEATS + 1):
        for name, way in ways.items():
            began = perf_counter_ns()
            for i in range(passes):
                way(*arguments, i)
            if repeat:  # the first one warms up
                taken[name].append((perf_counter_ns() - began) / passes / 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def line(what: str, us: Mapping[str, float]) -> str:
    """One line of a table."""
    return f"{what}:  " + "  ".join(f"{way} {value:8.1f}" for way, value in us.items())


@torch.inference_mode()
def main() -> int:
    """Print both tables."""
    argparse.ArgumentParser("python -m scripts.time_layouts", description=__doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"engine=fused uses {kernels_for(torch.device('cpu'), torch.float32)}")
    print(f"us of a product in fp32, one thread, torch {torch.__version__}, medians of {_REPEATS}")
    for name, (inner, outer) in MATRICES.items():
        for rows in ROWS:
            found = in_turn(products(inner, outer, rows), 40, torch.randn(rows, inner))
            print(line(f"{name:14} {inner:5} x {outer:6}, {rows:2} rows", found), flush=True)
    print("us of the choice and its log-probability")
    for rows in (1, 8):
        for vocabulary in VOCABULARIES:
            found = in_turn(summaries(), 20, torch.randn(rows, vocabulary))
            print(line(f"{rows} x {vocabulary:6}", found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
