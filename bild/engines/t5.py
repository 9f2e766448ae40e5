"""T5 and mT5 as plain functions over tensors, without modules: the arithmetic of `fused` and `graph`.

Sources: Raffel et al. 2020 (T5 v1.0: ReLU, head tied to the embedding and scaled by d_model**-0.5), the T5 v1.1 and
mT5 checkpoints (gated GELU, a head of their own, no scale). No biases, no 1/sqrt(d) in attention, RMS norms, and one
table of relative-position biases per stack. Numbers follow transformers' `modeling_t5`.

Shapes: D width, H heads, K key size, F feed-forward, V vocabulary, S source positions, k new positions, n cached ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.activations import ACT2FN

from bild.engines.bridge import BRIDGE
from bild.engines.kernels import UNMEASURED, Kernels
from bild.engines.layouts import Matrix
from bild.errors import BildError

_WITH_WEIGHTS = ("prelu", "xielu")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {n: ACT2FN[n] for n in ACT2FN if n not in _WITH_WEIGHTS} | {
    "relu": torch.relu_,  # in place: nobody else has what it is given
    "gelu_new": partial(F.gelu, approximate="tanh"),
    **dict.fromkeys(("silu", "swish"), F.silu),
}


@dataclass(frozen=True)
class Shape:
    """The parts of a checkpoint's configuration that the functions below need."""

    heads: int
    key_size: int
    eps: float
    gated: bool
    activation: Callable[[Tensor], Tensor]
    buckets: int
    max_distance: int
    head_scale: float

    @staticmethod
    def of(config: Any) -> Shape:
        """Read a T5Config or MT5Config. The head is scaled where `scale_decoder_outputs` says so, and only there."""
        if config.dense_act_fn not in ACTIVATIONS:
            raise BildError(
                f"The checkpoint's activation {config.dense_act_fn} is not known to engine=fused, which knows those of "
                "the library that have no weights: use engine=hf."
            )
        return Shape(
            heads=config.num_heads,
            key_size=config.d_kv,
            eps=config.layer_norm_epsilon,
            gated=config.is_gated_act,
            activation=ACTIVATIONS[config.dense_act_fn],
            buckets=config.relative_attention_num_buckets,
            max_distance=config.relative_attention_max_distance,
            head_scale=config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", False) else 1.0,
        )


@dataclass(frozen=True)
class Layer:
    """One block. The gain of each norm is folded into the matrix that follows it."""

    qkv: Matrix  # [D, 3*H*K]
    o: Matrix  # [H*K, D]
    wi: Matrix  # [D, F], gated: [D, 2*F]
    wo: Matrix  # [F, D]


@dataclass(frozen=True)
class DecoderLayer(Layer):
    """A block of the decoder; its cross-attention's keys and values are in `Weights.cross_kv`."""

    cross_q: Matrix  # [D, H*K]
    cross_o: Matrix  # [H*K, D]


