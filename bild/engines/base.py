"""The protocol of every engine: start on a source, step over tokens, rewind, length. Batch size 1, greedy.

An engine never hands logits to the host: a step returns a `Summary` per position, made on the device and copied once.
Its state is what the decoder has cached, and an integer; so taking tokens back is setting that integer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch

from bild.errors import BildError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Summary(NamedTuple):
    """What one forward step says of its last `want` positions."""

    choice: list[int]
    """want token ids: the greedy choice that follows each position."""
    choice_nll: list[float]
    """want values, -ln p of each choice."""
    token_nll: list[float]
    """want - 1 values, -ln p of the last want - 1 tokens that were fed, each given what stands before it."""


def summarise(logits: torch.Tensor, fed: Sequence[int]) -> Summary:
    """Logits [want, vocabulary] in fp32, after the last `want` of the tokens `fed`, to a `Summary` on the host.

    Raises BildError where the logits are not finite: fp16 overflows on some checkpoints, and a NaN would otherwise be
    compared with the thresholds in silence.
    """
    want = logits.shape[0]
    # log_softmax then max: logsumexp of a wide head is an order of magnitude slower on a CPU (docs/measurement.md).
    logp = torch.log_softmax(logits, dim=-1)
    best, choice = logp.max(dim=-1)
    if want == 1:
        nlls, tokens = [-best.item()], [int(choice.item())] if logits.device.type == "cpu" else None
        if tokens is None:
            packed = torch.stack((best, choice.to(best.dtype))).tolist()
            nlls, tokens = [-packed[0][0]], [int(packed[1][0])]
        token_nll: list[float] = []
    else:
        targets = torch.tensor(fed[1 - want :], device=logits.device)
        given = logp[:-1].gather(1, targets[:, None])[:, 0]
        # One copy to the host; token ids below 2**24 are exact in fp32.
        packed = torch.cat((best, given, choice.to(best.dtype))).tolist()
        nlls = [-v for v in packed[:want]]
        token_nll = [-v for v in packed[want : 2 * want - 1]]
        tokens = [int(v) for v in packed[2 * want - 1 :]]
    if not all(map(math.isfinite, nlls)):
        raise BildError(
            "The model's probabilities are not finite (NaN): its activations overflowed in this dtype; "
            "use engine.dtype=fp32 or bf16, or check the checkpoint."
        )
    return Summary(tokens, nlls, token_nll)


class Engine(ABC):
    """One model, one sequence. `length` is the number of decoder positions whose keys and values are cached."""

    name: str
    length: int
    eos: int

    @abstractmethod
    def start(self, source: Sequence[int]) -> None:
        """Encode a source (token ids, end token included) and forget the former one. Afterwards `length` is 0."""

    @abstractmethod
    def step(self, tokens: Sequence[int], want: int = 1) -> Summary:
        """Feed `tokens` (at least one) after the cached ones; report on the last `want` of their positions."""

    @abstractmethod
    def rewind(self, length: int) -> None:
        """Forget all cached positions from `length` on, 0 <= length <= self.length."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has done all it was given. Nothing to do on a CPU."""

    def draft(self, tokens: Sequence[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """Write on greedily after `tokens`: (token ids, their probabilities, why it stopped).

        Stops after `limit` tokens ("limit"), at the end token ("eos"), or at a token whose probability is below
        `stop_below` ("unsure"; that token is the last one returned). The last token returned is not cached.
        """
        out: list[int] = []
        probs: list[float] = []
        feed = tokens
        while True:
            choice, nll, _ = self.step(feed)
            token, prob = choice[0], math.exp(-nll[0])
            out.append(token)
            probs.append(prob)
            if prob < stop_below:
                return out, probs, "unsure"
            if token == self.eos:
                return out, probs, "eos"
            if len(out) == limit:
                return out, probs, "limit"
            feed = choice


def check_rewind(engine: Engine, length: int) -> None:
    """Refuse a rewind to a place that the engine has not reached (a bug of the caller)."""
    if not 0 <= length <= engine.length:
        raise ValueError(f"rewind to {length}: only 0 to {engine.length} are cached")
