"""Trees of real models: replays are what the live driver does, token by token and pass by pass."""

from __future__ import annotations

import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from bild import open_tree
from bild.config import DecodeConfig, MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import Setting, setting
from bild.decoding.policies import live_refusal
from bild.errors import BildError
from bild.metrics import quality
from bild.models import Pair, load_pair
from bild.tasks import Dataset, load_task
from bild.tree import MissingNodes, Tree
from bild.tree.grow import Wave, grow
from bild.tree.identity import settle
from tests import lanes
from tests.tree.worlds import points_of_all_methods

TASK = TaskConfig(samples=6, target_limit=16, seed=5)  # a sample on which thresholds and ranks decide something


def bild_grid() -> list[Setting]:
    """fb x rb x max draft x both rule sets: 60 points."""
    return [
        (MethodConfig("bild", rules, limit), ThresholdConfig(fb, rb))
        for rules in ("paper", "authors")
        for limit in (3, 10)
        for fb in (0.2, 0.4, 0.5, 0.7, 0.9)
        for rb in (0.5, 1.5, 4.0)
    ]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_task(TASK)


@pytest.fixture(scope="module")
def grown(embedded_pair: Pair, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, list[Setting]]:
    points = bild_grid() + [p for p in points_of_all_methods([0.4], [1.0]) if p[0].max_draft != 1]
    return grow(tmp_path_factory.mktemp("tree"), embedded_pair, TASK, data, points), points


@pytest.mark.slow
def test_replays_are_what_the_live_driver_does(grown: tuple[Tree, list[Setting]], embedded_pair: Pair) -> None:
    tree, points = grown
    ids, points = [example.id for example in tree.examples[::2]], lanes.some(points, len(points) // 2)
    for point, replay in zip(points, tree.replay_grid(points), strict=True):
        if live_refusal(point[0], "fused") is not None:
            continue
        for told in settle(tree, embedded_pair, replay, ids=ids):
            assert told.same or told.id in replay.marked, (point, told)


@pytest.mark.spread(1)
@pytest.mark.parametrize("engine", ["graph", "hf"])
def test_ranks_lead_to_the_same_walks_on_other_engines(engine: str, embedded_pair: Pair, tmp_path: Path) -> None:
    points = [setting("bild", keep="top", top=top, fb=0.5) for top in (1, 2, 5)]
    tree = grow(tmp_path, embedded_pair, TASK, load_task(TASK), points, engine=engine)
    replays = tree.replay_grid(points)
    for replay in replays:
        for told in settle(tree, embedded_pair, replay, engine=engine, ids=[example.id for example in tree.examples]):
            assert told.same or told.id in replay.marked, (replay, told)
    rollbacks = [replay.counts.rollbacks for replay in replays]
    assert rollbacks[0] > rollbacks[2], "the case is of no use: the rank decides nothing"


@pytest.mark.spread(1)
@pytest.mark.parametrize(
    "decode", [DecodeConfig(True, 0.9, 0.8, 3), DecodeConfig(True, seed=1), DecodeConfig(True, 0.6)]
)
def test_sampled_trees_replay_what_the_live_driver_draws(
    decode: DecodeConfig, embedded_pair: Pair, data: Dataset, tmp_path: Path
) -> None:
    points = [setting("speculative"), setting("vanilla"), setting("bild", fb=0.5, rb=2.0)]
    points += [setting("bild", rules="authors", fb=0.3, rb=1.0), setting("relaxed")]
    tree = grow(tmp_path, embedded_pair, TASK, data, points, decode=decode)
    replays = tree.replay_grid(points)
    assert replays[0].tokens == replays[1].tokens  # exact drafts: the noise is shared
    ids = [example.id for example in tree.examples]
    for replay in replays:
        for told in settle(open_tree(tree.path), embedded_pair, replay, ids=ids):
            assert told.same or told.id in replay.marked, told
    assert sum(len(replay.marked) for replay in replays) < len(ids)
    greedy = grow(tmp_path, embedded_pair, TASK, data, points[1:2])
    assert greedy.path != tree.path
    assert "decode" not in greedy.identity
    assert greedy.replay(method="vanilla").tokens != replays[1].tokens


def test_texts_scores_and_the_file_are_those_of_the_pair_and_the_metric(
    grown: tuple[Tree, list[Setting]], embedded_pair: Pair
) -> None:
    tree, _ = grown
    again = open_tree(tree.path.parent)
    replay, vanilla = again.replay(0.5, 1.5), tree.replay(method="vanilla")
    assert replay.tokens == tree.replay(0.5, 1.5).tokens
    assert vanilla.text == [embedded_pair.decode(tokens) for tokens in vanilla.tokens]
    references = [example.reference for example in tree.examples]
    told = quality("bleu", replay.text, references, baseline=vanilla.text)
    score, difference = told.scores["bleu"], (told.difference or {})["bleu"]
    assert (replay.quality.value, replay.quality.signature) == (pytest.approx(score.value), score.signature)
    assert (replay.quality.low, replay.quality.high) == (pytest.approx(score.low), pytest.approx(score.high))
    vanilla = again.replay(method="vanilla")
    assert vars(replay.difference(vanilla)) == pytest.approx(vars(difference))


def test_a_wider_grid_adds_only_what_is_missing(embedded_pair: Pair, data: Dataset, tmp_path: Path) -> None:
    narrow: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(0.6, 5.0))]
    tree = grow(tmp_path, embedded_pair, TASK, data, narrow)
    file = tree.path / "nodes.bin"
    before, nodes = file.read_bytes(), [len(example.table) for example in tree.examples]
    grow(tmp_path, embedded_pair, TASK, data, narrow)
    assert file.read_bytes() == before
    with pytest.raises(MissingNodes):
        tree.replay(0.9, 0.5)
    wide = grow(tmp_path, embedded_pair, TASK, data, [(MethodConfig("bild"), ThresholdConfig(0.9, 0.5))])
    assert file.read_bytes().startswith(before)
    assert [len(example.table) for example in wide.examples] > nodes
    assert wide.replay(0.6, 5.0).tokens == tree.replay(0.6, 5.0).tokens
    same = open_tree(tmp_path)
    for a, b in zip(same.examples, wide.examples, strict=True):
        for name, column in vars(a.nodes).items():
            assert np.array_equal(column, getattr(b.nodes, name), equal_nan=True), name


