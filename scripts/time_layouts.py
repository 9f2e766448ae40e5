"""`python -m scripts.time_layouts SHAPE ...`: the kinds of product on this CPU, and what `fused` makes of them.

For the large model of the embedded pair ("embedded") or a shape of `conf/shape` ("t5-small"): a table of all kinds of
product by size and number of rows; then, each beside its peer in turn, a token against CTranslate2's (where it is
installed) and against one by the libraries' products, passes over several tokens against one, and the encoder against
the library's. Medians of the rounds' ratios, by the process's own CPU time, which other work on the machine hardly
touches, and by the clock.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns, process_time_ns
from typing import Any

import torch

from bild.bench.backends import CTranslateBackend, convert, ctranslate_installed
from bild.bench.config import BenchConfig
from bild.cli import compose
from bild.engines import FusedEngine, build_engine
from bild.engines.kernels import COLUMNS, Kernels, chosen
from bild.engines.layouts import COMPILED
from bild.measure.environment import describe
from bild.models import load_pair
from bild.models.shapes import random_model

SOURCES = (32, 128, 512, 1024)
TOKENS = 32
Way = Callable[[], object]


@dataclass(frozen=True)
class CallTime:
    """Milliseconds of one call."""

    cpu: float
    clock: float


def model_named(name: str) -> tuple[Any, int]:
    """Return a module and the size of its vocabulary."""
    if name == "embedded":
        pair = load_pair("embedded", device="cpu")
        return pair.large.module, pair.vocabulary
    shape = compose([f"shape={name}"], "bench", BenchConfig).shape
    return random_model(shape, torch.float32, torch.device("cpu"), 0), shape.rows


def in_turn(ways: Mapping[str, Way], rounds: int) -> dict[str, list[CallTime]]:
    """Call each in a new order in each round; the first round warms up."""
    taken: dict[str, list[CallTime]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in random.sample(list(ways), len(ways)):
            cpu, clock = process_time_ns(), perf_counter_ns()
            ways[name]()
            found = CallTime((process_time_ns() - cpu) / 1e6, (perf_counter_ns() - clock) / 1e6)
            if number:
                taken[name].append(found)
    return taken


def ratio(ones: list[CallTime], others: list[CallTime]) -> str:
    """Tell the median of the rounds' ratios, with quartiles, by both clocks."""
    told = []
    for way in ("cpu", "clock"):
        ratios = [getattr(a, way) / getattr(b, way) for a, b in zip(ones, others, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        told.append(f"{middle:.2f} ({low:.2f} to {high:.2f}) by {way}")
    return ", ".join(told)


def ms(taken: list[CallTime]) -> str:
    """Tell the median by both clocks."""
    return (
        f"{statistics.median(t.cpu for t in taken):.3f} ms cpu, {statistics.median(t.clock for t in taken):.3f} clock"
    )


def table(kernels: Kernels) -> None:
    """Print us of a product (for a few rows the sum of four and eight), the chosen kind starred."""
    for size, by_column in kernels.us.items():
        for column in COLUMNS:
            chosen = kernels.kinds[size][column]
            cells = [f"{kind}{'*' * (kind == chosen)} {us:.1f}" for kind, us in by_column[column].items()]
            print(f"{size:>12} {column:>8}: " + "  ".join(cells))


def source(length: int, vocabulary: int) -> list[int]:
    """Make random token ids."""
    return [*(random.randrange(3, vocabulary) for _ in range(length - 1)), 1]


def without_strips(kernels: Kernels) -> Kernels:
    """Choose among the libraries' products, by the same times."""
    us = {
        size: {
            column: {kind: t for kind, t in by_kind.items() if kind != COMPILED} for column, by_kind in found.items()
        }
        for size, found in kernels.us.items()
    }
    return Kernels("the libraries'", kernels.kinds | {size: chosen(found) for size, found in us.items()}, us)


def steps(
    engine: FusedEngine, plain: FusedEngine, peer: CTranslateBackend | None, vocabulary: int, rounds: int
) -> None:
    """A token beside CTranslate2's and beside the libraries' products, and wider passes beside one of one token."""
    ids = source(64, vocabulary)
    for one in (engine, plain):
        one.start(ids)
        first = one.step([0]).choice

    def write(one: FusedEngine) -> None:
        one.rewind(1)
        one.draft(first, TOKENS, 0.0)

    ways: dict[str, Way] = {"fused": partial(write, engine), "plain": partial(write, plain)}
    if peer is not None:
        ways |= {"peer": partial(peer._write, ids, TOKENS + 1), "peer, one": partial(peer._write, ids, 1)}
    taken = in_turn(ways, rounds)
    ours = [CallTime(t.cpu / TOKENS, t.clock / TOKENS) for t in taken["fused"]]
    print(f"a token: fused {ms(ours)}")
    print(f"a token: without strips over with them: {ratio(taken['plain'], taken['fused'])}")
    if peer is not None:
        pairs = zip(taken["peer"], taken["peer, one"], strict=True)
        theirs = [CallTime((a.cpu - b.cpu) / TOKENS, (a.clock - b.clock) / TOKENS) for a, b in pairs]
        print(f"a token: CTranslate2 {ms(theirs)}; CTranslate2 over fused: {ratio(theirs, ours)}")

    def verify(one: FusedEngine, width: int) -> None:
        one.rewind(TOKENS // 2)
        one.step(ids[:width], want=width)

    both, widths = {"": engine, "plain ": plain}, (1, 2, 4, 8, 16)
    passes = in_turn({f"{name}{w}": partial(verify, one, w) for name, one in both.items() for w in widths}, 4 * rounds)
    for width in map(str, widths):
        found, theirs = passes[width], passes[f"plain {width}"]
        print(f"a pass over {width:>2}: {ms(found)}; over a pass of one: {ratio(found, passes['1'])}")
        plainly = ratio(theirs, passes["plain 1"])
        print(f"    without strips: over a pass of one: {plainly}; over with: {ratio(theirs, found)}")


@torch.inference_mode()
def encoders(engine: FusedEngine, module: Any, vocabulary: int, rounds: int) -> None:
    """The encoder beside the library's, and the whole way to the first token."""
    hf = build_engine("hf", module, dtype="fp32", eos=-1, vocabulary=vocabulary)
    for length in SOURCES:
        ids = source(length, vocabulary)
        batch = torch.tensor([ids])

        def first(one: Any, ids: list[int] = ids) -> None:
            one.start(ids)
            one.step([0])

        ways = {
            "fused": partial(engine.encode, ids),
            "library": partial(module.encoder, batch),
            "fused, first": partial(first, engine),
            "library, first": partial(first, hf),
        }
        taken = in_turn(ways, rounds)
        for name, what in (("", "encoder"), (", first", "time to first token")):
            ours, theirs = taken[f"fused{name}"], taken[f"library{name}"]
            print(f"source of {length:>5}, {what}: fused {ms(ours)}; fused over the library: {ratio(ours, theirs)}")


def main() -> int:
    """Print all of it for each shape."""
    parser = argparse.ArgumentParser("python -m scripts.time_layouts", description=__doc__)
    parser.add_argument("shapes", nargs="+")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe(torch.device('cpu'))['machine']['cpu']}, torch {torch.__version__}, one thread, fp32")
    for name in arguments.shapes:
        module, vocabulary = model_named(name)
        began, cpu = perf_counter_ns(), process_time_ns()
        engine = build_engine("fused", module, dtype="fp32", eos=-1, vocabulary=vocabulary)
        assert isinstance(engine, FusedEngine)
        spent = f"{(process_time_ns() - cpu) / 1e9:.2f} s cpu, {(perf_counter_ns() - began) / 1e9:.2f} s by the clock"
        print(f"{name}: built in {spent}, measured within. Microseconds of a product, * the chosen kind:")
        table(engine.weights.kernels)
        peer = None
        if ctranslate_installed():
            with tempfile.TemporaryDirectory() as folder:  # what was loaded stays
                convert(module, 0, folder)
                peer = CTranslateBackend(folder, "float32", torch.device("cpu"), 1)
        kernels = without_strips(engine.weights.kernels)
        plain = build_engine("fused", module, dtype="fp32", eos=-1, vocabulary=vocabulary, kernels=kernels)
        assert isinstance(plain, FusedEngine)
        steps(engine, plain, peer, vocabulary, arguments.rounds)
        encoders(engine, module, vocabulary, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
