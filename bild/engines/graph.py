"""Engine `graph`: fixed shapes and positions on the device, so that a step is one CUDA graph and one copy to the host.

A launch-bound GPU pays per kernel, not per byte: a captured step costs one launch. So every buffer is allocated once,
the position is a tensor, tokens are padded to a few widths (`WIDTHS`) and sources to a few lengths (`SOURCES`), with
one capture for each combination that occurs. The small model runs ahead: several greedy steps in one replay, checked
together on the host, the surplus forgotten by setting the length back. The thresholds stay on the host, in no capture,
so a sweep needs no new one. On a CPU the same functions run uncaptured, and the tests hold them to `hf` there.

Rows of padding compute garbage that nobody reads: they lie behind the length, and are written anew before any position
attends to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.base import Engine, Summary, check_finite, stop_of
from bild.engines.kernels import UNMEASURED, Kernels
from bild.errors import BildError

WIDTHS = (1, 2, 4, 8, 12, 16, 32, 64, 128)
"""Numbers of new positions that have a capture of their own. 12 is a full draft of ten and the token before it."""
SOURCES = (32, 64, 128, 256, 512, 1024)
"""Source lengths that have captures of their own; longer ones are rounded up to a multiple of the last."""
AHEAD = (1, 2, 4, 8, 16)
"""Numbers of steps of one replay when drafting."""
_MEMORY = 0.9
"""Weight of the former drafts in the mean draft length; a new draft counts for the rest."""


@dataclass
class Source:
    """The buffers of one source length, and the programs captured over them."""

    cross_keys: Tensor  # [layers, H, K, S]
    cross_values: Tensor  # [layers, H, S, K]
    mask: Tensor  # [1, 1, S], 0 or -inf
    programs: dict[tuple[str, int, int], Callable[[], None]] = field(default_factory=dict)


class GraphEngine(Engine):
    """The functions of `bild.engines.t5` over static buffers."""

    name = "graph"

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
        self.weights = t5.weights_of(module, dtype, vocabulary, kernels)
        self.dtype = dtype
        self.eos = eos
        self.device = self.weights.device
        self.captures = self.device.type == "cuda"
        self.length = 0
        self.mean_draft = 4.0
        self._pool = torch.cuda.graph_pool_handle() if self.captures else None
        self._allocate(capacity)

    def _allocate(self, capacity: int) -> None:
        """Allocate all static buffers. Rows behind the capacity take the padding of the widest step."""
        shape, device = self.weights.shape, self.device
        rows = capacity + WIDTHS[-1]
        size = (len(self.weights.decoder), 2, shape.heads, rows, shape.key_size)
        # Zeros: a masked position's key is still multiplied, and NaN times nothing is NaN.
        self.cache = torch.zeros(size, dtype=self.dtype, device=device)
        bias = t5.position_bias(self.weights.decoder_bias, rows, shape, bidirectional=False)
        self.bias = bias.to(self.dtype)  # [H, rows, rows]
        self.capacity = capacity
        # In: position, number of tokens, tokens. Out: choice, its nll; nll and rank of the token fed next.
        self.inputs = torch.zeros(2 + WIDTHS[-1], dtype=torch.long, device=device)
        self.outputs = torch.zeros(4, WIDTHS[-1], dtype=torch.float32, device=device)
        self.staging = [torch.zeros(2 + WIDTHS[-1], dtype=torch.long, pin_memory=self.captures) for _ in range(2)]
        self.landing = torch.zeros(4, WIDTHS[-1], dtype=torch.float32, pin_memory=self.captures)
        self.offsets = torch.arange(WIDTHS[-1], device=device)
        self.sources: dict[int, Source] = {}

    @torch.inference_mode()
    def start(self, source: Sequence[int]) -> None:
        """See `Engine.start`. The encoder runs as it is: once per source, in one pass."""
        ids = torch.tensor(source, device=self.device)
        length, shape = len(source), self.weights.shape
        bias = t5.position_bias(self.weights.encoder_bias, length, shape, bidirectional=True).to(self.dtype)
        keys, values = t5.cross_attention(self.weights, t5.encode(self.weights, ids, bias))
        held = self._source(length)
        held.cross_keys[..., :length] = torch.stack(keys)
        held.cross_values[:, :, :length] = torch.stack(values)
        held.mask.fill_(float("-inf"))
        held.mask[..., :length] = 0.0
        self.source = held
        self.length = 0

    def _source(self, length: int) -> Source:
        bucket = next((s for s in SOURCES if s >= length), -(-length // SOURCES[-1]) * SOURCES[-1])
        if bucket not in self.sources:
            shape, layers = self.weights.shape, len(self.weights.decoder)
            options: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
            self.sources[bucket] = Source(
                torch.zeros(layers, shape.heads, shape.key_size, bucket, **options),
                torch.zeros(layers, shape.heads, bucket, shape.key_size, **options),
                torch.zeros(1, 1, bucket, **options),
            )
        return self.sources[bucket]

    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`."""
        summary = self._summary("step", self.length, tokens, want, ranks)
        self.length += len(tokens)
        return summary

    def _summary(self, kind: str, at: int, tokens: Sequence[int], want: int, ranks: bool) -> Summary:
        """Run a program over tokens at position `at`.., and report on the last `want` of them."""
        k = len(tokens)
        self._launch(f"{kind} with ranks" if ranks else kind, at, tokens)
        choice, nll, given, rank = self._land()[:, :k].tolist()
        check_finite(nll)
        placed = [int(r) for r in rank[k - want : k - 1]] if ranks else ()
        return Summary([int(c) for c in choice[k - want :]], nll[k - want :], given[k - want : k - 1], placed)

    def draft(self, tokens: Sequence[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """See `Engine.draft`. Steps that ran ahead of a stop are forgotten."""
        out, probs, stop = self._run_ahead("draft", self.length, tokens, limit, stop_below)
        self.length += len(tokens) + len(out) - 1
        return out, probs, stop

    def _run_ahead(
        self, kind: str, at: int, feed: Sequence[int], limit: int, stop_below: float
    ) -> tuple[list[int], list[float], str]:
        """Draft behind position `at`, several steps to a replay; the caller notes the positions that are cached."""
        out: list[int] = []
        probs: list[float] = []
        while True:
            ahead = self._ahead(limit - len(out))
            self._launch(kind, at, feed, ahead)
            choice, nlls, *_ = self._land()[:, :ahead].tolist()
            check_finite(nlls)
            for token, nll in zip(choice, nlls, strict=True):
                out.append(int(token))
                probs.append(math.exp(-nll))
                stop = stop_of(out[-1], probs[-1], len(out), limit, stop_below, self.eos)
                if stop is not None:
                    self.mean_draft = _MEMORY * self.mean_draft + (1 - _MEMORY) * len(out)
                    return out, probs, stop
            at += len(feed) + ahead - 1
            feed = [out[-1]]

    def _ahead(self, limit: int) -> int:
        """Return the steps of the next replay: the number nearest to the mean draft that the limit allows."""
        fits = [n for n in AHEAD if n <= limit] or [1]
        return min(fits, key=lambda n: abs(n - self.mean_draft))

    def _width(self, k: int) -> int:
        width = next((w for w in WIDTHS if w >= k), None)
        if width is None:
            raise BildError(f"engine=graph takes at most {WIDTHS[-1]} new tokens at once, but {k} were fed.")
        return width

    @torch.inference_mode()
    def _launch(self, kind: str, at: int, tokens: Sequence[int], ahead: int = 0) -> None:
        """Send tokens for position `at`.., and run a program on them. Nothing is waited for.

        At most two launches before the next `_land`: each takes one of two places to send from, in turn, since the
        former may not have left yet.
        """
        k = len(tokens)
        if at + k + ahead > self.capacity:
            self._grow(at + k + ahead)
        width = self._width(k)
        self.staging.reverse()
        staging = self.staging[0]
        staging[: 2 + k] = torch.tensor([at, k, *tokens])
        self.inputs.copy_(staging, non_blocking=True)
        self._program(kind, width, ahead)()  # a capture runs on these inputs: it comes after them

    @torch.inference_mode()
    def _land(self) -> Tensor:
        """Bring the programs' outputs to the host: [4, widest], see `_allocate`."""
        self.landing.copy_(self.outputs, non_blocking=True)
        self.synchronize()
        return self.landing

    def _grow(self, length: int) -> None:
        """Double the room until `length` positions fit. What was captured over the old buffers is captured anew."""
        capacity = self.capacity
        while capacity < length:
            capacity *= 2
        cache, kept, source = self.cache, self.sources, self.source
        self._allocate(capacity)
        self.cache[:, :, :, : cache.shape[3]] = cache
        for held in kept.values():
            held.programs.clear()
        self.sources, self.source = kept, source

    def _program(self, kind: str, width: int, ahead: int) -> Callable[[], None]:
        """Return the program of these sizes on the current source: captured on a GPU, the plain function on a CPU."""
        key = (kind, width, ahead)
        if key not in self.source.programs:
            plain = partial(self._plain, kind, self.source, width, ahead)
            self.source.programs[key] = capture(plain, self._pool) if self.captures else plain
        return self.source.programs[key]

    def _plain(self, kind: str, source: Source, width: int, ahead: int) -> None:
        """Feed `width` tokens (some of them padding): "step" summarises every position, "draft" goes on greedily."""
        ids = self.inputs[2 : 2 + width]

        def all_layers(ids: Tensor, position: Tensor) -> Tensor:
            return self._layers(source, t5.embed(self.weights, ids), position, 0, len(self.weights.decoder))

        if kind == "draft":
            self._draft(all_layers, ids, ahead)
        else:
            self._summarise(all_layers(ids, self.inputs[0]), ids, ranks=kind != "step")

    def _draft(self, layers: Callable[[Tensor, Tensor], Tensor], ids: Tensor, ahead: int) -> None:
        """Output `ahead` greedy choices after ids [width]; `layers` takes ids and their position to residuals."""
        position, count = self.inputs[0], self.inputs[1]
        x = layers(ids, position).index_select(0, (count - 1)[None])
        for i in range(ahead):
            choice, _ = self._choose(x, i)
            if i + 1 < ahead:
                x = layers(choice, position + count + i)

    def _summarise(self, x: Tensor, ids: Tensor, ranks: bool) -> None:
        """Output every choice behind residuals x [width, D] of ids [width], its nll, and that of the token fed next."""
        width = ids.shape[0]
        _, logp = self._choose(x)
        if width > 1:
            given = logp[:-1].gather(1, ids[1:, None])
            self.outputs[2, : width - 1] = -given[:, 0]
            if ranks:
                self.outputs[3, : width - 1] = (logp[:-1] > given).sum(-1) + 1

    def _choose(self, x: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Output the greedy choices behind residuals x [k, D] and their nlls, from place `first` on.

        Return the choices [k] and all log-probabilities [k, V].
        """
        logp = torch.log_softmax(t5.logits(self.weights, x), dim=-1)
        best, choice = logp.max(dim=-1)
        end = first + x.shape[0]
        self.outputs[0, first:end] = choice
        self.outputs[1, first:end] = -best
        return choice, logp

    def _layers(self, source: Source, x: Tensor, position: Tensor, first: int, last: int) -> Tensor:
        """Residuals x [width, D] at position.. through layers first..last-1. `t5.run_layers` with fixed shapes."""
        weights, shape = self.weights, self.weights.shape
        rows = position + self.offsets[: x.shape[0]]
        bias = self.bias.index_select(1, rows)  # [H, width, all rows], -inf on what is not yet written
        for i in range(first, last):
            layer = weights.decoder[i]
            qkv = t5.split_heads(t5.normed_product(x, layer.qkv, shape.eps), 3, shape.heads)
            self.cache[i].index_copy_(2, rows, qkv[1:])
            keys, values = self.cache[i].unbind(0)
            x = t5.add_product(x, t5.attend(qkv[0], keys.transpose(1, 2), values, bias), layer.o)
            (q,) = t5.split_heads(t5.normed_product(x, layer.cross_q, shape.eps), 1, shape.heads)
            mixed = t5.attend(q, source.cross_keys[i], source.cross_values[i], source.mask)
            x = t5.add_product(x, mixed, layer.cross_o)
            x = t5.feed_forward(x, layer, shape)
        return x


def capture(function: Callable[[], None], pool: Any) -> Callable[[], None]:
    """Record a function's kernels as a CUDA graph; what comes back replays them.

    The function runs a few times on a side stream first, so that libraries have allocated what they need. That writes
    the same rows as the replay will, so it leaves no trace.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        function()
    return graph.replay
