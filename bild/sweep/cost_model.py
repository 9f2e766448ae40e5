"""From the times of passes to prices: tables by width, slopes by place and source, and what lies between the passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bild.errors import BildError
from bild.results.prices import PRICES_SCHEMA, PassPrice, PriceError, Prices
from bild.sweep.timing import Timed

Floats = NDArray[np.float64]

_ENOUGH = 4
"""Passes of one width from which it has an entry of its own."""
_SPIKE = 20.0
"""A pass of so many times the median of its kind is no pass any more (a laptop was shut): it counts as this many.

Lesser spikes stay: they are what passes cost on a machine that others use too, and measured points have them as well.
"""
_KNOTS = 8
_LEAST_ERROR = 0.02
_UNMEASURED = 0.05
"""The least error of prices that no measured point has confirmed yet."""


def fit_prices(texts: Sequence[Timed], identity: dict[str, Any]) -> Prices:
    """Prices from texts that were decoded with every pass timed; their error from a fit on one half of them.

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


def _kind(text: Timed) -> str:
    if not text.calls["small"]:
        return "vanilla"
    return "both" if text.calls["large"] else "small"


def _in_first_half(index: int) -> bool:
    # In pairs, because the settings come in a cycle and every half needs them all.
    return (index // 16) % 2 == 0


def spread(errors: Sequence[float]) -> float:
    """The half-width that 95 % of such relative errors keep to, were they normal; never below 2 %."""
    return max(_LEAST_ERROR, 1.96 * float(np.sqrt(np.mean(np.square(errors))))) if len(errors) else 1.0


def relative_errors(prices: Prices, texts: Sequence[Timed]) -> dict[str, float]:
    """Predicted over measured total time, less one, of every setting among the texts."""
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


def _fit(texts: Sequence[Timed], identity: dict[str, Any], error: PriceError) -> Prices:
    both = [text for text in texts if text.calls["large"] and text.calls["small"]]
    alone = {role: [t for t in texts if t.calls[role] and not t.calls[other]] for role, other in _ROLES}
    if not both or not all(alone.values()):
        raise BildError("Too few texts were decoded to take prices from: give sweep.calibration more seconds.")
    small, entry = _drafts([(t.source, call) for t in both for call in t.calls["small"]])
    rounds = np.array([len(text.calls["large"]) for text in both], dtype=np.float64)
    rest = np.array([text.rest_ns / 1e9 for text in both])
    per_round = max(0.0, float(np.sum(_calm(rest / rounds) * rounds) / rounds.sum()))
    return Prices(
        schema=PRICES_SCHEMA,
        identity=identity,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        large=_verdicts([(t.source, call) for t in both for call in t.calls["large"]]),
        small=small,
        large_alone=_alone(alone["large"], "large"),
        small_alone=_alone(alone["small"], "small"),
        encode_large=_encoder([(t.source, t.encode_ns["large"]) for t in texts if t.encode_ns["large"]]),
        encode_small=_encoder([(t.source, t.encode_ns["small"]) for t in texts if t.calls["small"]]),
        round=per_round + entry * sum(len(t.calls["small"]) for t in both) / float(rounds.sum()),
        example=float(np.median([t.rest_ns for t in alone["large"]]) / 1e9),
        error=error,
        texts=len(texts),
    )


_ROLES = (("large", "small"), ("small", "large"))


def _verdicts(seen: list[tuple[int, Any]]) -> PassPrice:
    """The large model's passes by width."""
    widths = np.array([call.feed for _, call in seen])
    places = np.array([call.before for _, call in seen], dtype=np.float64)
    sources = np.array([source for source, _ in seen], dtype=np.float64)
    seconds = np.array([call.ns / 1e9 for _, call in seen])
    for width in np.unique(widths):
        seconds[widths == width] = _calm(seconds[widths == width])
    counts = {int(w): int((widths == w).sum()) for w in np.unique(widths)}
    usual = [w for w, n in counts.items() if n >= _ENOUGH] or [max(counts, key=lambda w: counts[w])]
    kept = np.isin(widths, usual)
    columns = [(widths == w).astype(np.float64)[kept] for w in usual]
    table, slopes = _regress(columns, [places[kept], sources[kept]], seconds[kept])
    observed = [counts[w] for w in usual]
    rising = _rising(table, observed)
    return PassPrice(
        seconds=dict(zip(usual, rising, strict=True)),
        position=float(places[kept].mean()),
        source=float(sources[kept].mean()),
        per_position=slopes[0],
        per_source=slopes[1],
        observed=counts,
    )


def _drafts(seen: list[tuple[int, Any]]) -> tuple[PassPrice, float]:
    """The small model's passes, and what entering a draft costs beyond them."""
    steps = np.array([call.steps for _, call in seen], dtype=np.float64)
    feeds = np.array([call.feed for _, call in seen])
    sources = np.array([source for source, _ in seen], dtype=np.float64)
    places = np.array([call.before + (call.steps - 1) / 2 for _, call in seen])
    seconds = np.array([call.ns / 1e9 for _, call in seen])
    each = seconds / (steps + feeds - 1)
    seconds = _calm(each) * (steps + feeds - 1)
    wider = [int(w) for w in np.unique(feeds) if w > 1 and (feeds == w).sum() >= _ENOUGH]
    columns = [np.ones(len(steps)), steps, *((feeds == w).astype(np.float64) for w in wider)]
    weight = float(steps.sum())
    place, source = float((steps * places).sum() / weight), float((steps * sources).sum() / weight)
    kept = (feeds == 1) | np.isin(feeds, wider)
    found, slopes = _regress(
        [column[kept] for column in columns],
        [(steps * (places - place))[kept], (steps * (sources - source))[kept]],
        seconds[kept],
        centred=True,
    )
    entry, step, *more = found
    if step <= 0:  # too few lengths to tell the two apart
        entry, step = 0.0, float(seconds.sum() / (steps + feeds - 1).sum())
    table = {1: step} | {w: step + max(0.0, extra) for w, extra in zip(wider, more, strict=True)}
    observed = {int(w): int((feeds == w).sum()) for w in np.unique(feeds)}
    observed[1] = observed.get(1, 0) + int((steps - 1).sum())
    return PassPrice(table, place, source, slopes[0], slopes[1], observed), max(0.0, entry)


def _alone(texts: Sequence[Timed], role: str) -> PassPrice:
    """One-token passes of a model that decodes by itself."""
    calls = [(text.source, call) for text in texts for call in text.calls[role]]
    steps = np.array([call.steps for _, call in calls], dtype=np.float64)
    sources = np.array([source for source, _ in calls], dtype=np.float64)
    places = np.array([call.before + (call.steps - 1) / 2 for _, call in calls])
    each = _calm(np.array([call.ns / 1e9 for _, call in calls]) / steps)
    root = np.sqrt(steps)
    table, slopes = _regress([root], [root * places, root * sources], root * each, weights=root)
    place, source = float((steps * places).sum() / steps.sum()), float((steps * sources).sum() / steps.sum())
    return PassPrice({1: table[0]}, place, source, slopes[0], slopes[1], {1: int(steps.sum())})


def _regress(
    columns: list[Floats],
    slopes: list[Floats],
    seconds: Floats,
    *,
    weights: Floats | None = None,
    centred: bool = False,
) -> tuple[list[float], list[float]]:
    """Least squares of `columns` and of slopes that are not negative: a pass is never cheaper farther on.

    The slopes' columns are centred first, so the coefficients of `columns` are those at the usual place.
    """
    if not centred:
        scale = np.ones(len(seconds)) if weights is None else weights
        slopes = [s - scale * (float((s * scale).sum()) / float((scale * scale).sum())) for s in slopes]
    used = [i for i, s in enumerate(slopes) if len(seconds) > 3 * len(columns) and float(np.ptp(s)) > 0]
    while True:
        matrix = np.column_stack([*columns, *(slopes[i] for i in used)])
        found = np.linalg.lstsq(matrix, seconds, rcond=None)[0]
        falling = [i for i, value in zip(used, found[len(columns) :], strict=True) if value < 0]
        if not falling:
            break
        used = [i for i in used if i not in falling]
    steep = dict(zip(used, found[len(columns) :], strict=True))
    return [float(v) for v in found[: len(columns)]], [float(steep.get(i, 0.0)) for i in range(len(slopes))]


def _rising(table: Sequence[float], weights: Sequence[int]) -> list[float]:
    """The nearest table that never falls: a wider pass does all that a narrower one does (pool adjacent violators)."""
    blocks: list[list[float]] = []  # value, weight, entries
    for value, weight in zip(table, weights, strict=True):
        blocks.append([value, float(weight), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            last, before = blocks.pop(), blocks.pop()
            total = last[1] + before[1]
            blocks.append([(last[0] * last[1] + before[0] * before[1]) / total, total, last[2] + before[2]])
    return [block[0] for block in blocks for _ in range(int(block[2]))]


def _encoder(seen: list[tuple[int, int]]) -> dict[int, float]:
    """Seconds by source length: means over neighbouring lengths."""
    if not seen:
        return {1: 0.0}
    lengths = np.array([source for source, _ in seen], dtype=np.float64)
    seconds = np.array([ns / 1e9 for _, ns in seen])
    order = np.argsort(lengths, kind="stable")
    table: dict[int, float] = {}
    for part in np.array_split(order, min(_KNOTS, len(np.unique(lengths)))):
        table[round(float(lengths[part].mean()))] = float(_calm(seconds[part]).mean())
    return dict(sorted(table.items()))


def _calm(values: Floats) -> Floats:
    """Values with their spikes cut: something else ran in between."""
    return np.minimum(values, _SPIKE * float(np.median(values))) if len(values) else values
