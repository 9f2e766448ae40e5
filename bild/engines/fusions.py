"""Engine `graph-triton`: what lies between the products of a pass, in one Triton kernel each.

A launch-bound pass pays per kernel. Beside the products with weights, `Operations` (`bild.engines.graph_programs`)
takes 16 kernels a layer in fp32 and 21 in fp16 (T5-large, `scripts/gpu_budget.py`). Here they are 7: residual, norm and
cast; attention over cached keys, softmax included; the activation and its gate. The head's choice, nll and rank take
two more, without a softmax over the vocabulary. Sums are in fp32 in any dtype.

Triton comes with torch's builds for CUDA, and compiles a kernel when it is first met (in `prepare`, before the clock).
On a CPU its interpreter runs the same kernels, slowly (TRITON_INTERPRET=1): so the tests hold them to `Operations`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bild.engines import t5
from bild.engines.graph_programs import Operations
from bild.engines.layouts import TRITON, Matrix
from bild.engines.triton_product import multiply

_AT_ONCE = 256
"""Keys that an attention looks at together: all of them for most texts, since every further look waits for memory."""
_ENTRIES = 1024
"""Entries of a feed-forward that a program activates."""
_SPLIT = 4096
"""Entries of the vocabulary that a program looks at: enough programs to fill a GPU."""


class Fusions(Operations):
    """The same operations, fused."""

    def normed(
        self, x: Tensor, product: Tensor | None, eps: float, dtype: torch.dtype, gain: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Operations.normed`. The sum takes the place of x."""
        return x, torch.ops.bild.normed(x, product, eps, dtype, gain)

    def times(self, x: Tensor, matrix: Matrix) -> Tensor:
        """See `Operations.times`."""
        return multiply(x, matrix) if matrix.kind(x.shape[0]) == TRITON else matrix.times(x)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """See `Operations.attend`."""
        mixed: Tensor = torch.ops.bild.attend(q, keys, values, bias)
        return mixed

    def gate(self, h: Tensor, shape: t5.Shape) -> Tensor:
        """See `Operations.gate`."""
        if shape.activation not in _ACTIVATIONS:
            return super().gate(h, shape)
        gated: Tensor = torch.ops.bild.gate(h, _ACTIVATIONS.index(shape.activation), shape.gated)
        return gated

    def choose(self, logits: Tensor, ids: Tensor, outputs: Tensor, ranks: bool) -> Tensor:
        """See `Operations.choose`."""
        choice: Tensor = torch.ops.bild.choose(logits, ids, outputs, ranks)
        return choice


_ACTIVATIONS = [t5.ACTIVATIONS[name] for name in ("relu", "gelu_new", "silu")]


@torch.library.custom_op("bild::normed", mutates_args=("x",))
def _normed(x: Tensor, product: Tensor | None, eps: float, dtype: torch.dtype, gain: Tensor | None) -> Tensor:
    """Add a product to x [k, D], fp32, in place, and return the RMS norm in `dtype`, times a gain."""
    count, width = x.shape
    if product is None:
        x = x.contiguous()  # as all is on a GPU; a CPU's products may have room behind each row
    else:
        product = product.contiguous()
    y = torch.empty((count, width), dtype=dtype, device=x.device)
    _norm_rows[(count,)](
        x,
        x if product is None else product,
        x if gain is None else gain,
        y,
        width,
        eps,
        ADD=product is not None,
        GAIN=gain is not None,
        BLOCK=triton.next_power_of_2(width),
    )
    return y


@_normed.register_fake
def _(x: Tensor, product: Tensor | None, eps: float, dtype: torch.dtype, gain: Tensor | None) -> Tensor:
    return torch.empty_like(x, dtype=dtype)


@triton.jit
def _norm_rows(x, product, gain, y, width, eps, ADD: tl.constexpr, GAIN: tl.constexpr, BLOCK: tl.constexpr) -> None:
    at = tl.arange(0, BLOCK)
    inside = at < width
    row = tl.program_id(0) * width + at
    value = tl.load(x + row, mask=inside, other=0.0)
    if ADD:
        value += tl.load(product + row, mask=inside, other=0.0).to(tl.float32)
        tl.store(x + row, value, mask=inside)
    value = value / tl.sqrt(tl.sum(value * value) / width + eps)
    if GAIN:
        value *= tl.load(gain + at, mask=inside, other=0.0)
    tl.store(y + row, value.to(y.dtype.element_ty), mask=inside)


