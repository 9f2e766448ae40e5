"""Measure how far a live engine's numbers lie from a tree's, and settle what that rounding leaves open.

The difference is measured on a few examples when a tree is made; the live driver then decodes the examples of a
replayed point on which a decision lies within it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bild.decoding.policies import live_refusal, policy_for
from bild.errors import BildError
from bild.measure.live import engines_of, run_live
from bild.models import Pair
from bild.tree.forward_host import branches_of
from bild.tree.outcome import Replay
from bild.tree.tree import Tree

EXAMPLES = 4
TOKENS = 24
SAFETY = 8.0
"""The measured value is the largest of a few hundred differences, and decisions are taken on many more."""
_LEAST = {"fp32": 2e-5, "fp16": 2e-2, "bf16": 1e-1}


def measure_rounding(pair: Pair, engine: str, sources: Sequence[Sequence[int]], limit: int) -> dict[str, float]:
    """Return the largest differences over both models' own texts, with a safety factor: {"nll": nats, "gap": logits}.

    Never less than a few units in the last place of the dtype, whatever so few examples show.
    """
    step = max(1, len(sources) // EXAMPLES)
    chosen = [list(source) for source in sources[::step]][:EXAMPLES]
    worst = 0.0
    for role in ("large", "small"):
        live = pair.engine(role, engine)
        branches = branches_of(pair, role)
        branches.start(chosen)
        examples: list[int] = []
        parents: list[int] = []
        fed: list[int] = []
        nlls: list[float] = []
        for e, source in enumerate(chosen):
            live.start(source)
            token, parent = pair.start, -1
            for _ in range(min(TOKENS, limit - 1)):
                choice, choice_nll, *_ = live.step([token])
                examples.append(e)
                parents.append(parent)
                parent = len(fed)
                fed.append(token)
                nlls.append(choice_nll[0])
                token = choice[0]
                if token == pair.eos:
                    break
        told = branches.feed(examples, parents, fed, [-1] * len(fed))
        live_then = zip(nlls, told.choice_nll, told.gap, strict=True)
        worst = max(worst, *(abs(a - b) for a, b, gap in live_then if gap > 1e-3), 0.0)
    nll = max(SAFETY * worst, _LEAST[pair.dtype])
    assert math.isfinite(nll)
    return {"nll": nll, "gap": 2 * nll}


@dataclass(frozen=True)
class Settled:
    """One example, decoded live."""

    id: str
    tokens: list[int]
    small_passes: list[int]
    large_passes: list[int]
    same: bool
    """True where the replay had the same tokens and the same passes."""


def settle(
    tree: Tree, pair: Pair, replay: Replay, *, engine: str = "fused", ids: Sequence[str] | None = None
) -> list[Settled]:
    """Decode examples live by the point of a replay: those that are marked, or those named by `ids`.

    BildError for a stop rule that no live run can know, for a pair that the tree is not of, and for unknown ids.
    """
    refusal = live_refusal(replay.method, engine)
    if refusal is not None:
        raise BildError(refusal)
    identity = tree.identity["pair"]
    if (pair.large.fingerprint, pair.small.fingerprint) != (identity["large"], identity["small"]):
        raise BildError(f"The pair {pair.name} is not the one that the tree in {tree.path} was grown with.")
    places = {example.id: place for place, example in enumerate(replay.shared.examples)}
    wanted = replay.marked if ids is None else list(ids)
    unknown = [name for name in wanted if name not in places]
    if unknown:
        raise BildError(f"The replay has no example {unknown[0]}: it has {len(places)} others.")
    engines = engines_of(pair, replay.method.name, engine)
    make = policy_for(replay.method, replay.threshold)
    found = []
    for example in wanted:
        place = places[example]
        policy = make(start=tree.start, eos=tree.eos, max_length=tree.target_limit)
        run = run_live(policy, replay.shared.examples[place].source_tokens, *engines, tree.head.decode)
        walk = replay.walks[place]
        live = (run.decoded.tokens, run.small_passes, run.large_passes)
        same = live == (walk.tokens, walk.small_passes, walk.large_passes)
        found.append(Settled(example, *live, same))
    return found
