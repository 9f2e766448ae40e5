"""The work of passes counted from the shapes of models: operations, and bytes read. Arithmetic only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True)
class PassWork:
    """The work of one pass, or of several."""

    bytes: int
    """Read: matrices, head, keys and values of the source and of the cached positions. Writes are left out."""
    flops: int
    """A multiplication and an addition are two."""

    @staticmethod
    def total(works: Iterable[PassWork]) -> PassWork:
        """Return the work of all of them."""
        found = list(works)
        return PassWork(sum(each.bytes for each in found), sum(each.flops for each in found))


@dataclass(frozen=True)
class Passes:
    """Sums over passes of one model's decoder on one text, which their work follows from.

    `count` passes fed `positions` new ones, of which `asked` were asked for logits. `cached` sums the positions that
    lay in the cache before each pass, `seen` those that each new one sees in self-attention, itself included.
    """

    count: int
    positions: int
    asked: int
    cached: int
    seen: int

    @staticmethod
    def of(passes: Iterable[tuple[int, int, int]]) -> Passes:
        """Sum up passes of (positions cached before, new positions, positions asked for logits)."""
        count = positions = asked = cached = seen = 0
        for before, width, want in passes:
            count, positions, asked, cached = count + 1, positions + width, asked + want, cached + before
            seen += width * before + width * (width + 1) // 2
        return Passes(count, positions, asked, cached, seen)

    @staticmethod
    def one_by_one(tokens: int) -> Passes:
        """Return the passes that write so many tokens one after another behind the start token."""
        return Passes(tokens, tokens, tokens, tokens * (tokens - 1) // 2, tokens * (tokens + 1) // 2)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a T5 or mT5 that its work follows from."""

    layers: int
    """Of the decoder."""
    width: int  # D
    inner: int  # heads * key size
    feed_forward: int  # F
    matrices_in: int
    """Matrices of [D, F]: 1, gated 2."""
    vocabulary: int
    wide_wo: bool = False
    """Whether fp16 leaves the second feed-forward matrix in fp32."""
    encoder_layers: int = 0

    @staticmethod
    def of(config: Any, vocabulary: int, *, wide_wo: bool = False) -> Sizes:
        """Read the library's configuration; `vocabulary` is the number of rows of the head that are used."""
        return Sizes(
            layers=config.num_decoder_layers,
            width=config.d_model,
            inner=config.num_heads * config.d_kv,
            feed_forward=config.d_ff,
            matrices_in=2 if config.is_gated_act else 1,
            vocabulary=vocabulary,
            wide_wo=wide_wo,
            encoder_layers=config.num_layers,
        )

    @property
    def head(self) -> int:
        """Return the number of weights of the head."""
        return self.vocabulary * self.width

    @property
    def matrices(self) -> int:
        """Return the number of weights that every pass multiplies by: the layers' and the head's.

        Self-attention has q, k, v and o; cross-attention q and o, since the source's keys and values are made once.
        """
        layer = 6 * self.width * self.inner + (self.matrices_in + 1) * self.width * self.feed_forward
        return self.layers * layer + self.head

    @property
    def source_matrices(self) -> int:
        """Return the number of weights that make a source's keys and values in the decoder's cross-attention."""
        return 2 * self.layers * self.width * self.inner

    @property
    def encoder(self) -> int:
        """Return the number of weights of the encoder's layers."""
        layer = 4 * self.width * self.inner + (self.matrices_in + 1) * self.width * self.feed_forward
        return self.encoder_layers * layer

    def work(self, width: int, source: int, cached: int, *, weights: str, states: str) -> PassWork:
        """Return the work of a pass over `width` new positions behind `cached` ones, on a source of `source` positions.

        `weights` and `states` (keys, values, embeddings) name their dtypes. Every new position sees all before it and
        itself, and is asked for its logits. Norms, softmax and biases are a thousandth of it and left out.
        """
        return self.work_of(Passes.of([(cached, width, width)]), source, weights=weights, states=states)

    def work_of(self, passes: Passes, source: int, *, weights: str, states: str) -> PassWork:
        """Return the work of passes on one source; see `work`."""
        read = passes.count * self._bytes(self.matrices, self.layers, weights)
        memory = 2 * self.layers * self.inner * (passes.count * source + passes.cached)
        read += (memory + passes.positions * self.width) * ELEMENT_BYTES[states]
        products = passes.positions * (self.matrices - self.head) + passes.asked * self.head
        attended = 2 * self.layers * self.inner * (passes.positions * source + passes.seen)
        return PassWork(read, 2 * (products + attended))

    def encoding(self, source: int, *, weights: str, states: str) -> PassWork:
        """Return the work of encoding a source, its keys and values for the decoder included."""
        matrices = self.encoder + self.source_matrices
        read = self._bytes(matrices, self.encoder_layers, weights) + source * self.width * ELEMENT_BYTES[states]
        return PassWork(read, 2 * source * (matrices + 2 * self.encoder_layers * self.inner * source))

    def _bytes(self, matrices: int, layers: int, dtype: str) -> int:
        wider = layers * self.width * self.feed_forward if self.wide_wo and dtype == "fp16" else 0
        return matrices * ELEMENT_BYTES[dtype] + wider * (ELEMENT_BYTES["fp32"] - ELEMENT_BYTES["fp16"])


@dataclass(frozen=True)
class TextsWork:
    """The work of some texts by what it is done for: both encoders, the small decoder and the large one."""

    encoders: PassWork
    small: PassWork
    large: PassWork

    @property
    def total(self) -> PassWork:
        """Return all of it."""
        return PassWork.total([self.encoders, self.small, self.large])


@dataclass(frozen=True)
class Work:
    """The work of a point's timed examples, and of vanilla decoding of the same: FLOPs, and bytes read from memory."""

    method: TextsWork
    vanilla: TextsWork

    @property
    def ratios(self) -> tuple[float, float]:
        """Return the method's (FLOPs, bytes) over vanilla's."""
        own, base = self.method.total, self.vanilla.total
        return own.flops / base.flops, own.bytes / base.bytes


Fed = tuple[int, Passes | None, Passes | None]
"""A text's (source tokens, passes of the small model, passes of the large one); None for a model that was not asked."""


def texts_work(texts: Sequence[Fed], small: Sizes, large: Sizes, dtype: str) -> TextsWork:
    """Return the work of texts by two models whose weights and states are of one dtype."""
    kinds = {"weights": dtype, "states": dtype}
    encoders, decoders = list[PassWork](), {"small": list[PassWork](), "large": list[PassWork]()}
    for source, *both in texts:
        for works, sizes, passes in zip(decoders.values(), (small, large), both, strict=True):
            if passes is not None and passes.count:
                encoders.append(sizes.encoding(source, **kinds))
                works.append(sizes.work_of(passes, source, **kinds))
    return TextsWork(*map(PassWork.total, (encoders, *decoders.values())))
