"""Two made-up models that answer at once, trees grown from them, and points of every method."""

from __future__ import annotations

import math
import random
from pathlib import Path

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Setting
from bild.decoding.methods import TOKEN_RULES
from bild.decoding.rules import KEEPS
from bild.tree import Tree
from bild.tree.family import group
from bild.tree.grow import Growing
from bild.tree.nodes import NodeTable, TreeExample
from bild.tree.store import Head

START, EOS = 0, 1


class World:
    """Two models that say the same after a prefix whenever they are asked."""

    def __init__(self, seed: int, *, tokens: int = 4, agree: float = 0.6, steps: int = 8) -> None:
        self.seed, self.tokens, self.agree, self.steps = seed, tokens, agree, steps

    def small(self, prefix: list[int]) -> tuple[int, float, float, float]:
        """(choice, -ln q, gap, entropy). Probabilities come in few steps, so that thresholds are met exactly."""
        dice = random.Random(f"{self.seed}-small-{prefix}")
        prob = dice.randint(1, self.steps) / self.steps
        return self._token(dice), -math.log(prob), dice.random(), dice.random()

    def large(self, prefix: list[int]) -> tuple[int, float, float, float, float, int, float]:
        """(choice, -ln p of it, -ln p of the small choice, gap, entropy, rank of the small choice, its gap)."""
        dice = random.Random(f"{self.seed}-large-{prefix}")
        drafted = self.small(prefix)[0]
        choice = drafted if dice.random() < self.agree else self._token(dice)
        nll = dice.randint(0, 3) / 4
        same = choice == drafted
        given, rank = (nll, 1) if same else (nll + dice.randint(0, 16) / 4, dice.randint(1, 6))
        return choice, nll, given, dice.random(), dice.random(), rank, math.inf if same else dice.random()

    def _token(self, dice: random.Random) -> int:
        return EOS if dice.random() < 0.1 else dice.randint(2, 1 + self.tokens)


def grown(world: World, points: list[Setting], max_length: int, table: NodeTable | None = None) -> NodeTable:
    """A tree that these points can be replayed on."""
    table = table or NodeTable(START)
    growing = Growing(table, group(points), eos=EOS, max_length=max_length)
    small, large = growing.wants("small")
    while small or large:
        for node in [*small, *large]:
            if table.small_choice[node] < 0:
                table.hear_small(node, *world.small(table.path(node)))
        more_small, more_large = growing.wants("small")
        for node in large:
            if table.large_choice[node] < 0:
                table.hear_large(node, *world.large(table.path(node)))
        small, large = growing.wants("large")
        small, large = small + more_small, large + more_large
    return table


def tree_of(tables: list[NodeTable], max_length: int, path: Path = Path("nowhere")) -> Tree:
    """A tree around tables."""
    head = Head(
        format=2,
        hash="0" * 64,
        identity={"task": {"target_limit": max_length, "metric": "bleu"}},
        ids={"start": START, "eos": EOS, "vocabulary": 100},
        rounding={"nll": 1e-6, "gap": 1e-6},
    )
    examples = [TreeExample(f"e{i}", "ein Haus", "a house", [5, 6, EOS], False, t) for i, t in enumerate(tables)]
    return Tree(path, head, examples)


def points_of_all_methods(fbs: list[float], rbs: list[float]) -> list[Setting]:
    """Every method and switch, at these thresholds."""
    found = [(MethodConfig(name), ThresholdConfig()) for name in ("vanilla", "small", "speculative", "heuristic")]
    found += [(MethodConfig("speculative", max_draft=2, first="small"), ThresholdConfig())]
    found += [(MethodConfig("heuristic", max_draft=2), ThresholdConfig())]
    for fb in fbs:
        found += [(MethodConfig(name, max_draft=3), ThresholdConfig(fb)) for name in ("dynamic", "cumulative")]
        found += [(MethodConfig("cascade", max_draft=3, rule=rule), ThresholdConfig(alpha=fb)) for rule in TOKEN_RULES]
        for rb in rbs:
            threshold = ThresholdConfig(fb, rb)
            found += [(MethodConfig("bild", rules, k), threshold) for rules in ("paper", "authors") for k in (1, 4, 10)]
            switches = [
                {"first": "small"},
                {"after_rollback": "large"},
                {"scan": "first"},
                {"unsure": "verify"},
                {"verify_eos": False},
                {"unsure": "verify", "verify_eos": False, "scan": "first"},
            ]
            found += [(MethodConfig("bild", max_draft=4, **switch), threshold) for switch in switches]
            found += [(MethodConfig("bild", "authors", 4, unsure="verify", verify_eos=True), threshold)]
            found += [(MethodConfig("oracle", max_draft=k), ThresholdConfig(rb=rb)) for k in (2, 6)]
            for top in (None, 2):
                thresholds = ThresholdConfig(fb, alpha=min(rb, 0.4), top=top)
                found += [(MethodConfig("bild", max_draft=4, keep=keep), thresholds) for keep in KEEPS]
            for keep in KEEPS:
                stops = ("window", "likely", "adaptive", "oracle")
                found += [(MethodConfig("bild", max_draft=4, stop=stop, keep=keep), threshold) for stop in stops]
    return found
