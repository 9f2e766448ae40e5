"""Check by simulation that intervals cover the truth as often as they say: the table of docs/claims.md.

    python -m scripts.check_coverage
    python -m scripts.check_coverage --repeats 500 --only speedup

Populations are made up, so their truth is known: texts of random lengths whose speedups differ, sessions that shift the
speedup (and the more, the slower the machine is), texts that a method writes as vanilla does but for some. Each cell is
the share of the repeats in which an interval held the truth. What says "too few" of itself is counted apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bild.metrics.claims import difference
from bild.metrics.speedup import PERCENTILES, percentiles, speedup
from bild.metrics.statistics import corpus_bleu

Floats = NDArray[np.float64]
GOAL = (0.93, 0.97)
"""The share that an interval of 95 % may hold the truth in."""
SIZES = (8, 12, 25, 60, 200, 1000)
POPULATION = 200_000
FEW = 20
"""Texts that differ, below which the ends of a difference are cautious."""
FEW_SESSIONS = 3
"""Sessions below which nothing is known of what lies between them."""


@dataclass(frozen=True)
class Coverage:
    """One population, number of examples and of sessions: how often each interval or one-sided end held the truth."""

    what: str
    examples: int
    sessions: int
    held: dict[str, float]
    too_few: float = 0.0
    """The share of the repeats that said so instead."""
    width: float = 0.0
    """The median relative half-width of the interval, of speedups."""

    @property
    def is_calibrated(self) -> bool:
        """Tell whether all shares lie within the goal; what says "too few" may be cautious, and always may be wrong."""
        high = 1.0 if self.too_few > 0.05 else GOAL[1]
        return self.too_few == 1.0 or all(GOAL[0] <= share <= high for share in self.held.values())


class SessionTimes:
    """Seconds of vanilla and of a method: lengths, ratios by example, and sessions whose state moves both."""

    def __init__(self, between: float) -> None:
        self.between = between
        random = np.random.default_rng(7)
        base, own = self._texts(random, 2_000_000)
        self.truth = base.sum() / own.sum()
        self.percentiles = {name: float(np.quantile(own * 1e3, p)) for name, p in PERCENTILES.items()}

    @staticmethod
    def _texts(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        tokens = random.lognormal(2.6, 0.5, count) + 3
        base = 0.004 + 0.001 * tokens * random.lognormal(0, 0.02, count)
        ratio = random.lognormal(0.4, 0.3, count)  # with texts that gain nothing, and texts of three times the speed
        return base, base / ratio * random.lognormal(0, 0.02, count)

    def sample(self, random: np.random.Generator, n: int, k: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Return the seconds of both and the sessions of n texts that k sessions timed."""
        base, own = self._texts(random, n)
        sessions = np.arange(n) % k
        state = random.normal(0, 1, k)
        slower = 0.03 * state if self.between else np.zeros(k)
        shift = self.between * (0.6 * state + 0.8 * random.normal(0, 1, k))
        return base * np.exp(slower)[sessions], own * np.exp(slower - shift)[sessions], sessions