@dataclass(frozen=True)
class Encoder:
    """An encoder, of one model or of both models of a pair."""

    shape: Shape
    embed: Tensor  # [V, D]
    layers: tuple[Layer, ...]
    gain: Tensor  # [D]
    bias: Tensor  # [buckets, H]
    kept: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict, compare=False)

    def position_bias(self, length: int, dtype: torch.dtype) -> Tensor:
        """Return the biases of a source's positions, [H, length, length]; those of short sources are kept."""
        if (bias := self.kept.get((length, dtype))) is None:
            bias = position_bias(self.bias, length, self.shape, bidirectional=True).to(dtype)
            if length <= 128 or (length <= 256 and len(self.kept) < 64):  # captions repeat lengths, articles do not
                self.kept[length, dtype] = bias
        return bias

    def states(self, source: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Encode token ids: [S, D]."""
        return encode(self, torch.tensor(source, device=self.embed.device), self.position_bias(len(source), dtype))


@dataclass(frozen=True)
class Weights:
    """A whole model, ready for the functions below."""

    shape: Shape
    kernels: Kernels
    embed: Tensor  # [V, D]
    encoder: Encoder
    decoder: tuple[DecoderLayer, ...]
    decoder_gain: Tensor  # [D], the head's scale included
    decoder_bias: Tensor  # [buckets, H]
    cross_kv: Matrix  # [D of the encoder, layers*2*H*K]
    head: Matrix  # [D, V]

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.embed.device


def prepare(
    state: Mapping[str, Tensor],
    config: Any,
    dtype: torch.dtype,
    vocabulary: int,
    kernels: Kernels = UNMEASURED,
    encoder: Encoder | None = None,
) -> Weights:
    """Lay out a checkpoint's `state_dict` for decoding in `dtype`; rows of the head from `vocabulary` on are dropped.

    `kernels`: the kinds of product, which decide on the layouts. `encoder`: another model's, which this one reads
    through its bridge; as the keys and values of the source are linear in its states, they have the bridge within.

    The second feed-forward matrix's products overflow in fp16 (T5 was trained in bf16), so their dtype is fp32. On a
    GPU the matrix itself is in fp16; elsewhere, as in the library, it is in fp32.
    """
    laid = _Layouts(state, Shape.of(config), dtype, vocabulary, kernels)
    embed = state["shared.weight"].to(dtype)
    return Weights(
        shape=laid.shape,
        kernels=kernels,
        embed=embed,
        encoder=encoder or laid.encoder(config.num_layers, embed),
        decoder=tuple(laid.decoder_layer(i) for i in range(config.num_decoder_layers)),
        decoder_gain=state["decoder.final_layer_norm.weight"].float() * laid.shape.head_scale,
        decoder_bias=laid.bias("decoder"),
        cross_kv=laid.matrix(*cross_names(config.num_decoder_layers), per_source=True),
        head=laid.matrix("lm_head"),
    )


@dataclass(frozen=True)
class _Layouts:
    """The parts of a checkpoint, as `prepare` lays them out."""

    state: Mapping[str, Tensor]
    shape: Shape
    dtype: torch.dtype
    vocabulary: int
    kernels: Kernels

    def matrix(self, *names: str, gain: str | None = None, wo: bool = False, per_source: bool = False) -> Matrix:
        """Put weights [out, in] side by side, as one [in, sum of outs]."""
        rows = side_by_side(self.state, names)[: self.vocabulary if names == ("lm_head",) else None]
        if per_source and BRIDGE in self.state:
            rows = rows @ self.state[BRIDGE].float()
        if gain is not None:
            rows = rows * self.state[f"{gain}.weight"].float()
        kinds = self.kernels.of(*reversed(rows.shape), encoder=per_source or names[0].startswith("encoder"))
        if not wo or self.dtype != torch.float16:
            return Matrix.of(rows.to(self.dtype), kinds)
        return Matrix.of(rows.to(self.dtype), kinds, torch.float32) if narrow_wo(rows.device) else Matrix.of(rows)

    def block(self, stack: str, i: int, feed_forward: int) -> dict[str, Matrix]:
        layer = f"{stack}.block.{i}.layer"
        attention, dense = f"{layer}.0.SelfAttention", f"{layer}.{feed_forward}.DenseReluDense"
        wi = [f"{dense}.wi_0", f"{dense}.wi_1"] if self.shape.gated else [f"{dense}.wi"]
        return {
            "qkv": self.matrix(*(f"{attention}.{p}" for p in "qkv"), gain=f"{layer}.0.layer_norm"),
            "o": self.matrix(f"{attention}.o"),
            "wi": self.matrix(*wi, gain=f"{layer}.{feed_forward}.layer_norm"),
            "wo": self.matrix(f"{dense}.wo", wo=True),
        }

    def decoder_layer(self, i: int) -> DecoderLayer:
        cross = f"decoder.block.{i}.layer.1"
        return DecoderLayer(
            **self.block("decoder", i, 2),
            cross_q=self.matrix(f"{cross}.EncDecAttention.q", gain=f"{cross}.layer_norm"),
            cross_o=self.matrix(f"{cross}.EncDecAttention.o"),
        )

    def encoder(self, layers: int, embed: Tensor) -> Encoder:
        made = tuple(Layer(**self.block("encoder", i, 1)) for i in range(layers))
        gain = self.state["encoder.final_layer_norm.weight"].float()
        return Encoder(self.shape, embed, made, gain, self.bias("encoder"))

    def bias(self, stack: str) -> Tensor:
        return self.state[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].float()


def weights_of(model: Any, dtype: torch.dtype, vocabulary: int, kernels: Kernels = UNMEASURED) -> Weights:
    """Return the weights of a model laid out: its own, which it shares, or those of a library's module, made now."""
    if hasattr(model, "weights"):
        shared: Weights = model.weights(dtype, vocabulary, kernels)
        return shared
    return prepare(model.state_dict(), model.config, dtype, vocabulary, kernels)


def first_layers(weights: Weights, state: Mapping[str, Tensor], layers: int) -> Weights:
    """Return the model of the first decoder layers over the same tensors; only `cross_kv` is of its own."""
    rows = side_by_side(state, cross_names(layers)).to(weights.cross_kv.dtype)
    kinds = weights.kernels.of(rows.shape[1], rows.shape[0], encoder=True)
    return replace(weights, decoder=weights.decoder[:layers], cross_kv=Matrix.of(rows, kinds))


def side_by_side(state: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Return [out, in] weights as one [sum of outs, in], in fp32."""
    return torch.cat([state[f"{name}.weight"].float() for name in names])


def cross_names(layers: int) -> list[str]:
    """Return the names of the matrices that make the keys and values of the source, by layer."""
    return [f"decoder.block.{i}.layer.1.EncDecAttention.{p}" for i in range(layers) for p in "kv"]


def narrow_wo(device: torch.device) -> bool:
    """Return whether products in fp32 of a matrix in fp16 are to be had, so that `wo` need not be read in fp32."""
    return device.type == "cuda" and hasattr(torch.ops.aten.mm, "dtype")


def bucket(distance: Tensor, shape: Shape, *, bidirectional: bool) -> Tensor:
    """Return the bucket of a relative position (key minus query), any shape of int64 (Raffel et al. 2020, section 2.1).

    Half of the buckets are exact, the other half grow by the logarithm up to `max_distance`; computed in fp32 whatever
    the model's dtype, since a rounded logarithm moves positions into other buckets.
    """
    buckets, first = shape.buckets, torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        first = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    far = torch.log(distance.float() / exact) / math.log(shape.max_distance / exact) * (buckets - exact)
    far = (exact + far.clamp(min=0).long()).clamp(max=buckets - 1)
    return first + torch.where(distance < exact, distance, far)


def position_bias(table: Tensor, length: int, shape: Shape, *, bidirectional: bool) -> Tensor:
    """Make biases [H, length, length] (query, key), fp32; without `bidirectional`, later keys are masked by -inf."""
    distance = torch.arange(1 - length, length, device=table.device)
    by_distance = F.embedding(bucket(distance, shape, bidirectional=bidirectional), table)
    if not bidirectional:
        by_distance[length:] = -math.inf
    # Windows of the biases of all distances, the last query's first.
    return by_distance.t().unfold(1, length, 1).flip(1).contiguous()


def normed_product(x: Tensor, w: Matrix, eps: float) -> Tensor:
    """Return the RMS norm of x [k, D] (its gain is in w), times w [D, out]."""
    return w.times(rms_norm(x, eps).to(w.dtype))


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Divide x [k, D] by the root of its mean square, in fp32."""
    x = x.float()
    if x.is_cuda:
        return F.rms_norm(x, x.shape[-1:], None, eps)  # one kernel there; on a CPU slower than its parts
    squares = (x * x).sum(-1, keepdim=True)
    return x * squares.mul_(1.0 / x.shape[-1]).add_(eps).rsqrt_()


def add_product(x: Tensor, a: Tensor, w: Matrix) -> Tensor:
    """Return x [k, D] plus a [k, in] times w [in, D]; the residual stays in its own dtype."""
    return w.times(a.to(w.dtype)).to(x.dtype).add_(x)


def attend(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Mix values by attention: q [H, k, K], keys [H, K, n], values [H, n, K], bias [H, k, n] -> [k, H*K]; no scale."""
    scores = torch.bmm(q, keys) if bias is None else torch.baddbmm(bias, q, keys)
    mixed = torch.bmm(torch.softmax(scores, dim=-1), values)
    return mixed.transpose(0, 1).reshape(q.shape[1], -1)


def split_heads(x: Tensor, parts: int, heads: int) -> Tensor:
    """Divide by parts and heads: [k, parts*H*K] -> [parts, H, k, K]."""
    return x.view(x.shape[0], parts, heads, -1).permute(1, 2, 0, 3)


def gate(h: Tensor, shape: Shape) -> Tensor:
    """Activate h [k, F], or the first half of h [k, 2*F] times the other; h may be overwritten."""
    if not shape.gated:
        return shape.activation(h)
    first, second = h.chunk(2, dim=-1)
    return shape.activation(first) * second


def feed_forward(x: Tensor, layer: Layer, shape: Shape) -> Tensor:
    """Return x [k, D] plus its feed-forward."""
    return add_product(x, gate(normed_product(x, layer.wi, shape.eps), shape), layer.wo)


def encode(encoder: Encoder, ids: Tensor, bias: Tensor) -> Tensor:
    """Turn source ids [S], or [n, S], and biases [H, S, S], or [n, H, S, S], into encoder states [n*S, D], fp32."""
    shape, by_source = encoder.shape, (-1, ids.shape[-1], 3, encoder.shape.heads, encoder.shape.key_size)
    x = embed(encoder, ids.flatten())
    for layer in encoder.layers:
        q, k, v = normed_product(x, layer.qkv, shape.eps).view(by_source).permute(2, 0, 3, 1, 4)
        if ids.dim() > 1 or (ids.shape[0] >= _LONG and not x.is_cuda):
            mask = bias if bias.dim() == 4 else bias[None]  # of three dimensions it would go a slower way
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
            mixed = mixed.transpose(1, 2).reshape(x.shape[0], -1)
        else:
            mixed = attend(q[0], k[0].transpose(1, 2), v[0], bias)
        x = add_product(x, mixed, layer.o)
        x = feed_forward(x, layer, shape)
    return rms_norm(x, shape.eps) * encoder.gain


_LONG = 256
"""Source positions from which a CPU is the faster one without all scores in memory at once."""


def cross_attention(weights: Weights, states: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Turn encoder states [S, D] into keys [H, K, S] and values [H, S, K] of every decoder layer, once per source."""
    kv = cross_keys_values(weights, states, 1)[:, :, 0]
    keys, values = kv[:, 0].transpose(2, 3).contiguous(), kv[:, 1].contiguous()
    return keys.unbind(0), values.unbind(0)


def cross_keys_values(weights: Weights, states: Tensor, sources: int) -> Tensor:
    """Turn encoder states [n*S, D] into the keys and values of every decoder layer, [layers, 2, n, H, S, K]."""
    shape = weights.shape
    kv = weights.cross_kv.times(states.to(weights.cross_kv.dtype))
    kv = kv.view(sources, -1, len(weights.decoder), 2, shape.heads, shape.key_size)
    return kv.permute(2, 3, 0, 4, 1, 5)


@dataclass(frozen=True)
class State:
    """A decoder's knowledge of one source and of the text so far."""

    cache: Tensor  # [layers, 2, H, capacity, K], keys and values of the positions that were fed
    cross_keys: tuple[Tensor, ...]  # layers x [H, K, S]
    cross_values: tuple[Tensor, ...]  # layers x [H, S, K]
    bias: Tensor  # [H, capacity, capacity], causal
    residuals: Tensor  # [capacity, D], behind layer `exit` where that is not 0
    exit: int = 0


def decode(weights: Weights, state: State, ids: Tensor, n: int, want: int) -> Tensor:
    """Feed ids [k] at positions n.. of `state.cache`, return logits [want, V] after the last `want`, in fp32."""
    x = run_layers(weights, state, embed(weights, ids), n, 0, len(weights.decoder))
    return logits(weights, x[-want:])


def embed(weights: Weights | Encoder, ids: Tensor) -> Tensor:
    """Return token ids [k] as the residual stream [k, D], in fp32 whatever the weights are (as the library's fp16)."""
    return F.embedding(ids, weights.embed).float()


def run_layers(weights: Weights, state: State, x: Tensor, n: int, first: int, last: int) -> Tensor:
    """Take the residual x [k, D] of positions n..n+k-1 through the decoder layers first..last-1."""
    shape, end = weights.shape, n + x.shape[0]
    bias = state.bias[:, n:end, :end]
    new, keys, values = views(state.cache[first:last], n, end)
    for i, layer in enumerate(weights.decoder[first:last]):
        qkv = split_heads(normed_product(x, layer.qkv, shape.eps), 3, shape.heads)
        new[i].copy_(qkv[1:])
        x = add_product(x, attend(qkv[0], keys[i], values[i], bias), layer.o)
        (q,) = split_heads(normed_product(x, layer.cross_q, shape.eps), 1, shape.heads)
        x = add_product(x, attend(q, state.cross_keys[first + i], state.cross_values[first + i], None), layer.cross_o)
        x = feed_forward(x, layer, shape)
    return x


def logits(weights: Weights, x: Tensor) -> Tensor:
    """Take the residual [k, D] behind some layer through the final norm and the head: [k, V], fp32."""
    x = rms_norm(x, weights.shape.eps) * weights.decoder_gain
    return weights.head.times(x.to(weights.head.dtype)).float()


def views(cache: Tensor, n: int, end: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return by layer the places of positions n..end-1 [2, H, k, K], all keys [H, K, end] and values [H, end, K]."""
    seen = cache.narrow(3, 0, end)
    keys, values = seen.unbind(1)
    return cache.narrow(3, n, end - n).unbind(0), keys.transpose(2, 3).unbind(0), values.unbind(0)
