"""Check that the engines write the same texts, on the captions and pairs that come with the package.

    python scripts/check_engines.py --examples 200      # fused and graph beside hf: vanilla, BiLD, early exit

On a CPU `graph` runs uncaptured. A difference is printed with the caption's id; near-ties are the only excuse for one.
"""

from __future__ import annotations

import argparse
import sys

import torch

from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.measure.live import run_live
from bild.models import Pair, load_pair
from bild.tasks import load_task

POINTS = [
    (MethodConfig("vanilla"), ThresholdConfig()),
    (MethodConfig("bild"), ThresholdConfig(0.3, 2.0)),
    (MethodConfig("bild", rules="authors", first="small"), ThresholdConfig(0.6, 3.0)),
]
ENGINES = ("hf", "fused", "graph")


def texts(pair: Pair, engine: str, source: list[int], limit: int) -> list[list[int]]:
    """Return the texts of every point on one engine."""
    large, small = pair.engine("large", engine), pair.engine("small", engine)
    found = []
    for method, threshold in POINTS:
        policy = policy_for(method, threshold)(start=pair.start, eos=pair.eos, max_length=limit)
        hands = (large, None if method.name == "vanilla" else small)
        found.append(run_live(policy, source, *hands).decoded.tokens)
    return found


def main() -> int:
    """Compare; the exit code is the number of engines that differ somewhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = TaskConfig(samples=options.examples)
    pairs = {
        "embedded-aligned": load_pair("embedded", "embedded/small-aligned", device="cpu"),
        "embedded-bridge": load_pair("embedded", "embedded/small-bridge", device="cpu"),
        "embedded-exit": load_pair("embedded/exit", exit=1, device="cpu"),
    }
    wrong = 0
    for name, pair in pairs.items():
        differ = dict.fromkeys(ENGINES[1:], 0)
        total = 0
        for example in load_task(task):
            source = pair.encode(task.prompt + example.source, task.source_limit)[0]
            expected, *others = (texts(pair, engine, source, task.target_limit) for engine in ENGINES)
            total += len(POINTS)
            for engine, found in zip(ENGINES[1:], others, strict=True):
                unlike = sum(a != b for a, b in zip(expected, found, strict=True))
                differ[engine] += unlike
                if unlike:
                    print(f"{name}: {engine} parts from hf on {example.id}")
        for engine, count in differ.items():
            print(f"{name}: {total - count} of {total} texts of {engine} equal those of hf")
            wrong += count > 0
    return wrong


if __name__ == "__main__":
    sys.exit(main())
