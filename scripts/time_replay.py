"""Time the replay of 1,000 points (40 x 25 thresholds of BiLD) on made-up trees, scaled to 1,000 examples.

    python scripts/time_replay.py                 # texts of 20 and of 50 tokens
    python scripts/time_replay.py --examples 100

The trees are those of two made-up models whose probabilities are drawn at random, and which agree on most tokens.
Replaying is timed, then all counts; process times of one thread.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Setting
from bild.tree import Tree
from bild.tree.family import group
from bild.tree.grow import Growing
from bild.tree.nodes import NodeTable, TreeExample
from bild.tree.store import Head

START, EOS = 0, 1
FB = [0.025 * i for i in range(40)]
RB = [0.25 + 0.375 * i for i in range(25)]


def tree_of(seed: int, length: int, points: list[Setting]) -> NodeTable:
    """One example's tree, its texts of `length` tokens."""
    table = NodeTable(START)
    growing = Growing(table, group(points), eos=EOS, max_length=length + 1)
    small, large = growing.wants("small")
    while small or large:
        for node in [*small, *large]:
            dice = random.Random(f"{seed} {table.path(node)}")
            token, agrees = dice.randrange(2, 4000), dice.random() < 0.6
            sure, nll = 1.0 - 0.98 * dice.random(), dice.expovariate(4.0)
            other = (token, nll) if agrees else (dice.randrange(2, 4000), nll + dice.expovariate(0.2))
            if table.small_choice[node] < 0:
                table.hear_small(node, token, -math.log(sure), 1.0, 1.0)
            if node in large and table.large_choice[node] < 0:
                table.hear_large(node, other[0], nll, other[1], 1.0, 1.0, 1 if other[0] == token else 2, 1.0)
        more_small, more_large = growing.wants("small")
        small, large = growing.wants("large")
        small, large = small + more_small, large + more_large
    return table


def main() -> None:
    """Time both lengths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=40, help="trees that are made; times are scaled to 1,000")
    options = parser.parse_args()
    points: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(fb, rb)) for fb in FB for rb in RB]
    for length in (20, 50):
        tables = [tree_of(seed, length, points) for seed in range(options.examples)]
        identity = {"task": {"target_limit": length + 1, "metric": "bleu"}}
        head = Head(2, "", identity, {"start": START, "eos": EOS}, {"nll": 1e-6, "gap": 1e-6})
        examples = [TreeExample(str(i), "", "", [5, EOS], False, table) for i, table in enumerate(tables)]
        tree, scale = Tree(Path("nowhere"), head, examples), 1000 / options.examples
        began = time.process_time()
        replays = tree.replay_grid(points)
        walked = time.process_time()
        counts = [replay.counts for replay in replays]
        counted = time.process_time()
        walks = sum(len({id(replay.walks[i]) for replay in replays}) for i in range(options.examples))
        print(
            f"{length} tokens: replaying {scale * (walked - began):.1f} s, counts {scale * (counted - walked):.1f} s "
            f"({sum(map(len, tables)) / len(tables):.0f} prefixes and {walks / len(tables):.0f} walks an example, "
            f"{sum(c.rounds for c in counts) / len(counts) / len(tables):.1f} rounds a walk)"
        )


if __name__ == "__main__":
    main()
