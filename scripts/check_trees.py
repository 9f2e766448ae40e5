"""Measure the cost of decision trees, and check that they tell the truth, on the embedded pair and task.

    python scripts/check_trees.py cost            # growing and replaying 15 x 12 thresholds against live decoding
    python scripts/check_trees.py agreement       # 80 points of BiLD, replayed and decoded live, example by example

Costs are process times (one thread), in interleaved rounds, so that a busy machine hits all sides alike. The live cost
of the whole grid is extrapolated from points spread over it, each on every example of the part.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import Setting, policy_for
from bild.measure.live import run_live
from bild.models import Pair, load_pair
from bild.tasks import Dataset, load_task
from bild.tree.grow import grow
from bild.tree.identity import settle

FB = [0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]
RB = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0]


def seconds(job: Callable[[], object]) -> float:
    """Process time of a call."""
    began = time.process_time()
    job()
    return time.process_time() - began


def live(pair: Pair, sources: list[list[int]], point: Setting, limit: int) -> None:
    """Decode sources by a point, one after another."""
    make = policy_for(*point)
    small = None if point[0].name == "vanilla" else pair.engine("small", "fused")
    for source in sources:
        policy = make(start=pair.start, eos=pair.eos, max_length=limit)
        run_live(policy, source, pair.engine("large", "fused"), small)


def cost(pair: Pair, task: TaskConfig, data: Dataset, rounds: int) -> None:
    """Print ratios to one live vanilla pass, and of the live grid to the trees."""
    grid: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(fb, rb)) for fb in FB for rb in RB]
    vanilla: Setting = (MethodConfig("vanilla"), ThresholdConfig())
    sources = [pair.encode(task.prompt + e.source, task.source_limit)[0] for e in data]
    part = sources[:: max(1, len(sources) // 40)]
    spread = grid[:: len(grid) // 12]
    live(pair, sources[:3], vanilla, task.target_limit)
    live(pair, sources[:3], grid[0], task.target_limit)
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            once = seconds(lambda: live(pair, sources, vanilla, task.target_limit))
            growing = seconds(lambda: grow(place, pair, task, data, grid))  # noqa: B023
            tree = grow(place, pair, task, data, grid)
            replays = tree.replay_grid(grid)
            replaying = seconds(lambda: tree.replay_grid(grid))  # noqa: B023
            telling = seconds(lambda: [(r.text, r.counts, r.quality) for r in replays])  # noqa: B023
            sample = seconds(lambda: [live(pair, part, point, task.target_limit) for point in spread])
        whole = sample / len(spread) * len(grid) * len(sources) / len(part)
        total = growing + replaying + telling
        tokens = sum(e.table.large_choice.count(-1) for e in tree.examples)
        asked = sum(len(e.table) for e in tree.examples)
        found.append((growing / once, total / once, whole / total))
        print(
            f"vanilla {once:.1f} s, growing {growing:.1f} s, replaying {replaying:.2f} s, texts, counts and scores "
            f"{telling:.2f} s; trees / vanilla {total / once:.2f}, live grid / trees {whole / total:.0f} "
            f"({asked} prefixes, {asked - tokens} of the large model)"
        )
    middle = [statistics.median(column) for column in zip(*found, strict=True)]
    print(f"median: growing {middle[0]:.2f}, all {middle[1]:.2f} vanilla passes; {middle[2]:.0f} times less than live")


def agreement(pair: Pair, task: TaskConfig, data: Dataset) -> None:
    """Print how many (point, example) pairs agree in every token and pass, and what was marked."""
    points: list[Setting] = [
        (MethodConfig("bild", rules, limit), ThresholdConfig(fb, rb))
        for rules in ("paper", "authors")
        for limit in (3, 10)
        for fb in (0.2, 0.4, 0.6, 0.8)
        for rb in (0.5, 1.0, 2.0, 3.0, 5.0)
    ]
    with tempfile.TemporaryDirectory() as folder:
        tree = grow(Path(folder), pair, task, data, points)
        ids = [example.id for example in tree.examples]
        same = differ = marked = 0
        for replay in tree.replay_grid(points):
            for told in settle(tree, pair, replay, ids=ids):
                same += told.same
                differ += not told.same and told.id not in replay.marked
                marked += told.id in replay.marked
                if not told.same:
                    print(f"{told.id} at {replay.threshold}: {'marked' if told.id in replay.marked else 'NOT MARKED'}")
    total = len(points) * len(ids)
    print(f"{len(points)} points, {len(ids)} examples: {same} of {total} equal, {differ} differ unmarked")
    print(f"{marked} marked (rounding: nll {tree.rounding.nll:.1e}, gap {tree.rounding.gap:.1e})")


def main() -> None:
    """Run one of the checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=["cost", "agreement"])
    parser.add_argument("--examples", type=int, default=None, help="a nested part of the captions (all)")
    parser.add_argument("--split", choices=["choose", "confirm"], default="choose", help="the captions (choose)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = TaskConfig(samples=options.examples, split=options.split)
    pair, data = load_pair("embedded", device="cpu"), load_task(task)
    if options.check == "cost":
        cost(pair, task, data, options.rounds)
    else:
        agreement(pair, task, data)


if __name__ == "__main__":
    main()
