"""The search: on made-up points whose best setting is known; chosen by ends, not by estimates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bild.config import RULES, EngineConfig, MethodConfig, ModelConfig, TaskConfig, ThresholdConfig
from bild.metrics import Scorer
from bild.metrics.claims import difference, influences
from bild.results.interval import Difference
from bild.sweep.config import Goal, SweepConfig
from bild.sweep.context import GrownTree, SweepWork
from bild.sweep.grid import SweptPoint, searched, vanilla_point
from bild.sweep.predict import Candidate, Estimate, Predictor
from bild.sweep.search import END, Aim, Found, Hunt, Search, below, optimism
from bild.tree import open_tree
from bild.tree.grow import grow

EXAMPLES = 40
WOBBLE = 1e-6 * (-1.0) ** np.arange(400)
"""Of vanilla's scores: differences that are all alike would tell nothing."""


class Means(Scorer):
    """A score that is the mean of the first statistic."""

    def scores(self, sums: np.ndarray, examples: int) -> np.ndarray:
        return np.asarray(sums[:, 0] / examples)


def candidate(point: SweptPoint, quality: np.ndarray, seconds: np.ndarray) -> Candidate:
    return Candidate(point, quality[:, None], seconds)


def evaluate(points: Sequence[SweptPoint]) -> list[Candidate]:
    """Quality falls with rb and rises with fb, speed the other way round; both smoothly, in steps of 0.01."""
    found = []
    for point in points:
        fb, rb = point.threshold.fb, min(point.threshold.rb, 10.0)
        quality = np.full(EXAMPLES, 40.0 - 0.3 * rb - 2.0 * (1 - fb) ** 2)
        # Two local optima: one near fb 0.37, a lower one near 0.8.
        speed = 1.0 + 0.08 * rb + 0.5 * np.exp(-((fb - 0.37) ** 2) / 0.01) + 0.3 * np.exp(-((fb - 0.8) ** 2) / 0.02)
        found.append(candidate(point, quality, np.full(EXAMPLES, 1.0 / speed)))
    return found


def search(goal: Goal, evaluated=evaluate) -> Search:
    predictor = Predictor(Means("bleu", ["x"] * EXAMPLES), EXAMPLES, 0.95)
    vanilla = candidate(vanilla_point(), 40.0 + WOBBLE[:EXAMPLES], np.ones(EXAMPLES))
    return Search(goal, evaluated, predictor, vanilla)


def best_of_all(margin: float) -> float:
    """By trying every setting to 0.01."""
    fb, rb = np.meshgrid(np.arange(0, 101) / 100, np.arange(0, 1001) / 100)
    quality = -0.3 * rb - 2.0 * (1 - fb) ** 2
    speed = 1.0 + 0.08 * rb + 0.5 * np.exp(-((fb - 0.37) ** 2) / 0.01) + 0.3 * np.exp(-((fb - 0.8) ** 2) / 0.02)
    return float(speed[quality >= -margin - 1e-9].max())


@pytest.mark.parametrize("margin", [1.0, 2.0, 0.5])
def test_the_fastest_within_a_margin_is_found_to_the_hundredth(margin: float) -> None:
    answer = search(Goal("speedup", margin)).run([MethodConfig()])
    found = answer.by_point
    assert found is not None
    assert found.estimate.difference.value >= -margin - 1e-6
    assert found.estimate.speedup == pytest.approx(best_of_all(margin), abs=0.01)
    (safe,) = answer.chosen
    assert safe.estimate.difference.lower >= -margin - 1e-6
    # All examples lose the same, so the end lies a fixed share of the difference below it.
    share = safe.estimate.difference.lower / safe.estimate.difference.value
    assert safe.estimate.speedup == pytest.approx(best_of_all(margin / share), abs=0.02)


def test_power_keeps_a_choice_so_far_from_its_bound_that_a_confirmation_shows_it() -> None:
    def uneven(points: Sequence[SweptPoint]) -> list[Candidate]:
        by = np.where(np.arange(EXAMPLES) % 2 == 0, 0.5, -0.5)
        return [candidate(one.point, one.table[:, 0] + by, one.seconds) for one in evaluate(points)]

    def chosen(goal: Goal) -> Estimate:
        (found,) = search(goal, uneven).run([MethodConfig()]).chosen
        return found.estimate

    def kept(found: Difference) -> float:
        return found.value - 1.5 * (found.value - found.lower)

    near, far = chosen(Goal("speedup", 1.0)), chosen(Goal("speedup", 1.0, reach=1.5))
    assert kept(near.difference) < -1.0 <= kept(far.difference) + 1e-6
    assert near.difference.lower >= -1.0 - 1e-6
    assert far.speedup < near.speedup
    assert chosen(Goal("methods", 1.0, (1.0,), 1.5)) == far