def test_less_memory_means_smaller_chunks_and_the_same_walks(
    grown: tuple[Tree, list[Setting]], embedded_pair: Pair, data: Dataset, tmp_path: Path
) -> None:
    points = bild_grid()[::7]
    told: list[int] = []
    tree = grow(tmp_path, embedded_pair, TASK, data, points, budget=1_200_000, progress=lambda n, _: told.append(n))
    assert len(told) > 1
    assert told[-1] == len(data)
    for few, many in zip(tree.replay_grid(points), grown[0].replay_grid(points), strict=True):
        assert few.tokens == many.tokens
    with pytest.raises(BildError, match="does not fit into memory"):
        grow(tmp_path / "none", embedded_pair, TASK, data, points, budget=1000)


def test_an_early_exit_pair(data: Dataset, tmp_path: Path) -> None:
    pair = load_pair("embedded", exit=1, device="cpu")
    task = TaskConfig(samples=6, target_limit=12)
    points: list[Setting] = [(MethodConfig("bild"), ThresholdConfig(fb, rb)) for fb in (0.2, 0.6) for rb in (1.0, 4.0)]
    tree = grow(tmp_path, pair, task, data, points)
    for replay in tree.replay_grid(points):
        for told in settle(tree, pair, replay, ids=[tree.examples[0].id, tree.examples[3].id]):
            assert told.same or told.id in replay.marked


def test_logits_that_are_not_finite_end_in_one_sentence_and_store_nothing(data: Dataset, tmp_path: Path) -> None:
    pair = load_pair("embedded", device="cpu")
    points: list[Setting] = [(MethodConfig("bild"), ThresholdConfig())]
    grow(tmp_path, pair, TASK, data, points[:0])  # the folder, while the model is sound
    pair.weights("large").embed[5:] = math.inf
    with pytest.raises(BildError, match="not finite"):
        grow(tmp_path, pair, TASK, data, points)
    tree = open_tree(tmp_path)
    assert len(tree.missing(points)) == len(data)


def test_another_pair_is_not_asked_to_settle(grown: tuple[Tree, list[Setting]]) -> None:
    tree, _ = grown
    other = load_pair("embedded", exit=1, device="cpu")
    with pytest.raises(BildError, match="is not the one that the tree"):
        settle(tree, other, tree.replay(0.5, 1.5))
    with pytest.raises(BildError, match="cannot be run live"):
        settle(tree, other, tree.replay(rb=1.0, method="oracle", max_draft=6))


def test_a_pass_that_ran_out_of_memory_holds_none_of_it(
    embedded_pair: Pair, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: list[Setting] = [(MethodConfig("bild"), ThresholdConfig())]
    whole = grow(tmp_path / "whole", embedded_pair, TASK, data, points)
    held: list[weakref.ref[torch.Tensor]] = []
    real, sizes = Wave.run, list[int]()

    def run(wave: Wave) -> None:
        sizes.append(len(wave.trees))
        assert not any(ref() is not None for ref in held), "what a failed pass held is still there"
        taken = torch.empty(1000)
        held.append(weakref.ref(taken))
        if len(wave.trees) > 2:
            real(wave)  # all is asked and told, and forgotten again
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        real(wave)

    monkeypatch.setattr(Wave, "run", run)
    halved = grow(tmp_path / "halved", embedded_pair, TASK, data, points)
    assert sizes == [6, 3, 1, 2, 3, 1, 2]
    assert halved.replay_grid(points)[0].tokens == whole.replay_grid(points)[0].tokens
