"""Random models without weights, and a driver in plain Python that answers a policy with them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from hypothesis import strategies as st

from bild.decoding import Decoded, Draft, Drafted, Policy, Verified, Verify
from bild.decoding.actions import Ask, Stop, Tell
from tests.decoding.restated import NextToken, best

START, EOS = 0, 1


@dataclass(frozen=True)
class Tables:
    """A small and a large model: the distribution after a prefix is drawn with that prefix as the seed.

    Two prefixes share nothing, so a text that went wrong by one token goes on differently, and shows it.
    """

    seed: int
    vocabulary: int
    sharpness: float
    """Sharpness of both: 0 is uniform; at 6 most tokens are next to certain."""
    likeness: float
    """0: the two know nothing of each other; 1: they are the same."""
    patience: float
    """Logits by which the end token is held back."""

    def small(self, prefix: Sequence[int]) -> Sequence[float]:
        """Log-probabilities of the small model's next token."""
        common, own, _ = _normals(self.seed, tuple(prefix), self.vocabulary)
        return self._log_softmax(common, own)

    def large(self, prefix: Sequence[int]) -> Sequence[float]:
        """Log-probabilities of the large model's next token."""
        common, _, own = _normals(self.seed, tuple(prefix), self.vocabulary)
        return self._log_softmax(common, own)

    def siblings(self, n: int = 8) -> list[Tables]:
        """Pairs of the same kind, for what happens in few texts."""
        return [replace(self, seed=self.seed + i) for i in range(n)]

    def _log_softmax(self, common: list[float], own: list[float]) -> list[float]:
        a, b = self.sharpness * self.likeness, self.sharpness * (1 - self.likeness)
        logits = [a * x + b * y for x, y in zip(common, own, strict=True)]
        logits[EOS] -= self.patience
        total = math.log(sum(map(math.exp, logits)))
        return [logit - total for logit in logits]


@cache
def _normals(seed: int, prefix: tuple[int, ...], n: int) -> list[list[float]]:
    generator = random.Random(f"{seed} {prefix}")
    return [[generator.gauss(0.0, 1.0) for _ in range(n)] for _ in range(3)]


FB = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 0.8))
RB = st.one_of(st.sampled_from([0.0, math.inf]), st.floats(0.0, 4.0))
MAX_DRAFT = st.integers(1, 12)
MAX_LENGTH = st.one_of(st.just(24), st.integers(2, 24))


def tables() -> st.SearchStrategy[Tables]:
    """Pairs from strangers to twins, from unsure to sure, of short texts and long ones."""
    return st.builds(
        Tables,
        seed=st.integers(0, 2**32),
        vocabulary=st.integers(3, 12),
        sharpness=st.sampled_from([4.0, 2.0, 6.0, 0.5]),
        likeness=st.sampled_from([0.5, 0.3, 0.7, 0.0, 1.0]),
        patience=st.sampled_from([1.0, 3.0, 0.0]),
    )


def draft(model: NextToken, ask: Draft) -> Drafted:
    """Answer a `Draft`."""
    tokens, probs = list[int](), list[float]()
    stop: Stop | None = None
    while stop is None:
        logp = model([*ask.prefix, *tokens])
        tokens.append(best(logp))
        probs.append(math.exp(max(logp)))
        if probs[-1] < ask.stop_below:
            stop = "unsure"
        elif tokens[-1] == EOS:
            stop = "eos"
        elif len(tokens) == ask.limit:
            stop = "limit"
    return Drafted(tokens, probs, stop)


def verify(model: NextToken, ask: Verify) -> Verified:
    """Answer a `Verify`."""
    text = [*ask.prefix, *ask.tokens]
    seen = [model(text[:at]) for at in range(len(ask.prefix), len(text) + 1)]
    given = [-logp[token] for logp, token in zip(seen, ask.tokens, strict=False)]
    ranks = [1 + sum(p > logp[token] for p in logp) for logp, token in zip(seen, ask.tokens, strict=False)]
    return Verified([best(logp) for logp in seen], [-max(logp) for logp in seen], given, ranks if ask.ranks else ())


def decode(policy: Policy, pair: Tables, *, max_length: int) -> tuple[Decoded, list[tuple[Ask, Tell]]]:
    """Run a policy to its end; also what it asked and was told. Refuses an ask that no driver could answer."""
    talk = list[tuple[Ask, Tell]]()
    try:
        ask = next(policy)
        while True:
            assert ask.prefix[0] == START
            if isinstance(ask, Draft):
                assert 1 <= ask.limit <= max_length - len(ask.prefix)
                told: Tell = draft(pair.small if ask.author == "small" else pair.large, ask)
            else:
                assert len(ask.prefix) + len(ask.tokens) <= max_length
                told = verify(pair.large, ask)
            talk.append((ask._replace(prefix=list(ask.prefix)), told))
            ask = policy.send(told)
    except StopIteration as stop:
        return stop.value, talk
