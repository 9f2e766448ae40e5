"""CALM on engine `fused`: the large model alone, which may write a token from any of its decoder layers.

Source: Schuster et al. 2022, arXiv 2207.07061, sections 3.1 (state propagation) and 3.5 (confidence). A position that
stopped behind layer i has no state of its own in the layers after it. Where a later position gets there, the keys and
values of the former are computed from its last state, by the layer's own matrices: for all positions that wait, in one
product, and not at all if none gets there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bild.config import DecodeConfig
from bild.engines import t5
from bild.engines.base import Engine, Summary, check_finite
from bild.engines.early_exit import ViewEngine
from bild.engines.fused import FusedEngine
from bild.errors import BildError


class CalmToken(NamedTuple):
    """One token, its -ln p by the layer that it was written from, and how many layers that took."""

    token: int
    nll: float
    layers: int


class CalmEngine(Engine):
    """A fused engine's weights and buffers, run layer by layer. Its text is vanilla's where no threshold is below 1."""

    def __init__(self, engine: FusedEngine) -> None:
        self.engine = engine
        self.name = engine.name
        self.eos = engine.eos
        self.device = engine.device
        self.length = 0
        self.layers = len(engine.weights.decoder)
        self._filled = [0] * self.layers
        """Per layer: the number of positions, from the first on, that have their keys and values there."""

    def start(self, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        """See `Engine.start`: tokens are chosen greedily."""
        self.engine.start(source)
        self.rewind(0)

    def rewind(self, length: int) -> None:
        """See `Engine.rewind`."""
        super().rewind(length)
        self._filled = [min(filled, length) for filled in self._filled]

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`: a pass through all layers."""
        self.engine.grow(self.length + len(tokens))
        x = self._run(self.engine.embed(tokens), 0, self.layers)
        self.length += len(tokens)
        self.passes += 1
        return self.engine.summary(x[-want:], tokens, ranks, self.length)

    @torch.inference_mode()
    def write(
        self, tokens: Sequence[int], thresholds: Sequence[float], confidence: str, first_exit: int
    ) -> tuple[list[CalmToken], str]:
        """Write on greedily after `tokens`, at most a token for each of `thresholds`.

        A token is written from the first layer, `first_exit` at the least, whose confidence ("state" or "softmax") is
        not below the token's threshold; a threshold of 1 is never reached. Returns what was written, and why it stopped
        ("limit" or "eos"). The last token is not cached. BildError where `first_exit` leaves no layer out.
        """
        self._check(confidence, first_exit)
        if len(tokens) > 1:
            self.step(tokens[:-1])
        write = self._by_state if confidence == "state" else self._by_softmax
        token, stop = tokens[-1], "limit"
        written: list[CalmToken] = []
        for threshold in thresholds:
            self.engine.grow(self.length + 1)
            written.append(write(token, threshold, first_exit))
            self.length += 1
            self.passes += 1
            token = written[-1].token
            if token == self.eos:
                stop = "eos"
                break
        return written, stop

    def _check(self, confidence: str, first_exit: int) -> None:
        if first_exit >= self.layers:
            why = " (method.confidence=state compares two layers)" if confidence == "state" and first_exit == 2 else ""
            raise BildError(
                f"method=calm with method.min_layers={first_exit}{why} never stops early, because this checkpoint has "
                f"{self.layers} decoder layers: lower it, or take a deeper model."
            )

    def _by_state(self, token: int, threshold: float, first_exit: int) -> CalmToken:
        """Write the token after `token`, by the cosine similarity of consecutive states."""
        x = self.engine.embed([token])
        used = first_exit - 1 if threshold < 1.0 else self.layers
        x = self._run(x, 0, used)
        size = _size(x)
        while used < self.layers:
            before, size_before = x, size
            x = self._run(x, used, used + 1)
            used += 1
            size = _size(x)
            if used < self.layers and _cosine(before, x, size_before * size) >= threshold:
                self._leave(x)
                break
        choice, nll, *_ = self.engine.summary(x, [token], False, self.length + 1)
        return CalmToken(choice[0], nll[0], used)

    def _by_softmax(self, token: int, threshold: float, first_exit: int) -> CalmToken:
        """Write the token after `token`, by the lead of the likeliest one over the next."""
        used = first_exit if threshold < 1.0 else self.layers
        x = self._run(self.engine.embed([token]), 0, used)
        while True:
            choice, nll, lead = _lead(self.engine.logits(x)[0])
            if used == self.layers:
                return CalmToken(choice, nll, used)
            if lead >= threshold:
                self._leave(x)
                return CalmToken(choice, nll, used)
            x = self._run(x, used, used + 1)
            used += 1

    def _run(self, x: Tensor, first: int, last: int) -> Tensor:
        """Take the new positions [k, D] through the layers first..last-1."""
        n = self.length
        for layer in range(first, last):
            if self._filled[layer] < n:
                self._fill(layer)
            self._filled[layer] = n + x.shape[0]
        return self.engine.run_layers(x, n, first, last)

    def _leave(self, x: Tensor) -> None:
        """Keep the RMS norm of the state that a position leaves behind, for the layers that it leaves out."""
        self.engine.residuals[self.length] = t5.rms_norm(x, self.engine.weights.shape.eps)[0]

    def _fill(self, layer: int) -> None:
        """Compute the keys and values in a layer for the positions that left before it."""
        weights, done, n = self.engine.weights, self._filled[layer], self.length
        qkv, states = weights.decoder[layer].qkv, self.engine.residuals[done:n]
        product = qkv.times(states.to(qkv.dtype))[:, qkv.out // 3 :]  # the queries are for nobody
        self.engine.cache[layer, :, :, done:n].copy_(t5.split_heads(product, 2, weights.shape.heads))


def calm_engine(engine: Engine) -> CalmEngine:
    """Make CALM over the weights and buffers of the large model's engine, which must start anew afterwards."""
    if isinstance(engine, ViewEngine):
        engine = engine.shared.engine
    if not isinstance(engine, FusedEngine):
        raise BildError(
            f"method=calm does not run on engine={engine.name}: it stops between decoder layers, "
            "which engine=fused can."
        )
    return CalmEngine(engine)


def _size(x: Tensor) -> float:
    """Return the Euclidean norm of all of x."""
    flat = x.view(-1)
    return math.sqrt(torch.dot(flat, flat).item())


def _cosine(a: Tensor, b: Tensor, sizes: float) -> float:
    """Return the cosine similarity of two states whose norms multiply to `sizes`; 0 for a negative one."""
    return max(torch.dot(a.view(-1), b.view(-1)).item() / max(sizes, 1e-30), 0.0)


def _lead(logits: Tensor) -> tuple[int, float, float]:
    """Return (greedy choice, its nll, its probability less that of the runner-up) of logits [V]."""
    logp = torch.log_softmax(logits, dim=-1)
    if logp.device.type == "cpu":
        table = logp.numpy()
        choice = int(table.argmax())
        first = float(table[choice])
        table[choice] = -math.inf
        second = float(table.max())
    else:
        values, at = logp.topk(2)
        first, second, choice = (*values.tolist(), int(at[0]))
    check_finite([first])
    return choice, -first, math.exp(first) - math.exp(second)
