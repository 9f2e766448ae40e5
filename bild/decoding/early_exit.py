"""CALM: one model, which writes each token from the first decoder layer that is confident enough.

Source: Schuster et al., *Confident Adaptive Language Modeling*, NeurIPS 2022, arXiv 2207.07061. The rule is here; the
engine that leaves between layers, and makes up for the layers that it left out, is told only the thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bild.decoding.actions import Confidence, Write, Written
from bild.decoding.loop import Decoded, Policy

DEFAULT_DECAY = 4.0
"""The paper's tau."""


@dataclass(frozen=True)
class ExitRule:
    """The rule by which a token is written early."""

    threshold: float
    """lambda, 0..1: 1 without a decay is vanilla decoding."""
    confidence: Confidence = "state"
    """The measure compared with it (section 3.5): "state" is the cosine similarity of the hidden states before and
    behind the layer, "softmax" the difference of the two largest probabilities behind it."""
    decay: float | None = DEFAULT_DECAY
    """tau, >= 0, of the threshold that falls along the text; None keeps it constant."""
    min_layers: int = 1

    @property
    def first_exit(self) -> int:
        """The fewest layers of a token: two hidden states can be compared from the second layer on."""
        return max(2, self.min_layers) if self.confidence == "state" else self.min_layers

    def thresholds(self, limit: int) -> list[float]:
        """Return the threshold at each of `limit` positions: clip(0.9 lambda + 0.1 exp(-tau t / N), 0, 1) (eq. 5)."""
        if self.decay is None:
            return [self.threshold] * limit
        decay = self.decay
        return [min(max(0.9 * self.threshold + 0.1 * math.exp(-decay * t / limit), 0.0), 1.0) for t in range(limit)]


def adaptive(rule: ExitRule, *, start: int, eos: int, max_length: int) -> Policy:
    """Decode greedily by the large model, each token as early as the rule allows. `max_length` counts the start token.

    N of the decay is the most tokens that can be written.
    """
    limit = max_length - 1
    written: Written = yield Write([start], rule.thresholds(limit), rule.confidence, rule.first_exit)
    tokens = written.tokens
    return Decoded([start, *tokens], ["start", *("large" for _ in tokens)], [], written.layers, written.depth)
