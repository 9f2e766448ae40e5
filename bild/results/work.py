"""The work of passes counted from the shapes of models: operations, and bytes read. Arithmetic only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
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

    @staticmethod
    def total(passes: Iterable[Passes]) -> Passes:
        """Return the sums over all of them."""
        found = [astuple(each) for each in passes]
        return Passes(*map(sum, zip(*found, strict=True))) if found else Passes(0, 0, 0, 0, 0)


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
    reads: int | None = None
    """The width of the large model's encoder states, which it reads through a bridge in the place of an encoder."""

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
            reads=(getattr(config, "bild_bridge", None) or {}).get("width"),
        )

    @property
    def head(self) -> int:
        """Return the number of weights of the head."""
        return self.vocabulary * self.width

    @property
    def layer(self) -> int:
        """Return the number of weights of a decoder layer that every pass multiplies by.

        Self-attention has q, k, v and o; cross-attention q and o, since the source's keys and values are made once.
        """
        return 6 * self.width * self.inner + (self.matrices_in + 1) * self.width * self.feed_forward

    @property
    def matrices(self) -> int:
        """Return the number of weights that every pass multiplies by: the layers' and the head's."""
        return self.layers * self.layer + self.head

    @property
    def source_matrices(self) -> int:
        """Return the number of weights that make a source's keys and values; they have a bridge within."""
        return 2 * self.layers * (self.reads or self.width) * self.inner

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
        through = self.through(self.layers, passes, source, weights=weights, states=states)
        head = self.head_work(passes.count, passes.asked, weights)
        return PassWork.total([through, head, self.embedding(passes.positions, states)])

    def through(self, layers: int, passes: Passes, source: int, *, weights: str, states: str) -> PassWork:
        """Return the work of taking passes through so many decoder layers."""
        read = passes.count * self._bytes(layers * self.layer, layers, weights)
        read += 2 * layers * self.inner * (passes.count * source + passes.cached) * ELEMENT_BYTES[states]
        attended = 2 * self.inner * (passes.positions * source + passes.seen)
        return PassWork(read, 2 * layers * (passes.positions * self.layer + attended))

    def head_work(self, count: int, asked: int, weights: str) -> PassWork:
        """Return the work of the head, read `count` times, for the logits of `asked` positions in all."""
        return PassWork(count * self.head * ELEMENT_BYTES[weights], 2 * asked * self.head)

    def embedding(self, positions: int, states: str) -> PassWork:
        """Return the work of looking tokens up."""
        return PassWork(positions * self.width * ELEMENT_BYTES[states], 0)

    def encoding(self, source: int, *, weights: str, states: str) -> PassWork:
        """Return the work of encoding a source, its keys and values for the decoder included."""
        keys = PassWork(self._bytes(self.source_matrices, 0, weights), 2 * source * self.source_matrices)
        return PassWork.total(
            [keys] if self.reads else [keys, self.encoder_work(source, weights=weights, states=states)]
        )

    def encoder_work(self, source: int, *, weights: str, states: str) -> PassWork:
        """Return the work of the encoder alone."""
        read = self._bytes(self.encoder, self.encoder_layers, weights) + self.embedding(source, states).bytes
        return PassWork(read, 2 * source * (self.encoder + 2 * self.encoder_layers * self.inner * source))

    def early(self, layers: Sequence[int], asked: int, source: int, *, weights: str, states: str) -> PassWork:
        """Return the work of writing a text one token after another, of which each took so many layers (CALM).

        The head gave logits `asked` times. Where a token goes deeper than some before it, the keys and values of these
        are made first, in one product.
        """
        passed, made, products = list[Passes](), 0, 0
        for layer in range(self.layers):
            deep = [at for at, used in enumerate(layers) if used > layer]
            passed.append(Passes.of((at, 1, 0) for at in deep))
            gaps = [at - before - 1 for before, at in pairwise([-1, *deep])]
            made, products = made + sum(gaps), products + sum(gap > 0 for gap in gaps)
        pair = 2 * self.width * self.inner
        fill = PassWork(products * pair * ELEMENT_BYTES[weights], 2 * made * pair)
        through = self.through(1, Passes.total(passed), source, weights=weights, states=states)
        return PassWork.total(
            [through, fill, self.head_work(asked, asked, weights), self.embedding(len(layers), states)]
        )

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


@dataclass(frozen=True)
class Fed:
    """One text: its source's tokens, and the passes of both models; None for one that was not asked."""

    source: int
    small: Passes | None
    large: Passes | None
    exit: Passes | None = None
    """Those to an early-exit pair's exit, for either model; `small` then has the head alone, `large` the rest."""
    layers: Sequence[int] | None = None
    """Those that each token took, where some may be left out (CALM)."""


def texts_work(texts: Iterable[Fed], small: Sizes, large: Sizes, dtype: str) -> TextsWork:
    """Return the work of texts by two models whose weights and states are of one dtype."""
    works = [_text_work(text, small, large, {"weights": dtype, "states": dtype}) for text in texts]
    parts = ((work.encoders, work.small, work.large) for work in works)
    return TextsWork(*map(PassWork.total, zip(*parts, strict=True)))


def _text_work(text: Fed, small: Sizes, large: Sizes, kinds: dict[str, str]) -> TextsWork:
    """Return the work of one text. Models with one encoder start together, before either is asked for a pass."""
    none, dtype = PassWork(0, 0), kinds["weights"]
    if text.exit is not None and text.small is not None:
        above = text.large or Passes.total([])
        below = [large.through(small.layers, text.exit, text.source, **kinds)]
        below += [
            large.embedding(text.exit.positions, dtype),
            small.head_work(text.small.count, text.small.asked, dtype),
        ]
        rest = [large.through(large.layers - small.layers, above, text.source, **kinds)]
        rest += [large.head_work(above.count, above.asked, dtype)]
        return TextsWork(large.encoding(text.source, **kinds), PassWork.total(below), PassWork.total(rest))
    if text.layers is not None and text.large is not None:
        early = large.early(text.layers, text.large.asked, text.source, **kinds)
        return TextsWork(large.encoding(text.source, **kinds), none, early)
    bridged = small.reads is not None and text.small is not None
    encoders, decoders = list[PassWork](), list[PassWork]()
    for sizes, passes in ((small, text.small), (large, text.large)):
        asked = passes is not None and (passes.count > 0 or bridged)
        encoders.append(sizes.encoding(text.source, **kinds) if asked else none)
        decoders.append(sizes.work_of(passes, text.source, **kinds) if passes is not None else none)
    if bridged and text.large is None:
        encoders.append(large.encoder_work(text.source, **kinds))
    return TextsWork(PassWork.total(encoders), *decoders)


def rates(tokens: int, large_passes: int, fallbacks: int, rollbacks: int) -> dict[str, Any]:
    """Return the rates of `Counts`: generated tokens over large passes (0 without any), and per generated token."""
    return {
        "tokens_per_large_pass": tokens / large_passes if large_passes else 0.0,
        "fallback_rate": fallbacks / tokens,
        "rollback_rate": rollbacks / tokens,
    }
