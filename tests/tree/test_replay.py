"""Replays of many points at once are what the policies themselves do, node by node."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Decoded, Setting
from bild.errors import BildError
from bild.tree import MissingNodes
from bild.tree.answers import run_policy
from tests.lanes import many
from tests.tree.worlds import EOS, START, World, grown, points_of_all_methods, tree_of


@many(40)
@given(
    seed=st.integers(0, 10**6),
    agree=st.sampled_from([0.3, 0.7, 0.95]),
    max_length=st.sampled_from([2, 3, 9, 24]),
    fbs=st.lists(st.sampled_from([0.0, 0.25, 0.375, 0.5, 0.8, 1.0]), min_size=1, max_size=3, unique=True),
    rbs=st.lists(st.sampled_from([0.0, 0.5, 1.25, 3.0, math.inf]), min_size=1, max_size=3, unique=True),
)
def test_every_method_walks_as_its_policy_does(
    seed: int, agree: float, max_length: int, fbs: list[float], rbs: list[float]
) -> None:
    points = points_of_all_methods(fbs, rbs)
    table = grown(World(seed, agree=agree), points, max_length)
    for point, replay in zip(points, tree_of([table], max_length).replay_grid(points), strict=True):
        told = run_policy(table, *point, start=START, eos=EOS, max_length=max_length)
        assert replay.tokens == [told.decoded.tokens], point
        assert replay.small_passes == [told.small_passes], point
        assert replay.large_passes == [told.large_passes], point
        check_counts(replay.counts, told.decoded, point)


def check_counts(counts: object, decoded: Decoded, point: Setting) -> None:
    rounds, told = decoded.rounds, vars(counts)
    drafted, kept = sum(len(r.drafted) for r in rounds), sum(r.kept for r in rounds)
    stops = Counter(r.stop for r in rounds)
    expected = {"rounds": len(rounds), "drafted": drafted, "kept": kept, "rejected": drafted - kept}
    expected |= {"fallbacks": stops["unsure"], "full_drafts": stops["limit"]}
    expected |= {"rollbacks": sum(r.rollback for r in rounds), "tokens": len(decoded.tokens) - 1}
    assert {name: told[name] for name in expected} == expected, point


def test_a_threshold_that_is_met_exactly_is_not_crossed() -> None:
    world = World(3, steps=2)
    points: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(fb, 2.0)) for fb in (0.5, math.nextafter(0.5, 1))]
    table = grown(world, points, 16)
    at, above = tree_of([table], 16).replay_grid(points)
    assert at.counts.fallbacks < above.counts.fallbacks


def test_a_tree_that_was_not_grown_so_far_says_which_examples_lack_nodes() -> None:
    narrow: list[Setting] = [(MethodConfig("vanilla"), ThresholdConfig())]
    tree = tree_of([grown(World(seed), narrow, 12) for seed in range(3)], 12)
    assert tree.missing(narrow) == []
    with pytest.raises(MissingNodes, match=r"python -m bild\.sweep") as caught:
        tree.replay(0.5, 1.0)
    assert caught.value.examples == tree.missing([(MethodConfig("bild"), ThresholdConfig(0.5, 1.0))]) != []


def test_a_tree_grows_on_where_it_stands() -> None:
    world, wide = World(11), points_of_all_methods([0.25, 0.8], [0.5, 3.0])
    alone = grown(world, wide, 20)
    step = grown(world, wide[:40], 20)
    first = len(step)
    grown(world, wide, 20, step)
    assert first < len(step) == len(alone)
    assert {tuple(step.path(n)) for n in range(len(step))} == {tuple(alone.path(n)) for n in range(len(alone))}


def test_only_nodes_that_some_point_needs_are_asked_for() -> None:
    points: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(0.5, 1.0))]
    table = grown(World(5), points, 20)
    walk = tree_of([table], 20).replay_grid(points)[0].walks[0]
    needed = sum(edge.made + 1 for edge in walk.edges)
    assert sum(choice >= 0 for choice in table.small_choice) <= needed


@pytest.mark.parametrize("far", [2e-6, 1e-7])
def test_a_threshold_within_rounding_of_a_compared_value_marks_the_example(far: float) -> None:
    world, marks = World(7, steps=4), 1e-6
    points: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(0.5 * math.exp(far), 100.0))]
    replay = tree_of([grown(world, points, 20)], 20).replay_grid(points)[0]
    assert any(0.5 in edge.fb for edge in replay.walks[0].edges)
    assert replay.marked == (["e0"] if far < marks else [])


def test_some_examples_of_a_tree_are_a_tree() -> None:
    points: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(0.5, 1.0))]
    tree = tree_of([grown(World(seed), points, 12) for seed in range(4)], 12)
    part = tree.take(["e3", "e1"])
    whole = tree.replay(0.5, 1.0)
    assert part.replay(0.5, 1.0).tokens == [whole.tokens[3], whole.tokens[1]]
    with pytest.raises(BildError, match="no example e9"):
        tree.take(["e9"])


def test_what_no_tree_can_replay_is_refused() -> None:
    tree = tree_of([], 12)
    with pytest.raises(BildError, match="method=calm cannot be replayed"):
        tree.replay(method="calm")
    with pytest.raises(BildError, match="max_draft=auto goes by costs that only a live run measures"):
        tree.replay(max_draft="auto")
    with pytest.raises(BildError, match="fbb is not an option"):
        tree.replay(fbb=1)
    with pytest.raises(BildError, match=r"threshold\.fb=2 is out of range"):
        tree.replay(fb=2.0)
