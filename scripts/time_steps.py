"""`python -m scripts.time_steps SHAPE:DTYPE:ENGINE[:ENGINE...] ...`: what a pass costs on this device, by engine.

For a shape of `conf/shape` with random weights, behind a source of 65 tokens, in ms: the start of a text (encoder,
keys and values of the source), passes over 1 to 12 tokens, and a token of a draft of 16, each waited for; of captured
engines also a step that nobody waits for, and the host's own time for one. Before them the kinds of product that were
chosen for each engine, with their us. Nothing else should run meanwhile.

    python -m scripts.time_steps t5-large:fp16:graph:graph-triton t5-small:fp16:graph-triton
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import torch

from bild.cli.compose import shapes
from bild.config import GRAPH_TRITON
from bild.engines import DTYPES, PassPlan, build_engine, kernels_of
from bild.engines.graph import GraphEngine
from bild.models.checkpoint import free_memory
from bild.models.shapes import random_model

SOURCE = [*range(2, 66), 1]
WIDTHS = (1, 2, 4, 5, 8, 11, 12)
DRAFT = 16
REPEATS = 15


def ms_of(call: Callable[[], object]) -> float:
    """Return the median of a call's ms, after three that warm up."""
    taken = []
    for _ in range(REPEATS + 3):
        began = perf_counter()
        call()
        taken.append((perf_counter() - began) * 1e3)
    return statistics.median(taken[3:])


def times_of(engine: Any) -> dict[str, float]:
    """Time an engine that is prepared: ms by what is done."""

    def start() -> None:
        engine.start(SOURCE)
        engine.synchronize()

    def step(tokens: list[int]) -> None:
        engine.rewind(1)
        engine.step(tokens)

    def draft() -> None:
        engine.rewind(1)
        engine.draft([5], DRAFT, 0.0)

    found = {"start": ms_of(start)}
    engine.step([0])
    found |= {f"pass over {width}": ms_of(partial(step, list(range(2, 2 + width)))) for width in WIDTHS}
    if not isinstance(engine, GraphEngine):
        return found | {"draft, a token": ms_of(draft) / DRAFT}
    for ahead in (False, True):
        engine.ahead = ahead
        found[f"draft, a token{', a step ahead' * ahead}"] = ms_of(draft) / DRAFT
    return found | {"a step in a queue": ms_of(partial(queue, engine)) / DRAFT, "host": host_ms(engine)}


@torch.inference_mode()
def queue(engine: GraphEngine) -> None:
    """Launch the steps of a draft, and wait for all of them."""
    engine.rewind(1)
    engine._move(1, 1)
    for _ in range(DRAFT):
        engine._next("step")
    engine.synchronize()


@torch.inference_mode()
def host_ms(engine: GraphEngine) -> float:
    """Return the ms after which the host has launched a step."""
    taken = []
    for _ in range(REPEATS):
        engine.synchronize()
        engine._move(1, 1)
        began = perf_counter()
        for _ in range(4):
            engine._next("step")
        taken.append((perf_counter() - began) / 4 * 1e3)
    engine.synchronize()
    return statistics.median(taken)


def main() -> None:
    """Print all that was asked for."""
    if not sys.argv[1:] or "--help" in sys.argv[1:]:
        print(__doc__)
        return
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(torch.cuda.get_device_name() if device.type == "cuda" else "CPU", torch.__version__)
    known = shapes()
    for asked in sys.argv[1:]:
        name, dtype, *engines = asked.split(":")
        module = random_model(known[name], DTYPES[dtype], device, 0)
        options: dict[str, Any] = {"dtype": dtype, "eos": -1, "vocabulary": known[name].rows, "small": True}
        for each in engines:
            kernels = kernels_of(module, dtype, known[name].rows, each == GRAPH_TRITON)
            for size, by_column in kernels.us.items():
                print(f"{name} {dtype} {size}: {kernels.kinds[size]} {by_column}")
            engine = build_engine(each, module, kernels=kernels, **options)
            engine.prepare(PassPlan(64, lambda: [len(SOURCE)], 12))
            told = ", ".join(f"{what} {ms:.3f}" for what, ms in times_of(engine).items())
            print(f"{name} {dtype} {each}: {told}", flush=True)
            del engine
            free_memory()


if __name__ == "__main__":
    main()
