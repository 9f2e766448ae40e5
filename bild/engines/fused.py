"""Engine `fused`: our own T5/mT5 decoder over preallocated keys and values. Rewinding is setting an integer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bild.config import DecodeConfig
from bild.engines import t5
from bild.engines.base import ENTIRE, Engine, PartialPass, PassPlan, Summary, stop_of, summarise
from bild.engines.compiled import COMPILED_SOURCE, CompiledDecoder, CompiledEncoder, compilable
from bild.engines.kernels import UNMEASURED, Kernels
from bild.engines.sampling import Sampler
from bild.engines.t5_host import HostDecoder


class TensorDecoder:
    """The functions of `bild.engines.t5` over token ids on the host. `HostDecoder` has the same methods."""

    def __init__(self, weights: t5.Weights) -> None:
        self.weights = weights
        self.run_layers, self.logits = partial(t5.run_layers, weights), partial(t5.logits, weights)

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """See `t5.embed`."""
        return t5.embed(self.weights, torch.tensor(tokens, device=self.weights.device))

    def decode(self, state: t5.State, tokens: Sequence[int], n: int, want: int) -> Tensor:
        """See `t5.decode`."""
        return t5.decode(self.weights, state, torch.tensor(tokens, device=self.weights.device), n, want)


class FusedEngine(Engine):
    """A decoder over torch tensors or NumPy arrays, and its state."""

    name = "fused"
    state: t5.State
    exit: int = 0
    """The layer behind which a pass may be left and taken up (`PartialPass`); 0 is none."""

    def __init__(
        self,
        module: Any,
        *,
        dtype: torch.dtype,
        eos: int,
        vocabulary: int,
        capacity: int = 128,
        kernels: Kernels = UNMEASURED,
    ) -> None:
        self.device = module.device
        self.weights = t5.weights_of(module, dtype, vocabulary, kernels)
        self.dtype = dtype
        self.eos = eos
        self.length = 0
        on_host = self.device.type == "cpu" and dtype == torch.float32
        decoder = CompiledDecoder if compilable(self.weights) else HostDecoder if on_host else TensorDecoder
        self.decoder: CompiledDecoder | HostDecoder | TensorDecoder = decoder(self.weights)
        self.encoder = CompiledEncoder(self.weights.encoder) if compilable(self.weights.encoder) else None
        self._allocate(capacity)

    def _allocate(self, capacity: int) -> None:
        shape = self.weights.shape
        size = (len(self.weights.decoder), 2, shape.heads, capacity, shape.key_size)
        self.cache = torch.empty(size, dtype=self.dtype, device=self.device)
        bias = t5.position_bias(self.weights.decoder_bias, capacity, shape, bidirectional=False)
        self.bias = bias.to(self.dtype)
        self.residuals = torch.empty(capacity, self.weights.embed.shape[1], device=self.device)

    def prepare(self, plan: PassPlan) -> None:
        """See `Engine.prepare`."""
        if plan.positions > self.cache.shape[3]:
            self._allocate(plan.positions)

    def grow(self, length: int) -> None:
        """Make room for `length` positions: double it until they fit, and keep what is there."""
        capacity, cached, residuals = self.cache.shape[3], self.cache, self.residuals
        if length <= capacity:
            return
        while capacity < length:
            capacity *= 2
        self._allocate(capacity)
        self.cache[:, :, :, : cached.shape[3]], self.residuals[: cached.shape[3]] = cached, residuals
        self.state = replace(self.state, cache=self.cache, bias=self.bias, residuals=self.residuals)

    @torch.inference_mode()
    def encode(self, source: Sequence[int]) -> Tensor:
        """See `Engine.encode`: [S, D]."""
        encoder = self.weights.encoder
        if self.encoder and len(source) <= COMPILED_SOURCE:
            return self.encoder.encode(source, encoder.position_bias(len(source), self.dtype))
        return encoder.states(source, self.dtype)

    @torch.inference_mode()
    def start(self, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        """See `Engine.start`."""
        self.sampler = Sampler.of(decode, source)
        keys, values = t5.cross_attention(self.weights, self.source_states(source))
        self.state = t5.State(self.cache, keys, values, self.bias, self.residuals, self.exit)
        self.length = 0

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False, part: PartialPass = ENTIRE) -> Summary:
        """See `Engine.step`."""
        n, end = self.length, self.length + len(tokens)
        self.grow(end)
        if decoder := self.summing():
            summary = decoder.summary(self.state, tokens, n, want, part)
        else:
            logits = self._decode(tokens, want, part)
            summary = summarise(logits, tokens, ranks, self.sampler, end)
        self.length = end
        self.passes += 1
        return summary

    def _decode(self, tokens: Sequence[int], want: int, part: PartialPass) -> Tensor:
        """Return the logits [want, V] of a pass. Plain ones go to the exit, and on from the residuals there."""
        n, end = self.length, self.length + len(tokens)
        if isinstance(self.decoder, CompiledDecoder):
            return self.decoder.decode(self.state, tokens, n, want, part)
        if part.layers == 0:
            return self.decoder.decode(self.state, tokens, n, want)
        if new := tokens[part.kept :]:
            self.residuals[n + part.kept : end] = self.run_layers(self.embed(new), n + part.kept, 0, self.exit)
        return self.logits(self.run_layers(self.residuals[n:end], n, self.exit, part.layers)[-want:])

    def summing(self) -> CompiledDecoder | None:
        """Return the decoder if it makes the summary itself, which it does of greedy choices."""
        return self.decoder if isinstance(self.decoder, CompiledDecoder) and not self.sampler else None

    @torch.inference_mode()
    def draft(
        self, tokens: Sequence[int], limit: int, stop_below: float, part: PartialPass = ENTIRE
    ) -> tuple[list[int], list[float], str]:
        """See `Engine.draft`. A part is for compiled passes that tell the summary themselves."""
        decoder = self.summing()
        if decoder is None:
            return super().draft(tokens, limit, stop_below)
        self.grow(self.length + len(tokens) + limit - 1)
        out: list[int] = []
        probs: list[float] = []
        stop = None
        while stop is None:
            feed = out[-1:] or tokens
            more, sure = decoder.draft(self.state, feed, self.length, limit - len(out), stop_below, self.eos, part)
            part = part._replace(kept=0)
            self.length += len(feed) + len(more) - 1
            self.passes += len(more)
            out += more
            probs += sure
            stop = stop_of(out[-1], probs[-1], len(out), limit, stop_below, self.eos)
        return out, probs, stop

    # The parts of a step, for engines that stop between layers

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """Return the residuals [k, D] of tokens."""
        return self.decoder.embed(tokens)

    def run_layers(self, x: Tensor, n: int, first: int, last: int) -> Tensor:
        """Take the residuals x [k, D] of positions n.. through the decoder layers first..last-1."""
        return self.decoder.run_layers(self.state, x, n, first, last)

    def logits(self, x: Tensor) -> Tensor:
        """Take residuals x [k, D] through the final norm and the head: [k, V]; the next step may reuse the memory."""
        return self.decoder.logits(x)

    def summary(self, x: Tensor, tokens: Sequence[int], ranks: bool, length: int) -> Summary:
        """Summarise residuals x [want, D], after the last of `tokens`, the last of which is the `length`-th of all."""
        if decoder := self.summing():
            return decoder.summary_of(x, tokens)
        return summarise(self.logits(x), tokens, ranks, self.sampler, length)