def test_the_best_quality_at_a_speed() -> None:
    answer = search(Goal("quality", 1.6)).run([MethodConfig()])
    (found,) = answer.chosen
    assert found.estimate.speedup >= 1.6 - 1e-6
    assert found.estimate.difference.value > -1.2


def test_a_bound_that_nothing_keeps_is_said() -> None:
    answer = search(Goal("quality", 9.0)).run([MethodConfig()])
    assert (answer.chosen, answer.by_point, answer.optimism) == ([], None, None)


def test_a_lucky_estimate_with_a_wide_interval_is_not_chosen() -> None:
    """One setting is much faster, and its mean loses nothing; but a few texts of many decide that."""

    def lucky(points: Sequence[SweptPoint]) -> list[Candidate]:
        found = []
        for one in evaluate(points):
            if one.point.threshold == ThresholdConfig(0.6, 1.0):
                quality = np.where(np.arange(EXAMPLES) % 2 == 0, 30.0, 50.0)
                one = candidate(one.point, quality, np.full(EXAMPLES, 0.2))
            found.append(one)
        return found

    answer = search(Goal("speedup", 1.0), lucky).run([MethodConfig()])
    assert answer.by_point is not None
    assert answer.by_point.point.threshold == ThresholdConfig(0.6, 1.0)
    assert answer.chosen[0].point.threshold != ThresholdConfig(0.6, 1.0)


def test_optimism_tells_a_choice_of_noise_from_one_that_holds() -> None:
    dice = np.random.default_rng(1)
    predictor = Predictor(Means("bleu", ["x"] * 400), 400, 0.95)
    vanilla = candidate(vanilla_point(), 40.0 + WOBBLE, np.ones(400))
    rows = [SweptPoint(MethodConfig(), ThresholdConfig(i / 100, 1.0), "grid") for i in range(60)]
    noise = [candidate(p, 40.0 + dice.normal(0, 8, 400), np.full(400, dice.uniform(0.3, 0.9))) for p in rows]
    found = optimism(Goal("speedup", 0.5), predictor, vanilla, noise)
    assert found is not None
    assert 0 < found.halvings <= 200
    assert found.difference > found.elsewhere + 0.3
    same = [candidate(rows[0], np.full(400, 39.9), np.full(400, 0.5))]
    steady = optimism(Goal("speedup", 0.5), predictor, vanilla, same)
    assert steady is not None
    assert (steady.halvings, steady.broken) == (200, 0.0)
    assert steady.difference == pytest.approx(steady.elsewhere)


def test_the_end_on_a_half_is_the_end_of_the_referee() -> None:
    """The slow oracle: one half, judged as any difference is; only the skewness is left out, which is small here."""
    dice = np.random.default_rng(2)
    own, base = 40.0 + dice.normal(0, 8, 400), 40.0 + dice.normal(0, 1, 400)
    own[::3] = base[::3]
    scorer = Means("bleu", ["x"] * 400)
    half = np.zeros((1, 400))
    half[0, dice.permutation(400)[:200]] = 1.0
    rows = half[0] > 0
    moved = influences(own[:, None], scorer)[1] - influences(base[:, None], scorer)[1]
    judged = difference(own[rows, None], base[rows, None], scorer)
    assert below(half, moved, own != base, 40.0, 0.95)[0] == pytest.approx(judged.value - judged.lower, rel=0.02)


def by_axes(points: Sequence[SweptPoint]) -> list[Candidate]:
    """Quality falls with alpha and the cap, speed rises with them and has its best fb at 0.37."""
    found = []
    for point in points:
        fb, alpha, top = point.threshold.fb or 0.0, point.threshold.alpha or 0.0, point.threshold.top or 0
        quality = np.full(EXAMPLES, 40.0 - 5.0 * alpha - 0.1 * min(top, 30))
        speed = 1.0 + alpha + 0.01 * min(top, 30) + 0.5 * np.exp(-((fb - 0.37) ** 2) / 0.01)
        found.append(candidate(point, quality, np.full(EXAMPLES, 1.0 / speed)))
    return found


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (MethodConfig("cascade"), ["fb", "alpha"]),
        (MethodConfig("relaxed"), ["fb", "alpha", "top"]),
        (MethodConfig(keep="top"), ["fb", "top"]),
        (MethodConfig("speculative"), ["fb"]),
        (MethodConfig("heuristic"), []),
    ],
)
def test_every_method_is_searched_over_its_own_thresholds(method: MethodConfig, names: list[str]) -> None:
    assert searched(method) == names
    answer = search(Goal("speedup", 1.0), by_axes).run([method])
    assert answer.by_point is not None
    found = answer.by_point.point.threshold
    assert {name for name in ("fb", "rb", "alpha", "top") if getattr(found, name) is not None} == set(names)
    assert answer.by_point.estimate.difference.value >= -1.0 - 1e-6
    if "fb" in names:
        assert found.fb == pytest.approx(0.37)
    if names == ["fb", "alpha"]:
        assert found.alpha == pytest.approx(0.2)
    if names == ["fb", "top"]:
        assert found.top == 10


