"""From the times of passes to prices: tables by width, slopes by place and source, and what lies between the passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bild.errors import BildError
from bild.metrics.claims import Floats
from bild.progress import timestamp
from bild.results.predicted import Agreement
from bild.results.prices import PRICES_SCHEMA, PassPrice, PriceError, Prices, has_one_encoder

_ENOUGH = 4
"""Passes of one width from which it has an entry of its own."""
_SPIKE = 20.0
"""A pass of so many times the median of its kind is no pass any more (a laptop was shut): it counts as this many.

Lesser spikes stay: they are what passes cost on a machine that others use too, and measured points have them as well.
"""
_KNOTS = 8
_FEW = 3
"""Measured points from which their own errors are better known than those of calibration texts."""
_LEAST_ERROR = 0.02
_UNMEASURED = 0.05
"""The least error of prices that no measured point has confirmed yet."""


@dataclass(frozen=True)
class Call:
    """One call of an engine: `feed` new positions behind `before` cached ones, then `steps` - 1 more one by one."""

    feed: int
    steps: int
    before: int
    ns: int


@dataclass
class TimedText:
    """One text decoded live, with every call of both models in order."""

    setting: str
    source: int
    """Tokens."""
    total_ns: int
    encode_ns: dict[str, int]
    rest_ns: int
    """In the policy and the driver, between the calls."""
    calls: dict[str, list[Call]]
    small_passes: list[int]
    large_passes: list[int]
    length: int
    """Tokens of the finished text."""


def fit_prices(texts: Sequence[TimedText], identity: dict[str, Any]) -> Prices:
    """Fit prices to texts that were decoded with every pass timed; their error is that of a fit on one half of them.

    BildError where there are too few: every kind of pass must have been seen.
    """
    whole = _fit(texts, identity, PriceError(1.0, 1.0, 0))
    half = _fit([text for i, text in enumerate(texts) if _in_first_half(i)], identity, whole.error)
    rest = [text for i, text in enumerate(texts) if not _in_first_half(i)]
    kinds = [dataclasses.replace(text, setting=_kind(text)) for text in rest]
    off = relative_errors(half, kinds)
    base = off.pop("vanilla", 0.0)
    speedups = [(1 + base) / (1 + error) - 1 for error in off.values()]
    error = PriceError(max(_UNMEASURED, spread([base, *off.values()])), max(_UNMEASURED, spread(speedups)), points=0)
    return dataclasses.replace(whole, error=error)


def _kind(text: TimedText) -> str:
    if not text.calls["small"]:
        return "vanilla"
    return "both" if text.calls["large"] else "small"


_KINDS = ("vanilla", "small", "both")


def _in_first_half(index: int) -> bool:
    # In pairs, because the settings come in a cycle and every half needs them all.
    return (index // 16) % 2 == 0


def spread(errors: Sequence[float]) -> float:
    """Return the half-width that 95 % of such relative errors would keep to if they were normal; never below 2 %."""
    return max(_LEAST_ERROR, 1.96 * float(np.sqrt(np.mean(np.square(errors))))) if len(errors) else 1.0


def relative_errors(prices: Prices, texts: Sequence[TimedText]) -> dict[str, float]:
    """Return predicted over measured total time, less one, for every setting among the texts."""
    off: dict[str, float] = {}
    for setting in sorted({text.setting for text in texts}):
        own = [text for text in texts if text.setting == setting]
        predicted = prices.seconds_each(
            [text.source for text in own],
            [text.small_passes for text in own],
            [text.large_passes for text in own],
            lengths=[text.length for text in own],
        )
        off[setting] = float(predicted.sum() / (sum(text.total_ns for text in own) / 1e9) - 1)
    return off


def with_measured_error(prices: Prices, found: Sequence[Agreement]) -> Prices:
    """Return settled prices with their error taken from measured points, where there are enough of them."""
    if len(found) < _FEW:
        return prices
    seconds = [(a.settled_seconds or a.predicted_seconds) / a.measured_seconds - 1 for a in found]
    speedups = [(a.settled or a.predicted) / a.measured.value - 1 for a in found]
    return dataclasses.replace(prices, error=PriceError(spread(seconds), spread(speedups), len(found)))


def _fit(texts: Sequence[TimedText], identity: dict[str, Any], error: PriceError) -> Prices:
    by_kind: dict[str, list[TimedText]] = {kind: [] for kind in _KINDS}
    for text in texts:
        by_kind[_kind(text)].append(text)
    vanilla, alone, both = (by_kind[kind] for kind in _KINDS)
    if not vanilla or not alone or not both:
        raise BildError("Too few texts were decoded to take prices from: give sweep.calibration more seconds.")
    encoding = both if has_one_encoder(identity) else texts
    small, entry = _drafts(_Passes.of(both, "small"))
    rounds = np.array([len(text.calls["large"]) for text in both], dtype=np.float64)
    rest = np.array([text.rest_ns / 1e9 for text in both])
    per_round = max(0.0, float(np.sum(_clip_outliers(rest / rounds) * rounds) / rounds.sum()))
    return Prices(
        schema=PRICES_SCHEMA,
        identity=identity,
        created=timestamp(),
        large=_verifications(_Passes.of(both, "large")),
        small=small,
        large_alone=_alone(_Passes.of(vanilla, "large")),
        small_alone=_alone(_Passes.of(alone, "small")),
        encode_large=_encoder([(t.source, t.encode_ns["large"]) for t in texts if t.encode_ns["large"]]),
        encode_small=_encoder([(t.source, t.encode_ns["small"]) for t in encoding if t.calls["small"]]),
        round=per_round + entry * sum(len(t.calls["small"]) for t in both) / float(rounds.sum()),
        example=float(np.median([t.rest_ns for t in vanilla]) / 1e9),
        error=error,
        texts=len(texts),
    )


class _Passes(NamedTuple):
    """The calls of one model as arrays [calls]; places are those of the middle of a call."""

    feeds: Floats
    steps: Floats
    places: Floats
    sources: Floats
    seconds: Floats

    @staticmethod
    def of(texts: Sequence[TimedText], role: str) -> _Passes:
        rows = [
            (call.feed, call.steps, call.before + (call.steps - 1) / 2, text.source, call.ns / 1e9)
            for text in texts
            for call in text.calls[role]
        ]
        return _Passes(*np.array(rows, dtype=np.float64).T)

    def take(self, kept: NDArray[np.bool_]) -> _Passes:
        return _Passes(*(column[kept] for column in self))

    def usual(self) -> tuple[float, float]:
        """Return the place and the source length of a step on average."""
        weight = float(self.steps.sum())
        return float((self.steps * self.places).sum() / weight), float((self.steps * self.sources).sum() / weight)

    def widths(self) -> dict[int, int]:
        """Return how many calls fed as many positions."""
        return {int(width): int(count) for width, count in zip(*np.unique(self.feeds, return_counts=True), strict=True)}


def _verifications(passes: _Passes) -> PassPrice:
    """Price the large model's passes, by width."""
    for width in np.unique(passes.feeds):
        own = passes.feeds == width
        passes.seconds[own] = _clip_outliers(passes.seconds[own])
    counts = passes.widths()
    usual = [w for w, n in counts.items() if n >= _ENOUGH] or [max(counts, key=lambda w: counts[w])]
    kept = passes.take(np.isin(passes.feeds, usual))
    place, source = kept.usual()
    columns = [(kept.feeds == w).astype(np.float64) for w in usual]
    table, slopes = _regress(columns, (kept.places - place, kept.sources - source), kept.seconds)
    rising = _rising(table, [counts[w] for w in usual])
    return PassPrice(dict(zip(usual, rising, strict=True)), place, source, *slopes, counts)


