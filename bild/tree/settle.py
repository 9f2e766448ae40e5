"""Settling what rounding leaves open: the live driver decodes the marked examples of a replayed point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bild.bench.live import run_live
from bild.decoding import policy_for
from bild.errors import BildError
from bild.models import Pair
from bild.tree.outcome import Replay
from bild.tree.tree import Tree


@dataclass(frozen=True)
class Settled:
    """One example, decoded live."""

    id: str
    tokens: list[int]
    small_passes: list[int]
    large_passes: list[int]
    same: bool
    """Whether the replay had the same tokens and the same passes."""


def settle(
    tree: Tree, pair: Pair, replay: Replay, *, engine: str = "fused", ids: Sequence[str] | None = None
) -> list[Settled]:
    """Decode examples live by the point of a replay: those that are marked, or those named by `ids`.

    BildError for method=oracle, which no live run can know, for a pair that the tree is not of, and for unknown ids.
    """
    if replay.method.name == "oracle":
        raise BildError("method=oracle cannot be decoded live: its drafts end where only a replay can know.")
    identity = tree.identity["pair"]
    if (pair.large.fingerprint, pair.small.fingerprint) != (identity["large"], identity["small"]):
        raise BildError(f"The pair {pair.name} is not the one that the tree in {tree.path} was grown with.")
    places = {example.id: place for place, example in enumerate(replay.shared.examples)}
    wanted = replay.marked if ids is None else list(ids)
    unknown = [name for name in wanted if name not in places]
    if unknown:
        raise BildError(f"The replay has no example {unknown[0]}: it has {len(places)} others.")
    name = replay.method.name
    large = None if name == "small" else pair.engine("large", engine)
    small = None if name == "vanilla" else pair.engine("small", engine)
    make = policy_for(replay.method, replay.threshold)
    found = []
    for example in wanted:
        place = places[example]
        policy = make(start=tree.start, eos=tree.eos, max_length=tree.target_limit)
        run = run_live(policy, replay.shared.examples[place].source_tokens, large, small)
        walk = replay.walks[place]
        live = (run.decoded.tokens, run.small_passes, run.large_passes)
        same = live == (walk.tokens, walk.small_passes, walk.large_passes)
        found.append(Settled(example, *live, same))
    return found