@pytest.mark.slow
def test_the_front_is_the_front_of_all_that_was_tried() -> None:
    answer = search(Goal("front")).run([MethodConfig(), MethodConfig(rules="authors")])
    speeds = [one.estimate.speedup for one in answer.chosen]
    scores = [one.estimate.difference.lower for one in answer.chosen]
    assert speeds == sorted(speeds)
    assert scores == sorted(scores, reverse=True)
    assert len(set(zip(speeds, scores, strict=True))) == len(speeds) > 10


def by_hand(goal: Goal, bases: Sequence[MethodConfig]) -> list[Found]:
    """The slow oracle: every method refined towards every margin by itself, one setting after another."""
    one, found = search(goal, by_all), []
    for name in dict.fromkeys(base.name for base in bases):
        tried: dict[float, list[Found]] = {}
        for margin in (0.0,) if name == "speculative" else goal.margins:
            for base in (base for base in bases if base.name == name):
                hunt, known = Hunt(base, Aim(Goal("speedup", margin), END)), {}
                for asked in hunt.asks(known):
                    for key, made in zip(asked, by_all([*asked.values()]), strict=True):
                        known[key] = one.predictor.estimate(made, one.vanilla)
                tried.setdefault(margin, []).extend(hunt.own.values())
        everything = [each for own in tried.values() for each in own]
        found += [Aim(Goal("speedup", margin), END).best(everything) for margin in tried]
    return [each for each in found if each is not None]


def by_all(points: Sequence[SweptPoint]) -> list[Candidate]:
    """Nothing of BiLD's keeps a margin of 0; exact methods lose nothing."""
    found = []
    for point in points:
        one = evaluate([point])[0] if point.threshold.rb is not None else by_axes([point])[0]
        if point.method.name == "speculative":
            one = candidate(point, 40.0 + WOBBLE[:EXAMPLES], one.seconds)
        else:
            authors = point.method.rules == "authors"
            one = candidate(
                point, one.table[:, 0] - (0.1 if authors else 0.05), (0.9 if authors else 1.0) * one.seconds
            )
        found.append(one)
    return found


def test_methods_that_are_searched_together_find_what_each_finds_alone() -> None:
    goal = Goal("methods", 1.0, (0.0, 1.0))
    bases = [MethodConfig(), MethodConfig(rules="authors"), MethodConfig("speculative")]
    answer = search(goal, by_all).run(bases)
    assert answer.chosen == by_hand(goal, bases)
    assert answer.none == [("bild", 0.0)]
    assert [(f.point.method.name, f.bound) for f in answer.chosen] == [("bild", 1.0), ("speculative", 0.0)]
    assert all(found.estimate.difference.lower >= -found.bound for found in answer.chosen)
    assert (answer.by_point, answer.optimism) == (None, None)


def test_a_tree_that_grows_in_memory_says_what_its_file_says(tmp_path: Path) -> None:
    config = SweepConfig(
        model=ModelConfig(fits=["any"], large="embedded", small="embedded"),
        task=TaskConfig(samples=6, target_limit=16),
        engine=EngineConfig(device="cpu"),
        results=str(tmp_path / "quick"),
    )
    work = SweepWork(config)
    grown = GrownTree(work)
    for fbs in ((0.3,), (0.35, 0.9), (0.3, 0.9)):
        points = [SweptPoint(MethodConfig(rules=r), ThresholdConfig(fb, 2.0), "grid") for fb in fbs for r in RULES]
        settings = [point.setting for point in points]
        plain = grow(tmp_path / "plain", work.pair, config.task, work.data, settings)  # from its file every time
        for quick, slow in zip(grown.replays(points), plain.replay_grid(settings), strict=True):
            assert quick.tokens == slow.tokens
            assert quick.counts == slow.counts
            assert (quick.table == Scorer("bleu", [e.reference for e in plain.examples]).table(slow.text)).all()
    stored = open_tree(grown.tree.path)
    for here, there in zip(grown.tree.examples, stored.examples, strict=True):
        assert [*map(repr, vars(here.nodes).values())] == [*map(repr, vars(there.nodes).values())]