def _drafts(passes: _Passes) -> tuple[PassPrice, float]:
    """Price the small model's passes, and what entering a draft costs beyond them."""
    fed = passes.steps + passes.feeds - 1
    passes = passes._replace(seconds=_clip_outliers(passes.seconds / fed) * fed)
    observed = passes.widths()
    wider = [w for w, n in observed.items() if w > 1 and n >= _ENOUGH]
    place, source = passes.usual()
    kept = passes.take(np.isin(passes.feeds, [1, *wider]))
    (entry, step, *more), slopes = _regress(
        [np.ones(len(kept.steps)), kept.steps, *((kept.feeds == w).astype(np.float64) for w in wider)],
        (kept.steps * (kept.places - place), kept.steps * (kept.sources - source)),
        kept.seconds,
    )
    if step <= 0:  # too few lengths to tell the two apart
        entry, step = 0.0, float(passes.seconds.sum() / fed.sum())
    table = {1: step} | {w: step + max(0.0, extra) for w, extra in zip(wider, more, strict=True)}
    observed[1] = observed.get(1, 0) + int((passes.steps - 1).sum())
    return PassPrice(table, place, source, *slopes, observed), max(0.0, entry)


def _alone(passes: _Passes) -> PassPrice:
    """Price the one-token passes of a model that decodes by itself."""
    each, root = _clip_outliers(passes.seconds / passes.steps), np.sqrt(passes.steps)
    place, source = passes.usual()
    (step,), slopes = _regress([root], (root * (passes.places - place), root * (passes.sources - source)), root * each)
    return PassPrice({1: step}, place, source, *slopes, {1: int(passes.steps.sum())})


