"""The programs of engine `graph`: the functions of `bild.engines.t5` over static buffers, with positions on the device.

Nothing here waits for the device, depends on data in its shapes, or speaks to the host: a CUDA graph can hold it all.
Rows of padding write to a row of their own, which no position attends to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.graph_pool import GraphPool
from bild.engines.layouts import Matrix
from bild.engines.sampling import Sampler, choose, position_keys

WIDTHS = (1, 2, 4, 8, 12, 16, 32, 64, 128)
"""Numbers of new positions that have a program of their own. 12 is a full draft of ten and the token before it."""
SOURCES = (32, 64, 128, 256, 512, 1024)
"""Source lengths that have programs of their own; longer ones are rounded up to a multiple of the last."""
ENCODED = 128
"""Source tokens up to which the start of a text has programs of its own, one for each length that was foreseen: a bound
on how many a run captures, since articles have hundreds of lengths."""
ALIGN = 8
"""The rows of keys are a multiple of this, as matrix products in fp16 like them."""


def bucket_of(length: int) -> int:
    """Return the source length that a source's buffers and programs are made for."""
    return next((s for s in SOURCES if s >= length), -(-length // SOURCES[-1]) * SOURCES[-1])


@dataclass
class SourceBuffers:
    """The buffers of one source length."""

    cross_keys: Tensor  # [layers, H, K, S]
    cross_values: Tensor  # [layers, H, S, K]
    mask: Tensor  # [1, 1, S], 0 or -inf

    @property
    def bucket(self) -> int:
        """The source length that they are for."""
        return self.mask.shape[-1]


class Operations:
    """What lies between the products of a pass, each of them kernels of torch. The oracle of `bild.engines.fusions`."""

    def normed(
        self, x: Tensor, product: Tensor | None, eps: float, dtype: torch.dtype, gain: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return residuals x [k, D] with a product [k, D] added, and their RMS norm in `dtype`, times a gain [D]."""
        if product is not None:
            x = product.to(x.dtype).add_(x)
        norm = t5.rms_norm(x, eps)
        return x, (norm if gain is None else norm * gain).to(dtype)

    def times(self, x: Tensor, matrix: Matrix) -> Tensor:
        """See `Matrix.times`."""
        return matrix.times(x)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """See `t5.attend`."""
        return t5.attend(q, keys, values, bias)

    def gate(self, h: Tensor, shape: t5.Shape) -> Tensor:
        """See `t5.gate`."""
        return t5.gate(h, shape)

    def choose(self, logits: Tensor, ids: Tensor, outputs: Tensor, ranks: bool) -> Tensor:
        """Return the choices [k] of logits [k, V], and write to outputs [4, most] what they and tokens ids [k] give.

        That is each choice and its nll, and for the token that was fed behind it its nll and, if asked for, its rank.
        """
        width = logits.shape[0]
        logp = torch.log_softmax(logits, dim=-1)
        best, choice = logp.max(dim=-1)
        outputs[0, :width].copy_(choice)
        torch.neg(best, out=outputs[1, :width])
        if width > 1:
            given = logp[:-1].gather(1, ids[1:, None])
            torch.neg(given[:, 0], out=outputs[2, : width - 1])
            if ranks:
                outputs[3, : width - 1] = (logp[:-1] > given).sum(-1) + 1
        return choice


class GraphPrograms:
    """One decoder's buffers, and the programs that run on them."""

    operations: Operations
    weights: t5.Weights
    dtype: torch.dtype
    device: torch.device
    pool: GraphPool
    key: Tensor  # [1], of the source's noise; it never moves
    sampler: Sampler | None

    def _allocate(self, capacity: int) -> None:
        """Allocate all static buffers. The row behind the capacity takes what padding writes; nobody reads it."""
        shape, device = self.weights.shape, self.device
        self.capacity = rows = -(-capacity // ALIGN) * ALIGN
        self.pool.text.reserve(rows + 1)
        size = (len(self.weights.decoder), 2, shape.heads, rows + 1, shape.key_size)
        # Zeros: a masked position's key is still multiplied, and NaN times nothing is NaN.
        self.cache = torch.zeros(size, dtype=self.dtype, device=device)
        bias = t5.position_bias(self.weights.decoder_bias, rows + 1, shape, bidirectional=False)
        self.bias = bias.to(self.dtype)[:, :, :rows].contiguous()  # [H, rows + 1, rows]
        # In: position and number of tokens. Out: choice, its nll; nll and rank of the token fed next.
        self.place = torch.zeros(2, dtype=torch.long, device=device)
        self.outputs = torch.zeros(4, WIDTHS[-1], dtype=torch.float32, device=device)
        self.offsets = torch.arange(WIDTHS[-1], device=device)
        self.ids = torch.zeros(ENCODED, dtype=torch.long, device=device)
        self.states = torch.zeros(ENCODED, self.weights.cross_kv.inner, dtype=torch.float32, device=device)
        self.sources: dict[int, SourceBuffers] = {}

    def _source(self, length: int) -> SourceBuffers:
        bucket = bucket_of(length)
        if bucket not in self.sources:
            shape, layers = self.weights.shape, len(self.weights.decoder)
            options: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
            self.sources[bucket] = SourceBuffers(
                torch.zeros(layers, shape.heads, shape.key_size, bucket, **options),
                torch.zeros(layers, shape.heads, bucket, shape.key_size, **options),
                torch.zeros(1, 1, bucket, **options),
            )
        return self.sources[bucket]

    def _encode(self, length: int) -> None:
        """Turn the source's `ids` into encoder `states`. Like every program it moves `place`."""
        encoder = self.weights.encoder
        states = t5.encode(encoder, self.ids[:length], encoder.position_bias(length, self.dtype))
        self.states[:length].copy_(states)
        self.place[:1].add_(1)

    def _cross(self, source: SourceBuffers, states: Tensor) -> None:
        """Fill a source's buffers from encoder states [S, D]."""
        length = states.shape[0]
        kv = t5.cross_keys_values(self.weights, states, 1)[:, :, 0]
        source.cross_keys[..., :length].copy_(kv[:, 0].transpose(2, 3))
        source.cross_values[:, :, :length].copy_(kv[:, 1])
        source.mask.fill_(float("-inf"))
        source.mask[..., :length].zero_()
        self.place[:1].add_(1)

    def _clean(self) -> None:
        """Clear the buffers: a masked NaN is still multiplied, and would spoil every later text."""
        self.cache.zero_()
        for source in self.sources.values():
            source.cross_keys.zero_()
            source.cross_values.zero_()

    def _plain(self, kind: str, source: SourceBuffers, width: int) -> None:
        """Feed `width` tokens (some of them padding), summarise every position, and move on by those that are none."""
        rows = self._rows(width)
        ids = self.pool.text.tokens.index_select(0, rows)
        x = self._layers(source, t5.embed(self.weights, ids), rows, 0, len(self.weights.decoder))
        self._summarise(x, ids, rows, ranks=kind != "step")

    def _rows(self, width: int) -> Tensor:
        """Return the positions [width] of what is fed; that of padding is behind the capacity."""
        if width == 1:
            return self.place[:1]
        offsets = self.offsets[:width]
        return (self.place[:1] + offsets).masked_fill_(offsets >= self.place[1:], self.capacity)

    def _summarise(self, x: Tensor, ids: Tensor, rows: Tensor, ranks: bool = False) -> None:
        """Output every choice behind residuals x [width, D] of ids [width] at positions `rows`, and a `Summary`'s nlls.

        The choice behind the last token that is not padding goes to the text, too.
        """
        width, weights = x.shape[0], self.weights
        _, norm = self.operations.normed(x, None, weights.shape.eps, weights.head.dtype, weights.decoder_gain)
        logits = self.operations.times(norm, weights.head).float()
        choice = self.operations.choose(logits, ids, self.outputs, ranks)
        if self.sampler is not None:
            keys = position_keys(self.key, rows + 1)
            choice = choose(logits, keys, self.sampler.top_p, self.sampler.temperature).choice
            self.outputs[0, :width].copy_(choice)
        if width > 1:
            choice = choice.index_select(0, self.place[1:] - 1)
        self._advance(width)
        self.pool.text.tokens.index_copy_(0, self.place[:1], choice)

    def _advance(self, width: int) -> None:
        """Move `place` behind what was fed, and make it say one token: the next step's."""
        if width == 1:
            self.place[:1].add_(1)
        else:
            self.place[:1].add_(self.place[1:])
            self.place[1:].fill_(1)

    def _layers(self, source: SourceBuffers, x: Tensor, rows: Tensor, first: int, last: int) -> Tensor:
        """Residuals x [width, D] at positions `rows` through layers first..last-1: `t5.run_layers`, fixed shapes."""
        weights, shape, do = self.weights, self.weights.shape, self.operations
        bias = self.bias.index_select(1, rows)  # [H, width, capacity], -inf on what is not yet written
        product: Tensor | None = None  # what is not yet added to x
        for i in range(first, last):
            layer = weights.decoder[i]
            x, norm = do.normed(x, product, shape.eps, layer.qkv.dtype)
            qkv = t5.split_heads(do.times(norm, layer.qkv), 3, shape.heads)
            self.cache[i].index_copy_(2, rows, qkv[1:])
            keys, values = self.cache[i, :, :, : self.capacity].unbind(0)
            product = do.times(do.attend(qkv[0], keys.transpose(1, 2), values, bias), layer.o)
            x, norm = do.normed(x, product, shape.eps, layer.cross_q.dtype)
            (q,) = t5.split_heads(do.times(norm, layer.cross_q), 1, shape.heads)
            mixed = do.attend(q, source.cross_keys[i], source.cross_values[i], source.mask)
            x, norm = do.normed(x, do.times(mixed, layer.cross_o), shape.eps, layer.wi.dtype)
            product = do.times(do.gate(do.times(norm, layer.wi), shape).to(layer.wo.dtype), layer.wo)
        return x if product is None else product.to(x.dtype).add_(x)