@dataclass(frozen=True)
class Mean:
    """A score that is a mean over examples."""

    def scores(self, sums: Floats, examples: int) -> Floats:
        """Return 100 times the means."""
        return np.asarray(100 * sums[:, 0] / examples)


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU of its statistics; an order without a match counts as half a match."""

    def scores(self, sums: Floats, examples: int) -> Floats:
        """Return the scores."""
        return corpus_bleu(np.concatenate([sums[:, :2], np.maximum(sums[:, 2:6], 0.5), sums[:, 6:]], axis=1))


class Texts:
    """Statistics per example of vanilla and of a method that changes a share of the texts."""

    def __init__(self, kind: str, changed: float) -> None:
        random = np.random.default_rng(11)
        make = {"bleu": self._bleu, "mean": self._mean, "right or wrong": self._right}[kind]
        self.scorer: Mean | Bleu = Bleu() if kind == "bleu" else Mean()
        self.other, worse = make(random)
        self.own = np.where((random.random(POPULATION) < changed)[:, None], worse, self.other)
        sums = np.array([self.own.sum(axis=0), self.other.sum(axis=0)])
        mine, theirs = self.scorer.scores(sums, POPULATION)
        self.truth = float(mine - theirs)

    @staticmethod
    def _mean(random: np.random.Generator) -> tuple[Floats, Floats]:
        base = random.beta(2.5, 4, POPULATION)
        return base[:, None], np.clip(base + random.normal(-0.03, 0.12, POPULATION), 0, 1)[:, None]

    @staticmethod
    def _right(random: np.random.Generator) -> tuple[Floats, Floats]:
        base = random.random(POPULATION) < 0.6
        return base[:, None] * 1.0, (random.random(POPULATION) < np.where(base, 0.7, 0.35))[:, None] * 1.0

    @staticmethod
    def _bleu(random: np.random.Generator) -> tuple[Floats, Floats]:
        words = np.clip(random.poisson(random.lognormal(2.4, 0.35, POPULATION)), 4, None)
        reference = np.clip(words + random.integers(-2, 3, POPULATION), 4, None)
        good = random.beta(5, 2.5, POPULATION)

        def row(chance: Floats, length: NDArray[np.int64]) -> Floats:
            grams = np.array([np.maximum(length - order, 1) for order in range(4)]).T
            step = np.array([1.0, 0.75, 0.68, 0.62])  # of the matches of one order, those that go on to the next
            matches = random.binomial(grams, np.clip(np.cumprod(step) * chance[:, None], 0, 1))
            return np.column_stack([length, reference, np.minimum.accumulate(matches, axis=1), grams]).astype(float)

        return row(good, words), row(
            np.clip(good + random.normal(-0.08, 0.15, POPULATION), 0.02, 1),
            np.clip(words + random.integers(-2, 2, POPULATION), 4, None),
        )

    def sample(self, random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
        """Return the statistics of n texts."""
        rows = random.integers(0, POPULATION, n)
        return self.own[rows], self.other[rows]


def speedups(repeats: int, seed: int = 0) -> Iterator[Coverage]:
    """Check the interval of a speedup, at session spreads of 0, 2 (a calm machine) and 10 % (a busy one)."""
    for between in (0.0, 0.02, 0.1):
        times = SessionTimes(between)
        for k in (1, 2, 3, 5, 10):
            for n in SIZES:
                if n < 2 * k:
                    continue
                random = np.random.default_rng((seed, k, n))
                held, widths = 0, []
                for _ in range(repeats):
                    base, own, sessions = times.sample(random, n, k)
                    found = speedup(list(base), list(own), list(sessions)).total
                    held += found.low <= times.truth <= found.high
                    widths.append(found.high / found.value - 1)
                few = float(k < FEW_SESSIONS and (k > 1 or between > 0))
                held_by, width = {"two-sided": held / repeats}, float(np.median(widths))
                yield Coverage(f"speedup, sessions differ by {between:.0%}", n, k, held_by, few, width)


def latencies(repeats: int, seed: int = 0) -> Iterator[Coverage]:
    """Check the intervals of percentiles of latency."""
    for between, k in ((0.0, 1), (0.02, 5)):
        times = SessionTimes(between)
        for n in SIZES:
            random = np.random.default_rng((seed, k, n))
            held, known = dict.fromkeys(PERCENTILES, 0), dict.fromkeys(PERCENTILES, 0)
            for _ in range(repeats):
                _, own, sessions = times.sample(random, n, k)
                for name, found in percentiles(list(1e3 * own), list(sessions)).items():
                    if found.low is None or found.high is None:
                        continue
                    known[name] += 1
                    held[name] += found.low <= times.percentiles[name] <= found.high
            for name in PERCENTILES:
                share = {"two-sided": held[name] / known[name]} if known[name] else {}
                yield Coverage(f"{name} of latency", n, k, share, too_few=1 - known[name] / repeats)


def differences(repeats: int, seed: int = 0) -> Iterator[Coverage]:
    """Check both kinds of ends of a paired difference of quality, where few, some or most texts change."""
    for kind in ("bleu", "mean", "right or wrong"):
        for changed in (0.03, 0.2, 0.8):
            texts = Texts(kind, changed)
            for n in SIZES:
                random = np.random.default_rng((seed, n))
                held, few = dict.fromkeys(("two-sided", "lower end", "upper end"), 0), 0
                for _ in range(repeats):
                    own, other = texts.sample(random, n)
                    few += int((own != other).any(axis=1).sum()) < FEW
                    found = difference(own, other, texts.scorer)
                    held["two-sided"] += found.low <= texts.truth <= found.high
                    held["lower end"] += found.lower <= texts.truth
                    held["upper end"] += found.upper >= texts.truth
                shares = {name: count / repeats for name, count in held.items()}
                yield Coverage(f"difference, {kind}, {changed:.0%} change", n, 1, shares, too_few=few / repeats)


PARTS: dict[str, Callable[[int, int], Iterator[Coverage]]] = {
    "speedup": speedups,
    "latency": latencies,
    "difference": differences,
}


def table(cells: Sequence[Coverage]) -> Iterator[str]:
    """Write the shares in percent, a column for each number of examples.

    `*`: some or all of the repeats said "too few", and were cautious or, with one or two sessions, could not know;
    `!`: outside the goal.
    """
    yield f"| figure | sessions | {' | '.join(f'{n:,}' for n in SIZES)} |"
    yield f"| :-- | --: |{' --: |' * len(SIZES)}"
    rows: dict[tuple[str, int], dict[int, str]] = {}
    for cell in cells:
        mark = "!" if not cell.is_calibrated else "*" if cell.too_few > 0.05 else ""
        for kind, share in (cell.held or {"two-sided": None}).items():
            name = cell.what if kind == "two-sided" else f"{cell.what}: {kind}"
            row = rows.setdefault((name, cell.sessions), {})
            row[cell.examples] = "too few" if share is None else f"{100 * share:.1f}{mark}"
    for (name, sessions), row in rows.items():
        yield f"| {name} | {sessions} | {' | '.join(row.get(n, '') for n in SIZES)} |"


def main() -> int:
    """Print the table; the exit code is 1 where a cell lies outside its goal and does not say "too few"."""
    parser = argparse.ArgumentParser(prog="python -m scripts.check_coverage", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    cells = [cell for name, part in PARTS.items() if given.only in (None, name) for cell in part(given.repeats, 0)]
    print("\n".join(table(cells)))
    widths = {(c.sessions, c.examples): c.width for c in cells if c.width and "by 2%" in c.what}
    if widths:
        told = ", ".join(f"{n:,} in {k}: {100 * width:.1f} %" for (k, n), width in widths.items() if n in (60, 1000))
        print(f"\nMedian half-width of a speedup where sessions differ by 2 %: {told}.")
    outside = sum(not cell.is_calibrated for cell in cells)
    print(f"\n{outside} of {len(cells)} cells outside {GOAL[0]:.0%} to {GOAL[1]:.0%}")
    return 0 if not outside else 1


if __name__ == "__main__":
    sys.exit(main())
