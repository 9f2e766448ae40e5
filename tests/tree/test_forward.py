"""Models over branches: both ways say what a live engine says after the same prefixes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bild.config import DecodeConfig
from bild.engines import t5
from bild.models import Model, Pair
from bild.tree import forward
from bild.tree import forward_host as host
from bild.tree.forward import Branches, OverBudget, Told, TorchBranches
from bild.tree.forward_host import HostBranches
from bild.tree.paths import Paths

SOURCES = [[7, 11, 1], [5, 9, 30, 14, 8, 1], [40, 1], [8, 21, 13, 1], [6, 17, 1]]


def both_ways(pair: Pair, model: Model) -> dict[str, Branches]:
    state, config = model.module.state_dict(), model.module.config
    weights = t5.prepare(state, config, torch.float32, pair.vocabulary, pair.kernels)
    kinds = {"torch": TorchBranches, "host": HostBranches}
    return {name: kind(weights, pair.vocabulary) for name, kind in kinds.items()}


def random_tree(seed: int, count: int) -> tuple[list[int], list[int], list[int]]:
    """(example, parent row, token) of rows whose parents come earlier; chains and bushes."""
    rng = np.random.default_rng(seed)
    examples = rng.choice([0, 1, 1, 3], count).tolist()  # 2 and 4 have no rows
    parents, tokens = [], rng.integers(2, 60, count).tolist()
    for row, example in enumerate(examples):
        older = [r for r in range(row) if examples[r] == example]
        parents.append(-1 if not older or rng.random() < 0.02 else older[-1 - int(len(older) * rng.random() ** 12)])
    return examples, parents, tokens


def prefix(row: int, parents: list[int], tokens: list[int]) -> list[int]:
    found = []
    while row >= 0:
        found.append(tokens[row])
        row = parents[row]
    return found[::-1]


@pytest.mark.spread(1)
@pytest.mark.parametrize("role", ["large", "small"])
@pytest.mark.parametrize("way", ["torch", "host"])
def test_what_is_told_is_what_a_live_engine_says(embedded_pair: Pair, way: str, role: str) -> None:
    model = embedded_pair.large if role == "large" else embedded_pair.small
    branches = both_ways(embedded_pair, model)[way]
    examples, parents, tokens = random_tree(0, 90)
    given = [int(token) if token % 3 else -1 for token in tokens]
    branches.start(SOURCES)
    for first, end in ((0, 1), (1, 80), (80, 90)):  # the middle one holds chains
        part = slice(first, end)
        told = branches.feed(examples[part], parents[part], tokens[part], given[part])
        for row in range(first, end, 7):
            live = embedded_pair.engine(role, "hf")
            live.start(SOURCES[examples[row]])
            fed = prefix(row, parents, tokens)
            at, target = row - first, given[row]
            choice, choice_nll, token_nll, _ = live.step([*fed, max(target, 0)], 2)
            assert told.choice[at] == choice[0]
            assert told.choice_nll[at] == pytest.approx(choice_nll[0], abs=1e-4)
            assert told.given_nll[at] == pytest.approx(token_nll[0] if target >= 0 else np.nan, abs=1e-4, nan_ok=True)
            assert told.gap[at] >= 0
    assert branches.count == 90


def joined(one: Told, other: Told) -> Told:
    """The answers of two batches as those of one."""
    return Told(*(mine + theirs for mine, theirs in zip(one, other, strict=True)))


def test_both_ways_agree_on_gaps_and_in_wide_batches(embedded_pair: Pair) -> None:
    examples, parents, tokens = random_tree(1, 700)
    told = []
    for branches in both_ways(embedded_pair, embedded_pair.small).values():
        branches.start(SOURCES)
        told.append(branches.feed(examples, parents, tokens, tokens))
        told[-1] = joined(told[-1], branches.feed([0, 4], [-1, -1], [0, 0], [5, 6]))  # two that are far apart
    for one, other in zip(told[0][1:], told[1][1:], strict=True):
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("way", ["torch", "host"])
def test_rows_that_do_not_fit_are_refused(embedded_pair: Pair, way: str) -> None:
    branches = both_ways(embedded_pair, embedded_pair.small)[way]
    longest = max(map(len, SOURCES))
    branches.budget = len(SOURCES) * branches.source_bytes(longest) + 3 * branches.row_bytes
    branches.start(SOURCES)
    branches.feed([0, 0, 1], [-1, 0, -1], [0, 5, 0], [-1] * 3)
    with pytest.raises(OverBudget):
        branches.feed([1], [2], [5], [-1])
    branches.budget = 100
    with pytest.raises(OverBudget):
        branches.start(SOURCES)


def test_paths_lead_to_the_root_however_rows_come() -> None:
    examples, parents, _ = random_tree(2, 600)
    paths = Paths()
    for first, end in ((0, 3), (3, 300), (300, 600)):
        assert paths.add(np.array(examples[first:end]), np.array(parents[first:end])) == first
        layout = paths.layout(first)
        within = layout.examples
        active = list(range(within.start, within.stop)) if isinstance(within, slice) else within.tolist()
        place = np.arange(end - first) if layout.slot is None else layout.slot
        for row in range(first, end):
            example, query = divmod(int(place[row - first]), layout.most)
            assert active[example] == examples[row]
            seen = layout.distance[example, query]
            back = {int(layout.rows[example, key]): int(seen[key]) for key in np.flatnonzero(seen >= 0)}
            at, steps = row, 0
            while at >= 0:
                assert back.pop(at) == steps
                at, steps = parents[at], steps + 1
            assert not back
    assert paths.deepest > 32


def test_both_ways_draw_what_a_live_engine_draws(embedded_pair: Pair) -> None:
    decode, live = DecodeConfig(True, 0.9, 1.5, 4), embedded_pair.engine("small", "fused")
    examples, parents, tokens = random_tree(1, 60)
    told = {}
    for way, branches in both_ways(embedded_pair, embedded_pair.small).items():
        branches.start(SOURCES, decode)
        told[way] = branches.feed(examples[:20], parents[:20], tokens[:20], tokens[:20])
        told[way] = joined(told[way], branches.feed(examples[20:], parents[20:], tokens[20:], tokens[20:]))
    assert told["host"].choice == told["torch"].choice
    assert told["host"].rank == told["torch"].rank
    assert np.minimum(told["host"].gap, 1) == pytest.approx(np.minimum(told["torch"].gap, 1), abs=1e-3)
    for row in range(0, 60, 6):
        live.start(SOURCES[examples[row]], decode)
        said = live.step(prefix(row, parents, tokens))
        assert (said.choice[0], said.choice_nll[0]) == (
            told["host"].choice[row],
            pytest.approx(told["host"].choice_nll[row], abs=1e-4),
        )


@pytest.mark.parametrize("way", ["torch", "host"])
def test_ranks_and_entropies_are_those_of_a_plain_computation(way: str) -> None:
    logits = 3 * torch.randn(40, 150, generator=torch.Generator().manual_seed(0))
    given = torch.randint(0, 150, (40,), generator=torch.Generator().manual_seed(1))
    given[:8] = logits[:8].argmax(-1)
    given[8:16] = logits[8:16].topk(2).indices[:, 1]
    logp = torch.log_softmax(logits.double(), -1)
    own = logits.gather(1, given[:, None])
    away = (logits - own).abs().scatter(1, given[:, None], torch.inf).amin(-1)
    gaps = torch.where(given == logits.argmax(-1), torch.inf, away)
    fresh = logits.clone()
    told = forward.summarise(fresh, given.tolist()) if way == "torch" else host.summarise(fresh.numpy(), given.numpy())
    assert told.rank == ((logits > own).sum(-1) + 1).tolist()
    assert told.rank[:16] == [1] * 8 + [2] * 8
    assert told.entropy == pytest.approx((-(logp.exp() * logp).sum(-1)).tolist(), abs=1e-5)
    assert told.rank_gap == pytest.approx(gaps.tolist(), abs=1e-5)