@torch.library.custom_op("bild::attend", mutates_args=())
def _attend(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Mix values by attention: q [H, k, K], keys [H, K, n], values [H, n, K], bias [H or 1, k or 1, n] -> [k, H*K]."""
    heads, count, size = q.shape
    mixed = torch.empty((count, heads * size), dtype=q.dtype, device=q.device)
    over = bias.expand(heads, count, bias.shape[2])
    _attend_row[(heads, count)](
        q,
        keys,
        values,
        over,
        mixed,
        keys.shape[2],
        size,
        *q.stride(),
        *keys.stride(),
        *values.stride(),
        *over.stride(),
        SIZE=triton.next_power_of_2(size),
        BLOCK=(block := min(_AT_ONCE, triton.next_power_of_2(keys.shape[2]))),
        LOOKS=triton.cdiv(keys.shape[2], block),
        num_warps=4,
    )
    return mixed


@_attend.register_fake
def _(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    return q.new_empty((q.shape[1], q.shape[0] * q.shape[2]))


@triton.jit
def _attend_row(
    q,
    keys,
    values,
    bias,
    mixed,
    others,
    size,
    q_head,
    q_row,
    q_at,
    key_head,
    key_at,
    key_other,
    value_head,
    value_other,
    value_at,
    bias_head,
    bias_row,
    bias_other,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    LOOKS: tl.constexpr,
) -> None:
    head, row = tl.program_id(0), tl.program_id(1)
    at = tl.arange(0, SIZE)
    real = at < size
    query = tl.load(q + head * q_head + row * q_row + at * q_at, mask=real, other=0.0).to(tl.float32)
    best = tl.full((), float("-inf"), tl.float32)
    total = tl.zeros((), tl.float32)
    sums = tl.zeros((SIZE,), tl.float32)
    for look in tl.static_range(LOOKS):
        other = look * BLOCK + tl.arange(0, BLOCK)
        there = other < others
        both = there[:, None] & real[None, :]
        place = keys + head * key_head + other[:, None] * key_other + at[None, :] * key_at
        key = tl.load(place, mask=both, other=0.0)
        place = values + head * value_head + other[:, None] * value_other + at[None, :] * value_at
        value = tl.load(place, mask=both, other=0.0)  # now, so that one wait is enough
        place = bias + head * bias_head + row * bias_row + other * bias_other
        over = tl.load(place, mask=there, other=float("-inf")).to(tl.float32)
        score = tl.sum(key.to(tl.float32) * query[None, :], 1) + over
        higher = tl.maximum(best, tl.max(score))
        # A block that is masked as a whole has no best: minus infinity from itself would be no number.
        origin = tl.where(higher == float("-inf"), 0.0, higher)
        weight, kept = tl.exp(score - origin), tl.exp(best - origin)
        total = total * kept + tl.sum(weight)
        sums = sums * kept + tl.sum(weight[:, None] * value.to(tl.float32), 0)
        best = higher
    place = mixed + (row * tl.num_programs(0) + head) * size + at
    tl.store(place, (sums / total).to(mixed.dtype.element_ty), mask=real)


@torch.library.custom_op("bild::gate", mutates_args=())
def _gate(h: Tensor, activation: int, gated: bool) -> Tensor:
    """Activate h [k, F], or the first half of h [k, 2*F] times the other."""
    count, whole = h.shape
    width = whole // 2 if gated else whole
    y = torch.empty((count, width), dtype=h.dtype, device=h.device)
    grid = (count, triton.cdiv(width, _ENTRIES))
    _activate[grid](h.contiguous(), y, width, whole, ACTIVATION=activation, GATED=gated, BLOCK=_ENTRIES)
    return y


@_gate.register_fake
def _(h: Tensor, activation: int, gated: bool) -> Tensor:
    return h.new_empty((h.shape[0], h.shape[1] // 2 if gated else h.shape[1]))


@triton.jit
def _activate(h, y, width, whole, ACTIVATION: tl.constexpr, GATED: tl.constexpr, BLOCK: tl.constexpr) -> None:
    row, at = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    value = tl.load(h + row * whole + at, mask=inside, other=0.0).to(tl.float32)
    if ACTIVATION == 0:
        value = tl.where(value < 0.0, 0.0, value)  # NaN stays NaN, as in torch
    elif ACTIVATION == 1:
        inner = 0.7978845608028654 * (value + 0.044715 * value * value * value)
        value = value * tl.sigmoid(2.0 * inner)  # (1 + tanh) / 2
    else:
        value = value * tl.sigmoid(value)
    if GATED:
        value *= tl.load(h + row * whole + width + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row * width + at, value.to(y.dtype.element_ty), mask=inside)


@torch.library.custom_op("bild::choose", mutates_args=("outputs",))
def _choose(logits: Tensor, ids: Tensor, outputs: Tensor, ranks: bool) -> Tensor:
    """Write choice, its nll, and nll and rank of the token fed next to outputs [4, most]; return the choices [k]."""
    count, vocabulary = logits.shape
    splits = triton.cdiv(vocabulary, _SPLIT)
    parts = torch.empty((4, count, splits), dtype=torch.float32, device=logits.device)
    choice = torch.empty(count, dtype=torch.long, device=logits.device)
    _look[(count, splits)](logits, ids, parts, vocabulary, count, RANKS=ranks, BLOCK=_SPLIT)
    _settle[(count,)](
        logits,
        ids,
        parts,
        outputs,
        choice,
        vocabulary,
        count,
        outputs.shape[1],
        splits,
        RANKS=ranks,
        BLOCK=triton.next_power_of_2(splits),
    )
    return choice


@_choose.register_fake
def _(logits: Tensor, ids: Tensor, outputs: Tensor, ranks: bool) -> Tensor:
    return ids.new_empty(logits.shape[0])


@triton.jit
def _look(logits, ids, parts, vocabulary, count, RANKS: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """Find the best entry of a split, the sum of all relative to it, and how many are above the token fed next."""
    row, split, splits = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    at = split * BLOCK + tl.arange(0, BLOCK)
    inside = at < vocabulary
    value = tl.load(logits + row * vocabulary + at, mask=inside, other=float("-inf"))
    best = tl.max(value)
    origin = tl.where(best == float("-inf"), 0.0, best)
    place = parts + row * splits + split
    step = count * splits
    tl.store(place, best)
    tl.store(place + step, tl.min(tl.where(value == best, at, vocabulary)).to(tl.float32))  # exact below 2**24
    tl.store(place + 2 * step, tl.sum(tl.where(inside, tl.exp(value - origin), 0.0)))
    if RANKS and row + 1 < count:
        given = tl.load(logits + row * vocabulary + tl.load(ids + row + 1))
        tl.store(place + 3 * step, tl.sum((inside & (value > given)).to(tl.float32)))


@triton.jit
def _settle(
    logits, ids, parts, outputs, choice, vocabulary, count, most, splits, RANKS: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    """Put the splits of a row together."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < splits
    place = parts + row * splits + at
    step = count * splits
    bests = tl.load(place, mask=inside, other=float("-inf"))
    best = tl.max(bests)
    token = tl.min(tl.load(place + step, mask=inside & (bests == best), other=float("inf")))
    sums = tl.load(place + 2 * step, mask=inside, other=0.0)
    scale = tl.where(bests == float("-inf"), 0.0, tl.exp(bests - best))
    total = tl.log(tl.sum(sums * scale))
    tl.store(choice + row, token.to(tl.int64))
    tl.store(outputs + row, token)
    tl.store(outputs + most + row, total)
    if row + 1 < count:
        given = tl.load(logits + row * vocabulary + tl.load(ids + row + 1))
        tl.store(outputs + 2 * most + row, best + total - given)
        if RANKS:
            tl.store(outputs + 3 * most + row, tl.sum(tl.load(place + 3 * step, mask=inside, other=0.0)) + 1.0)
