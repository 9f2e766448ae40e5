"""A tree and the pair it is of: its identity, the folder of a new one, and how far live numbers lie from its own.

That difference is its rounding. It is measured on a few examples when a tree is made; what it leaves open in a replayed
point the live driver settles.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bild.config import DecodeConfig, TaskConfig
from bild.decoding.policies import live_refusal, policy_for
from bild.errors import BildError
from bild.measure.live import engines_of, run_live
from bild.models import Pair
from bild.results.locking import waiting_lock
from bild.tasks import Dataset
from bild.tree import store
from bild.tree.forward_host import branches_of
from bild.tree.outcome import Replay
from bild.tree.tree import Tree

FORWARD = 2
"""Count this up when `bild.tree.forward` computes anything else than before."""
_PACKAGES = ("torch", "tokenizers", "transformers")
EXAMPLES = 4
TOKENS = 24
SAFETY = 8.0
"""The measured value is the largest of a few hundred differences, and decisions are taken on many more."""
_LEAST = {"fp32": 2e-5, "fp16": 2e-2, "bf16": 1e-1}


def tokenizer_json(pair: Pair) -> str:
    """Return the pair's tokenizer as the file that the tokenizers library reads. BildError where it has none."""
    backend = getattr(pair.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BildError(
            f"The pair {pair.name} has no fast tokenizer, which its decision trees are read with: "
            "give model.tokenizer=..., a folder or hub id with tokenizer.json or spiece.model."
        )
    text: str = backend.to_str()
    return text


def identity_of(pair: Pair, task: TaskConfig, data: Dataset, decode: DecodeConfig) -> dict[str, Any]:
    """Return all that can change a node."""
    tokenizer = tokenizer_json(pair)
    return {
        "task": task.identity,
        "data": data.provenance["hash"],
        "pair": {
            "large": pair.large.fingerprint,
            "small": pair.small.fingerprint,
            "tokenizer": hashlib.sha256(tokenizer.encode()).hexdigest()[:16],
        },
        "dtype": pair.dtype,
        "device": pair.device.type,
        "forward": FORWARD,
        "packages": {name: version(name) for name in _PACKAGES},
    } | decode.identity


def open_folder(folder: Path, pair: Pair, task: TaskConfig, data: Dataset, engine: str, decode: DecodeConfig) -> Path:
    """Return the folder of a tree, made if it is not there yet."""
    identity = identity_of(pair, task, data, decode)
    path = Path(folder) / store.folder_name(identity)
    with waiting_lock(path / store.LOCK, "makes the same tree"):
        if not (path / store.TREE).exists():
            stored = []
            for example in data.examples:
                tokens, truncated = pair.encode(task.prompt + example.source, task.source_limit)
                stored.append(store.StoredExample(example.id, example.source, example.reference, tokens, truncated))
            more = {
                "ids": {"start": pair.start, "eos": pair.eos, "vocabulary": pair.vocabulary},
                "names": {"pair": pair.name, "large": pair.large.source.name, "small": pair.small.source.name},
                # Another process may choose others, whose sums round otherwise.
                "kernels": asdict(pair.kernels),
                "decode": decode,
                "rounding": measure_rounding(pair, engine, [s.source_tokens for s in stored], task.target_limit),
            }
            store.create(path, identity, more, stored, tokenizer_json(pair))
    return path


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
        fed: list[tuple[int, int, int]] = []
        nlls: list[float] = []
        for e, source in enumerate(chosen):
            live.start(source)
            token, parent = pair.start, -1
            for _ in range(min(TOKENS, limit - 1)):
                choice, choice_nll, *_ = live.step([token])
                fed.append((e, parent, token))
                nlls.append(choice_nll[0])
                token, parent = choice[0], len(fed) - 1
                if token == pair.eos:
                    break
        examples, parents, tokens = zip(*fed, strict=True)
        told = branches.feed(examples, parents, tokens, [-1] * len(fed))
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
