"""The prices of decoding on one machine: the time of every kind of forward pass, calibrated beside the measurements.

A text costs its encoders, each pass by its width, the place it happens at and the length of the source, and a rest per
round and per text. The times of passes are measured tables, not lines: a pass over four tokens is not four passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.results.codec import read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRICES = "prices.json"
PRICES_SCHEMA = 1


@dataclass(frozen=True)
class DraftCostsRecord:
    """The seconds that `max_draft` "auto" went by: a small step, a large pass by its width, the rest of a round."""

    small: float
    large: dict[int, float]
    rest: float


def interpolate(table: dict[int, float], at: float) -> float:
    """Interpolate between the entries of a table; beyond its ends go along its outermost two."""
    known = sorted(table)
    if len(known) == 1:
        return table[known[0]]
    right = next((i for i in range(1, len(known)) if known[i] >= at), len(known) - 1)
    left, last = known[right - 1], known[right]
    return table[left] + (table[last] - table[left]) * (at - left) / (last - left)


@dataclass(frozen=True)
class PassPrice:
    """Seconds of one forward pass by its width (new positions), at a usual place and a usual source.

    `position` and `source` are that usual place (cached positions before the pass) and source length; `per_position`
    and `per_source` are what a pass costs more for each one more of them.
    """

    seconds: dict[int, float]
    position: float = 0.0
    source: float = 0.0
    per_position: float = 0.0
    per_source: float = 0.0
    observed: dict[int, int] = field(default_factory=dict)
    """The number of passes of each width that were timed."""

    def of(self, width: int) -> float:
        """Return the seconds of a pass of this width at the usual place."""
        return max(0.0, interpolate(self.seconds, width))


@dataclass(frozen=True)
class PriceError:
    """The error of the prices: relative, as the half-width of an interval, and the number of points it was seen on."""

    relative: float
    """The error of the seconds of a point."""
    speedup: float
    """The error of its speedup over vanilla."""
    points: int
    """Measured points that it was taken from; 0: calibration texts that the prices were not fitted on."""


@dataclass(frozen=True)
class Prices:
    """The latency model of one pair on one engine and machine (`identity`). All times in seconds."""

    schema: int
    identity: dict[str, Any]
    created: str
    large: PassPrice
    """The large model's passes in a method of two models."""
    small: PassPrice
    large_alone: PassPrice
    """Its one-token passes in a method of its own (vanilla): nothing else has been in the caches between them."""
    small_alone: PassPrice
    encode_large: dict[int, float]
    """By source length, in tokens."""
    encode_small: dict[int, float]
    """Where the two have one encoder, beside the large model, which has the time of the encoder in any method."""
    round: float
    """Once a round (a draft and the large pass that ends it): entering the draft, policy and driver."""
    example: float
    """Once a text."""
    error: PriceError
    texts: int
    """Texts that were decoded to calibrate."""

    def seconds(
        self, source_tokens: int, small_passes: Sequence[int], large_passes: Sequence[int], *, length: int | None = None
    ) -> float:
        """Predict the end-to-end seconds of one text, from the new positions that were fed pass by pass.

        A model without passes is not encoded with, as in `vanilla` and `small`. `length` (tokens of the finished text)
        tells how many of the positions were taken back; without it none were.
        """
        lengths = None if length is None else [length]
        return float(self.seconds_each([source_tokens], [small_passes], [large_passes], lengths=lengths)[0])

    def seconds_each(
        self,
        source_tokens: Sequence[int],
        small_passes: Sequence[Sequence[int]],
        large_passes: Sequence[Sequence[int]],
        *,
        lengths: Sequence[int] | None = None,
    ) -> NDArray[np.float64]:
        """Predict as `seconds` does, for many texts at once: [texts]."""
        import numpy as np

        sources = np.asarray(source_tokens, dtype=np.float64)
        total = np.full(len(sources), self.example)
        asked = {}
        for name, passes, other in (("large", large_passes, small_passes), ("small", small_passes, large_passes)):
            counts = np.fromiter(map(len, passes), np.int64, len(passes))
            asked[name] = counts
            alone = np.fromiter(map(len, other), np.int64, len(other)) == 0
            encoder = np.interp(sources, *self._encoders[name])
            encoded = counts > 0 if name == "small" or not self.one_encoder else counts >= 0
            total += np.where(encoded, encoder, 0.0)
            total += _passes(getattr(self, name), passes, counts, sources, lengths, ~alone)
            total += _passes(getattr(self, f"{name}_alone"), passes, counts, sources, lengths, alone)
        both = (asked["large"] > 0) & (asked["small"] > 0)
        return np.asarray(total + np.where(both, self.round * asked["large"], 0.0))

    @property
    def one_encoder(self) -> bool:
        """Tell whether these are prices of a pair whose models have one encoder."""
        return has_one_encoder(self.identity)

    @cached_property
    def _encoders(self) -> dict[str, tuple[list[int], list[float]]]:
        tables = {"large": self.encode_large, "small": self.encode_small}
        return {name: (sorted(table), [table[n] for n in sorted(table)]) for name, table in tables.items()}


def has_one_encoder(identity: dict[str, Any]) -> bool:
    """Tell whether the pair of an identity has one encoder: an early-exit view, or a small model behind a bridge."""
    pair = identity.get("pair", {})
    return bool(pair.get("one_encoder")) or "-exit" in pair.get("small", "")


def _passes(
    price: PassPrice,
    passes: Sequence[Sequence[int]],
    counts: NDArray[np.int64],
    sources: NDArray[np.float64],
    lengths: Sequence[int] | None,
    wanted: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the seconds of the passes of each text, 0 where it is not `wanted`."""
    import numpy as np

    total = np.zeros(len(counts))
    mine = wanted & (counts > 0)
    if not mine.any():
        return total
    kept = counts[mine]
    flat = np.fromiter(chain.from_iterable(p for p, m in zip(passes, mine, strict=True) if m), np.int64, kept.sum())
    table = np.array([price.of(width) for width in range(int(flat.max()) + 1)])
    starts = np.concatenate(([0], np.cumsum(kept)[:-1]))
    seconds = np.add.reduceat(table[flat], starts)
    fed = np.add.reduceat(flat, starts)
    before = np.cumsum(flat) - flat
    before -= np.repeat(before[starts], kept)
    # What was taken back is spread evenly: the prices need the place of a pass only roughly.
    shrink = np.asarray(lengths, dtype=np.float64)[mine] / np.maximum(fed, 1) if lengths is not None else 1.0
    places = np.add.reduceat(before, starts) * np.minimum(shrink, 1.0)
    seconds += price.per_position * (places - kept * price.position)
    seconds += price.per_source * kept * (sources[mine] - price.source)
    total[mine] = np.maximum(seconds, 0.0)
    return total


def read_prices(path: Path) -> Prices:
    """Read the prices in a file. BildError where it cannot be read or is no such file."""
    mend = "delete it; the next sweep makes it anew"
    return read_json(Prices, path, "does not hold prices", mend, PRICES_SCHEMA)
