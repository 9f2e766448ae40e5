"""Sampling as greedy decoding on perturbed scores: temperature, a nucleus, and noise that a seed fixes.

A token is drawn from softmax(logits / temperature), restricted to its nucleus, as the argmax of these scores plus
standard Gumbel noise (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030). The noise of an entry is a function of seed,
source, position and token id alone: both models of a pair, all engines, drafts, verifications and decision trees meet
the same noise (as Daliri et al., arXiv 2408.07978), so each prefix has one choice per model and seed.

It is SplitMix64 (Steele et al. 2014) twice: the source's key begins a stream of positions, each of which begins one of
tokens. In 64-bit integers that wrap around NumPy and torch, CPU and CUDA, agree to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import inf, log
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bild.config import DecodeConfig

Keys = NDArray[np.int64]
Integers = TypeVar("Integers", Keys, Tensor)
_GOLDEN, _FIRST, _SECOND = (n - (1 << 64) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Chosen(NamedTuple):
    """The choice at each of n positions, and its gap: so much must two logits come nearer to make it another one."""

    choice: Any
    gap: Any


class Sampler(NamedTuple):
    """The sampling of one source's text."""

    top_p: float
    temperature: float
    key: int

    @staticmethod
    def of(decode: DecodeConfig | None, source: Sequence[int]) -> Sampler | None:
        """Return the sampler of a source (token ids); None for greedy decoding."""
        if decode is None or not decode.sample:
            return None
        return Sampler(decode.top_p, decode.temperature, source_key(decode.seed, source))

    def draw(self, logits: Any, keys: Keys, gaps: bool = False) -> Chosen:
        """Choose a token after each row of logits [n, V], a tensor or an array, at the positions of these keys [n]."""
        if isinstance(logits, Tensor):
            return choose(logits, torch.from_numpy(keys).to(logits.device), self.top_p, self.temperature, gaps)
        return choose_on_host(logits, keys, self.top_p, self.temperature, gaps)

    def processors(self, vocabulary: int, device: torch.device) -> list[Any]:
        """Return what makes the library's greedy `generate()` draw this text: its own warpers, and then our noise."""
        from transformers.generation import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        tokens = torch.arange(vocabulary, device=device)

        def cut(_ids: Tensor, scores: Tensor) -> Tensor:
            return scores[:, :vocabulary].float()

        def noise(ids: Tensor, scores: Tensor) -> Tensor:
            key = torch.from_numpy(self.keys(ids.shape[1], 1)).to(scores.device)
            noisy: Tensor = scores + gumbel(key, tokens)
            return noisy

        warpers = [TemperatureLogitsWarper(self.temperature), TopPLogitsWarper(self.top_p)]
        found: list[Any] = LogitsProcessorList([cut, *warpers, noise])
        return found

    def keys(self, first: int, count: int) -> Keys:
        """Return the keys of the positions first, first + 1, ...; the start token's position is 0."""
        keys: Keys = position_keys(self.key, np.arange(first, first + count))
        return keys


