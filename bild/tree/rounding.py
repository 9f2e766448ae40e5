"""How far a live engine's numbers lie from those of batched passes over trees: measured on a few examples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bild.models import Pair
from bild.tree.branches import branches_of

EXAMPLES = 4
TOKENS = 24
SAFETY = 8.0
"""What is measured is the largest of a few hundred differences; decisions are taken on many more."""
_LEAST = {"fp32": 2e-5, "fp16": 2e-2, "bf16": 1e-1}


def measure_rounding(pair: Pair, engine: str, sources: Sequence[Sequence[int]], limit: int) -> dict[str, float]:
    """{"nll": nats, "gap": of logits}: the largest difference seen over both models' own texts, times a safety factor.

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
                choice, choice_nll, _ = live.step([token])
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
