"""The questions of a policy and a driver's answers. No tensors: token ids and floats only.

The questions and answers are named tuples because one of each is made per round, inside the timed loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Author = Literal["small", "large"]
Stop = Literal["limit", "unsure", "eos", "oracle"]
Confidence = Literal["state", "softmax"]


class Draft(NamedTuple):
    """Ask one model to write on by itself."""

    prefix: list[int]
    """The text so far, decoder start token included. Read it before the next `send`; the policy goes on writing it."""
    limit: int
    """At most this many tokens, >= 1."""
    stop_below: float = 0.0
    """Stop at the first token whose probability is below this (strictly; paper eq. 2)."""
    author: Author = "small"
    oracle: Callable[[bool, float, float, float, int], bool] | None = None
    """Stop before the first token of which this says that the large model would reject it (see `Rules.rejection`).
    Only a driver that knows the large model's verdict beforehand can."""


class Drafted(NamedTuple):
    """The answer to `Draft`. If `stop` is "unsure", the last token is the one that the model was unsure of."""

    tokens: list[int]
    probs: list[float]
    stop: Stop


class Write(NamedTuple):
    """Ask the large model to write on by itself, each token from the first decoder layer that is confident enough."""

    prefix: list[int]
    """The text so far, decoder start token included."""
    thresholds: list[float]
    """Per token, and so at most this many: the confidence, 0..1, from which it is written. At 1 all layers run."""
    confidence: Confidence
    first_exit: int
    """The fewest decoder layers of a token, >= 1."""


class Written(NamedTuple):
    """The answer to `Write`, with the depth of each token."""

    tokens: list[int]
    probs: list[float]
    """By the layer that the token was written from."""
    stop: Stop
    layers: list[int]
    """Decoder layers that each token took."""
    depth: int
    """The decoder's layers."""


class Verify(NamedTuple):
    """Ask the large model about `tokens` after `prefix`, in one pass. No tokens: an ordinary large step."""

    prefix: list[int]
    tokens: list[int]
    ranks: bool = False
    """Also tell the ranks of the tokens, which costs a look at every probability."""


class Verified(NamedTuple):
    """The large model's own choice at each of the n drafted positions and at the one after them."""

    choice: list[int]
    """n + 1 token ids: `choice[i]` is its own token in the place of `tokens[i]`, the last one follows them all."""
    choice_nll: list[float]
    """n + 1 values, -ln p of each choice."""
    token_nll: list[float]
    """n values, -ln p of each drafted token."""
    token_rank: Sequence[int] = ()
    """n values, the place of each drafted token among the large model's probabilities, 1 for the likeliest; empty
    where they were not asked for."""


Ask = Draft | Verify | Write
Tell = Drafted | Verified | Written
