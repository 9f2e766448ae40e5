"""Whether claims hold: thresholds are chosen on one part of a task's texts and confirmed on another, many times.

    python scripts/check_claims.py task=multi30k-files task.path=FOLDER model=embedded-aligned
    python scripts/check_claims.py --times 200 task=embedded

The texts of a task's two splits (`task.split`, `task.confirm`) are one population here, and the truth about a setting
is its difference to vanilla over all of it. Each time two sets are drawn: "re-splits" cuts the population in two,
"resamples" draws both with replacement, so that they know nothing of each other. The fastest setting of a grid whose
lower end keeps the margin on the first set is judged on the second. A claim is false where a setting is *shown* and its
truth lies below the margin, or *refuted* and its truth lies above. Beside it stands the paper's way: the fastest by
point estimate, claimed on the texts that it was chosen on. Speeds are predicted.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bild.cli import compose
from bild.config import MethodConfig
from bild.metrics import Scorer
from bild.metrics.claims import difference, verdict
from bild.progress import track
from bild.results.interval import Difference
from bild.sweep.config import SweepConfig
from bild.sweep.context import GrownTree, SweepWork
from bild.sweep.find import divide
from bild.sweep.grid import SweptPoint, points_of, vanilla_point
from bild.sweep.pricing import Pricing

Floats = NDArray[np.float64]
FB = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RB = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
LIMITS = (4, 8, 13, 24)


@dataclass
class Population:
    """Statistics [settings, examples, statistics] and seconds [settings, examples]; vanilla is the first."""

    tables: Floats
    seconds: Floats
    scorer: Scorer
    labels: list[str]

    def take(self, rows: NDArray[np.int64]) -> Population:
        """Return some of the examples, each as often as it is named."""
        return dataclasses.replace(self, tables=self.tables[:, rows], seconds=self.seconds[:, rows])

    def differences(self) -> Floats:
        """Return the difference of each setting to vanilla."""
        scores = self.scorer.scores(self.tables.sum(axis=1), self.tables.shape[1])
        return np.asarray(scores - scores[0])

    def difference(self, setting: int, confidence: float) -> Difference:
        """Return the difference of one setting to vanilla with its ends."""
        return difference(self.tables[setting], self.tables[0], self.scorer, confidence)

    def speedups(self) -> Floats:
        """Return the speedup of each setting."""
        return np.asarray(self.seconds[0].sum() / self.seconds.sum(axis=1))


def population(config: SweepConfig) -> Population:
    """Replay the grid on both splits."""
    methods = [MethodConfig("bild", rules=rules, max_draft=limit) for rules in ("paper", "authors") for limit in LIMITS]
    points = [vanilla_point(), *(point for each in methods for point in points_of(each, {"fb": FB, "rb": RB}))]
    here, there = divide(config)
    parts = [_part(work, points, config) for work in (here, there)]
    references = [reference for _, _, some in parts for reference in some]
    scorer = Scorer(config.task.metric, references)
    scorer.rows([(0, "x")])
    tables, seconds = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    return Population(tables, seconds, scorer, [point.label for point in points])


def _part(work: SweepWork, points: Sequence[SweptPoint], config: SweepConfig) -> tuple[Floats, Floats, list[str]]:
    grown = GrownTree(work)
    replays = grown.replays(points)
    prices = Pricing(work, grown.tree.path).prices()
    found = [grown.predictor.candidate(point, replay, prices) for point, replay in zip(points, replays, strict=True)]
    references = [example.reference for example in grown.tree.examples]
    return np.array([c.table for c in found]), np.array([c.seconds for c in found]), references


def draws(examples: int, times: int, how: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the examples of (the first set, the second set), so many times."""
    dice = np.random.default_rng(0)
    half = examples // 2
    for _ in range(times):
        if how == "re-splits":
            order = dice.permutation(examples)
            yield order[:half], order[half:]
        else:
            yield dice.integers(0, examples, half), dice.integers(0, examples, examples - half)


@dataclass
class Choices:
    """What became of the choices at one margin."""

    verdicts: Counter[str] = dataclasses.field(default_factory=Counter)
    false: Counter[str] = dataclasses.field(default_factory=Counter)
    speed: list[float] = dataclasses.field(default_factory=list)
    claimed: int = 0
    claimed_false: int = 0

    def row(self, how: str, margin: float) -> str:
        """Return a line of the table."""
        cells = [how, f"{margin:g}"]
        for kind in ("shown", "refuted"):
            cells.append(f"{self.verdicts[kind]}, {self.false[kind]} false")
        cells += [str(self.verdicts["undecided"]), str(self.verdicts["none"])]
        cells += [f"{np.mean(self.speed):.2f}x" if self.speed else "-", f"{self.claimed}, {self.claimed_false} false"]
        return f"| {' | '.join(cells)} |"


def check(people: Population, how: str, times: int, margins: Sequence[float], confidence: float) -> list[str]:
    """Choose and confirm so many times; return the lines of a table."""
    truth = people.differences()
    tallies = {margin: Choices() for margin in margins}
    for first, second in track(draws(people.tables.shape[1], times, how), times, how):
        here = people.take(first)
        seen, speeds = here.differences(), here.speedups()
        fastest = [int(i) for i in np.argsort(-speeds) if i > 0]
        lower = cache(lambda i, here=here: here.difference(i, confidence).lower)
        for margin, tally in tallies.items():
            within = [i for i in fastest if seen[i] >= -margin]
            if within:
                tally.claimed += 1
                tally.claimed_false += bool(truth[within[0]] < -margin)
            best = next((i for i in within if lower(i) >= -margin), None)
            if best is None:
                tally.verdicts["none"] += 1
                continue
            kind = verdict(people.take(second).difference(best, confidence), margin, len(second)).kind
            tally.verdicts[kind] += 1
            tally.speed.append(float(speeds[best]))
            tally.false[kind] += bool(truth[best] < -margin if kind == "shown" else truth[best] >= -margin)
    return [tally.row(how, margin) for margin, tally in tallies.items()]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--margins", type=float, nargs="+", default=[0.3, 0.5, 1.0])
    own, overrides = parser.parse_known_args()
    config = compose([*overrides, "sweep=quick"], "sweep", SweepConfig)
    people = population(config)
    examples = people.tables.shape[1]
    print(f"{len(people.labels) - 1} settings, {examples:,} texts, half of them to choose on; {own.times} times each")
    print("| sets | margin | shown | refuted | undecided | nothing chosen | speed | paper's way |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for how in ("re-splits", "resamples"):
        print("\n".join(check(people, how, own.times, own.margins, config.measure.confidence)))


if __name__ == "__main__":
    main()
