"""Numbers and names as a report writes them; the table, the Markdown and the figure share them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bild.results import Interval, Record, Score

METRIC_NAMES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
}
DASH = "–"


def half(interval: Interval | Score) -> float:
    """The longer half of an interval, so that a ± never claims more than an asymmetric bootstrap interval does."""
    return max(interval.high - interval.value, interval.value - interval.low, 0.0)


def decimals(width: float) -> int:
    """How many decimals (0 to 4) show the first digit of an interval of this half width.

    One more, up to two, where that digit is 1 to 3, which rounding would change by up to half: `40.3 ±2.4`.
    """
    if width <= 0:
        return 2
    exponent = math.floor(math.log10(width))
    first = min(4, max(0, -exponent))
    return first + 1 if exponent <= 0 and first < 2 and width < 4 * 10**exponent else first


def common_decimals(intervals: Iterable[Interval | Score | None]) -> int:
    """The decimals of a column: those of its narrowest interval."""
    return max((decimals(half(each)) for each in intervals if each is not None and half(each) > 0), default=2)


def plus_minus(interval: Interval | Score | None, places: int | None = None, signed: bool = False) -> str:
    """`27.3 ±0.9`, rounded by its interval unless `places` says how; a value without any spread stands alone."""
    if interval is None:
        return DASH
    width = half(interval)
    places = decimals(width) if places is None else places
    value = _fixed(interval.value, places, signed)
    return value if width <= 0 else f"{value} ±{width:.{places}f}"


def spread(interval: Interval | Score | None, places: int | None = None, signed: bool = False) -> str:
    """`27.31 [26.40, 28.25]`, for readers who want the ends themselves; one decimal more than `plus_minus`."""
    if interval is None:
        return DASH
    width = half(interval)
    places = decimals(width) if places is None else places
    if width <= 0:
        return _fixed(interval.value, places, signed)
    value, low, high = (_fixed(end, places + 1, signed) for end in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def _fixed(value: float, places: int, signed: bool) -> str:
    rounded = round(value, places) + 0.0  # no "-0.0"
    return f"{rounded:+.{places}f}" if signed and rounded else f"{rounded:.{places}f}"


def significant(value: float, digits: int = 3) -> str:
    """A number without an interval: `0.0123`, `6.06`, `1234`."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def percent(rate: float) -> str:
    """A rate per token in percent: `0.97`, `5.90`, `19.0`."""
    return f"{100 * rate:.2f}" if 100 * rate < 9.995 else f"{100 * rate:.1f}"


def metric_name(record: Record, name: str | None = None) -> str:
    """A metric of the record, the headline unless one is named, as people write it."""
    name = record.quality.headline if name is None else name
    return METRIC_NAMES.get(name, name)


def machine_name(record: Record) -> str:
    """The machine's name for people."""
    return str(record.environment["machine"]["name"])


def where(record: Record) -> str:
    """`fused engine, fp32, cuda, 1 thread`."""
    engine = record.engine
    threads = f"{engine.threads} thread{'s' if engine.threads != 1 else ''}"
    return f"{engine.name} engine, {engine.dtype}, {engine.device}, {threads}"


def interval_name(record: Record) -> str:
    """What the intervals of a record are."""
    given = record.intervals
    return f"{100 * given.confidence:g} % bootstrap intervals over examples ({given.draws:,} draws)"


def plural(count: int, noun: str) -> str:
    """`1 example`, `888 examples`, `1,000 examples`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
