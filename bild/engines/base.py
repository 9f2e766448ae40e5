"""The protocol of every engine: start on a source, step over tokens, rewind, length. Batch size 1.

An engine never hands logits to the host: a step returns a `Summary`, made on the device and copied once. Its state is
the decoder's cache and an integer, so taking tokens back means setting that integer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from bild.config import DecodeConfig
from bild.engines.sampling import Sampler
from bild.errors import BildError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Summary(NamedTuple):
    """The result of one forward step for its last `want` positions."""

    choice: list[int]
    """want token ids: the greedy or the sampled choice that follows each position."""
    choice_nll: list[float]
    """want values, -ln of the largest p there: that of the choice, unless it was sampled."""
    token_nll: list[float]
    """want - 1 values, -ln p of the last want - 1 tokens that were fed, each given what stands before it."""
    token_rank: Sequence[int] = ()
    """want - 1 values, one more than the number of tokens more probable than each of them; empty unless asked for."""


def summarise(
    logits: torch.Tensor, fed: Sequence[int], ranks: bool = False, sampler: Sampler | None = None, length: int = 0
) -> Summary:
    """Bring logits [want, vocabulary] in fp32, after the last `want` of the tokens `fed`, to the host as a `Summary`.

    With a `sampler` the choices are drawn, as of the positions up to `length`, the number of tokens fed in all.

    Raises BildError where the logits are not finite: fp16 overflows on some checkpoints, and a NaN would otherwise be
    compared with the thresholds in silence.
    """
    want = logits.shape[0]
    # log_softmax, then picking: torch's logsumexp over a wide head takes twice as long on a CPU.
    logp = torch.log_softmax(logits, dim=-1)
    if logits.device.type == "cpu":
        table = logp.numpy()
        tokens: list[int] = table.argmax(-1).tolist()  # NumPy's is vectorised, torch's takes 2 ns an entry
        nlls = [-float(table[i, token]) for i, token in enumerate(tokens)]
        token_nll = [-float(table[i, token]) for i, token in enumerate(fed[1 - want :])] if want > 1 else []
        if sampler is not None:
            tokens = sampler.draw(table, sampler.keys(length + 1 - want, want)).choice
    else:
        best, choice = logp.max(dim=-1)
        if sampler is not None:
            choice = sampler.draw(logp, sampler.keys(length + 1 - want, want)).choice
        targets = torch.tensor([*fed[1 - want :], 0] if want > 1 else [0], device=logits.device)
        given = logp.gather(1, targets[:, None])[:, 0]
        # One copy to the host; token ids below 2**24 are exact in fp32.
        picked = torch.stack((choice.to(best.dtype), -best, -given)).tolist()
        tokens, nlls, token_nll = [int(c) for c in picked[0]], picked[1], picked[2][: want - 1]
    check_finite(nlls)
    return Summary(tokens, nlls, token_nll, rank_of(logp[:-1], fed[1 - want :]) if ranks and want > 1 else ())


def rank_of(scores: torch.Tensor, tokens: Sequence[int]) -> list[int]:
    """Return the rank of one token per row of scores [n, vocabulary]: 1 where no score is above its own."""
    own = scores.gather(1, torch.tensor(tokens, device=scores.device)[:, None])
    found: list[int] = (scores > own).sum(-1).add_(1).tolist()
    return found


def check_finite(values: Sequence[float]) -> None:
    """Raise BildError at the first NaN or infinity: it would otherwise be compared with the thresholds in silence."""
    if not all(map(math.isfinite, values)):
        raise BildError(
            "The model's probabilities are not finite (NaN): its activations overflowed in this dtype; "
            f"use engine.dtype={_wider()}, or check the checkpoint."
        )


def _wider() -> str:
    """Name the dtypes that do not overflow; bf16 is none of them where the GPU only emulates it (below sm_80)."""
    emulated = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] < 8
    return "fp32" if emulated else "fp32 or bf16"


def stop_of(token: int, prob: float, drafted: int, limit: int, stop_below: float, eos: int) -> str | None:
    """Return why a draft ends with this token, its `drafted`-th, or None where it goes on."""
    if prob < stop_below:
        return "unsure"
    if token == eos:
        return "eos"
    return "limit" if drafted == limit else None


class PassPlan(NamedTuple):
    """All that a run will ask of an engine: see `Engine.prepare`."""

    positions: int
    """Tokens of the longest text, start token included."""
    sources: Callable[[], Sequence[int]]
    """Tells the lengths of the sources, in tokens, to an engine that asks."""
    widest: int
    """New positions of the widest pass."""
    ranks: bool = False
    """Whether some of the passes tell ranks."""
    decode: DecodeConfig | None = None
    """How tokens are chosen; None is greedy."""


class PartialPass(NamedTuple):
    """What a pass of an early-exit pair leaves out."""

    kept: int = 0
    """Tokens, the first of those that are fed, whose residuals behind layer `t5.State.exit` are there already."""
    layers: int = 0
    """Layers that it goes through; 0 is all of them, and no residuals are asked for."""


ENTIRE = PartialPass()


class Engine(ABC):
    """One model, one sequence. `length` is the number of decoder positions whose keys and values are cached."""

    name: str
    length: int
    eos: int
    device: torch.device
    starts_together: bool = False
    """True where it shares an encoder pass with another engine, which must start before either is fed."""
    passes: int = 0
    """Forward passes that it has run in all, those included that nobody asked for."""
    captured: int = 0
    """Programs that it, or the engine beside it, has captured in all."""
    reads: Engine | None = None
    """The large model's engine, where the encoder is its own and this model reads its states (`read_states_of`)."""
    _left: tuple[list[int], Any] | None = None
    """The source that was encoded last and its states, until another engine takes them."""
    sampler: Sampler | None = None
    """Draws the choices on the present source; None: they are greedy."""

    def prepare(self, plan: PassPlan) -> None:  # noqa: B027
        """Compile, capture and allocate all that a run of this plan needs, between two texts, before any clock runs.

        What was not foreseen is made when it is met. Nothing to do for an engine that makes nothing in advance.
        """

    def read_states_of(self, large: Engine) -> None:
        """Start from the encoder states of the large model's engine from now on; a text then starts on both."""
        self.reads, self.starts_together = large, True

    def source_states(self, source: Sequence[int]) -> Any:
        """Return the encoder's states of a source: those that the large model's engine has just made, or new ones.

        They are taken once, and before anything was fed: what is decoded next on the same source encodes it anew.
        """
        large = self.reads
        if large is not None and large.length == 0 and large._left is not None and large._left[0] == list(source):
            states, large._left = large._left[1], None
            return states
        states = self.encode(source)
        self._left = None if large else (list(source), states)
        return states

    def encode(self, source: Sequence[int]) -> Any:
        """Return the encoder's states of a source, in the form that this engine has them."""
        raise NotImplementedError

    @abstractmethod
    def start(self, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        """Encode a source (token ids, end token included) and forget the one before. Afterwards `length` is 0.

        `decode` says how the tokens of its text are chosen, greedily without.
        """

    @abstractmethod
    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """Feed `tokens` (at least one) after the cached ones; report on the last `want` of their positions.

        `ranks` asks for the ranks of the tokens, too, which costs one more pass over every score.
        """

    def rewind(self, length: int) -> None:
        """Forget all cached positions from `length` on, 0 <= length <= self.length."""
        check_rewind(self, length)
        self.length = length

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given; on a CPU there is nothing to wait for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def draft(self, tokens: Sequence[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """Continue after `tokens`: return (token ids, the largest probability at each, why it stopped).

        Stops after `limit` tokens ("limit"), at the end token ("eos"), or at a token where that probability is below
        `stop_below` ("unsure"; that token is the last one returned). The last token returned is not cached. A greedy
        token is the one of the largest probability.
        """
        out: list[int] = []
        probs: list[float] = []
        feed = tokens
        while True:
            choice, nll, *_ = self.step(feed)
            token, prob = choice[0], math.exp(-nll[0])
            out.append(token)
            probs.append(prob)
            stop = stop_of(token, prob, len(out), limit, stop_below, self.eos)
            if stop is not None:
                return out, probs, stop
            feed = choice


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Count the leading items that two sequences share."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next((i for i in range(n) if a[i] != b[i]), n)


def check_rewind(engine: Engine, length: int) -> None:
    """Raise ValueError for a rewind to a position that the engine has not reached (a bug of the caller)."""
    if not 0 <= length <= engine.length:
        raise ValueError(f"rewind to {length}: only 0 to {engine.length} are cached")