def _regress(
    columns: list[Floats], slopes: tuple[Floats, Floats], seconds: Floats
) -> tuple[list[float], tuple[float, float]]:
    """Fit `columns` by least squares, and slopes that are not negative: a pass is never cheaper farther on.

    The slopes' columns are centred, so the coefficients of `columns` are those at the usual place.
    """
    used = [i for i, s in enumerate(slopes) if len(seconds) > 3 * len(columns) and float(np.ptp(s)) > 0]
    while True:
        matrix = np.column_stack([*columns, *(slopes[i] for i in used)])
        found = np.linalg.lstsq(matrix, seconds, rcond=None)[0].tolist()
        steep = dict(zip(used, found[len(columns) :], strict=True))
        if all(value >= 0 for value in steep.values()):
            return found[: len(columns)], (steep.get(0, 0.0), steep.get(1, 0.0))
        used = [i for i in used if steep[i] >= 0]


def _rising(table: Sequence[float], weights: Sequence[int]) -> list[float]:
    """Return the nearest table that never falls (pool adjacent violators): a wider pass does what a narrower does."""
    blocks: list[list[float]] = []  # value, weight, entries
    for value, weight in zip(table, weights, strict=True):
        blocks.append([value, float(weight), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            last, before = blocks.pop(), blocks.pop()
            total = last[1] + before[1]
            blocks.append([(last[0] * last[1] + before[0] * before[1]) / total, total, last[2] + before[2]])
    return [block[0] for block in blocks for _ in range(int(block[2]))]


def _encoder(seen: list[tuple[int, int]]) -> dict[int, float]:
    """Return seconds by source length: means over neighbouring lengths."""
    if not seen:
        return {1: 0.0}
    lengths = np.array([source for source, _ in seen], dtype=np.float64)
    seconds = np.array([ns / 1e9 for _, ns in seen])
    order = np.argsort(lengths, kind="stable")
    table: dict[int, float] = {}
    for part in np.array_split(order, min(_KNOTS, len(np.unique(lengths)))):
        table[round(float(lengths[part].mean()))] = float(_clip_outliers(seconds[part]).mean())
    return dict(sorted(table.items()))


def _clip_outliers(values: Floats) -> Floats:
    """Cut spikes: something else ran in between."""
    return np.minimum(values, _SPIKE * float(np.median(values))) if len(values) else values