def source_key(seed: int, source: Sequence[int]) -> int:
    """Return the key of a source under a seed: 64 bits, signed."""
    digest = hashlib.blake2b(f"{seed}:".encode() + np.array(source, "<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def position_keys(source: Any, positions: Any) -> Any:
    """Return the keys of positions in texts of these sources' keys (a number, or one key for each position)."""
    keys: Any = source + positions * _GOLDEN
    return _mix(keys)


def gumbel(keys: Integers, tokens: Integers) -> Any:
    """Return the noise of token ids at the positions of these keys, which must broadcast; fp32."""
    bits = (_mix(keys + (tokens + 1) * _GOLDEN) >> 11) & ((1 << 53) - 1)
    if isinstance(bits, Tensor):
        return bits.double().mul_(2.0**-53).clamp_(min=2.0**-54).log_().neg_().log_().neg_().float()
    return -np.log(-np.log((bits * 2.0**-53).clip(2.0**-54))).astype(np.float32)


def _mix(z: Integers) -> Integers:
    """Scramble 64-bit integers; the masks make shifts of signed ones logical."""
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _FIRST
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _SECOND
    return z ^ ((z >> 31) & ((1 << 33) - 1))


def choose(logits: Tensor, keys: Tensor, top_p: float, temperature: float, gaps: bool = False) -> Chosen:
    """Choose a token after each row of logits [n, V] at positions of these keys [n], on any device; without a wait.

    The nucleus is the smallest set of the likeliest tokens whose probabilities reach `top_p`, and all that tie with
    its last one. Returns tensors [n]; the gap is None unless asked for.
    """
    scores = logits / temperature
    if top_p >= 1.0:
        noisy = scores + gumbel(keys[:, None], torch.arange(logits.shape[1], device=logits.device))
        if not gaps:
            return Chosen(noisy.argmax(-1), None)
        best, choice = noisy.topk(2)
        return Chosen(choice[:, 0], (best[:, 0] - best[:, 1]) * temperature)
    scores, tokens = scores.sort(-1, descending=True)
    p = torch.softmax(scores, -1, dtype=torch.float64)
    before = p.cumsum(-1) - p
    edge = scores.gather(-1, (before < top_p).sum(-1, keepdim=True) - 1)
    inside = scores >= edge
    noisy = scores + gumbel(keys[:, None], tokens)
    best, place = noisy.masked_fill(~inside, -inf).topk(2)
    first, place = best[:, :1], place[:, :1]
    choice = tokens.gather(-1, place)[:, 0]
    if not gaps:
        return Chosen(choice, None)
    margin = (torch.logit(before, eps=1e-16) - _logit(top_p)).abs().float()
    beyond = scores.masked_fill(inside, -inf).amax(-1)
    own = torch.minimum(margin.gather(-1, place)[:, 0], scores.gather(-1, place)[:, 0] - beyond)
    others = torch.minimum(margin, edge - scores).masked_fill(inside | (noisy <= first), inf).amin(-1)
    gap = torch.stack((best[:, 0] - best[:, 1], own, others)).amin(0)
    return Chosen(choice, gap * temperature)


def choose_on_host(
    logits: NDArray[np.float32], keys: Keys, top_p: float, temperature: float, gaps: bool = False
) -> Chosen:
    """Choose as `choose` does, by NumPy and row by row: only tokens that may be in a nucleus are sorted.

    Of gaps above ln 2 * temperature it is only known that they are.
    """
    found = [_choose_one(row, keys[i : i + 1], top_p, temperature, gaps) for i, row in enumerate(logits)]
    choice, gap = zip(*found, strict=True)
    return Chosen(list(choice), np.array(gap, np.float32) if gaps else None)


def _choose_one(logits: Any, key: Keys, top_p: float, temperature: float, gaps: bool) -> tuple[int, float]:
    scores = logits if temperature == 1.0 else logits / np.float32(temperature)
    if top_p >= 1.0:
        noisy = scores + gumbel(key, np.arange(len(scores)))
        choice = int(noisy.argmax())
        return choice, temperature * _lead(noisy, choice) if gaps else inf
    p = np.exp(scores - scores.max())
    total = float(p.sum(dtype=np.float64))
    # All tokens below this hold less than half of what a nucleus may leave out.
    tokens = np.flatnonzero(p >= 0.5 * (1.0 - top_p) * total / len(p))
    tokens = tokens[np.argsort(-scores[tokens], kind="stable")]
    scores, p = scores[tokens], p[tokens].astype(np.float64) / total
    before = p.cumsum() - p
    edge = scores[int((before < top_p).sum()) - 1]
    count = int((scores >= edge).sum())
    noisy = scores[: None if gaps else count] + gumbel(key, tokens[: None if gaps else count])
    place = int(noisy[:count].argmax())
    if not gaps:
        return int(tokens[place]), inf
    with np.errstate(divide="ignore"):
        margin = np.abs(np.log(before / (1.0 - before).clip(1e-16)) - _logit(top_p))
    own = min(float(margin[place]), float(scores[place] - scores[count]) if count < len(scores) else inf)
    rivals = np.flatnonzero(noisy[count:] > noisy[place]) + count
    others = np.minimum(margin[rivals], edge - scores[rivals]).min(initial=inf)
    return int(tokens[place]), temperature * min(_lead(noisy[:count], place), own, float(others))


def _lead(noisy: Any, place: int) -> float:
    others = max(noisy[:place].max(initial=-inf), noisy[place + 1 :].max(initial=-inf))
    return float(noisy[place] - others)


def _logit(p: float) -> float:
    return log(p / (1.0 - p))
