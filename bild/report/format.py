"""Numbers and names as a report writes them, the same in tables, figures and the page."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from bild.config import METHODS, MethodConfig, ThresholdConfig
from bild.decoding import Setting, settings, thresholds_of
from bild.decoding import policies as names
from bild.decoding.rules import KEEPS, STOPS
from bild.errors import BildError
from bild.results import Interval, Record, config_hash
from bild.results.parts import Method, Threshold
from bild.results.predicted import PredictedPoint

METRIC_NAMES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
}
DASH = "–"
Named = Record | PredictedPoint
"""A point, measured or predicted: it has a method and thresholds."""


def half(interval: Interval) -> float:
    """Return the longer half of an interval, so that a ± never claims more than an asymmetric interval does."""
    return max(interval.high - interval.value, interval.value - interval.low, 0.0)


def decimals(width: float) -> int:
    """Return how many decimals (0 to 4) show the first digit of an interval of this half width.

    One more, up to two, where that digit is 1 to 3, which rounding would change by up to half: `40.3 ±2.4`.
    """
    if not 0 < width < math.inf:
        return 2
    exponent = math.floor(math.log10(width))
    first = min(4, max(0, -exponent))
    return first + 1 if exponent <= 0 and first < 2 and width < 4 * 10**exponent else first


def common_decimals(intervals: Iterable[Interval | None]) -> int:
    """Return the decimals of a column: those of its narrowest interval."""
    return max((decimals(half(each)) for each in intervals if each is not None and half(each) > 0), default=2)


def plus_minus(interval: Interval | None, places: int | None = None, signed: bool = False) -> str:
    """Write `27.3 ±0.9`, rounded by its interval unless `places` says how; a value without any spread stands alone."""
    return _told(interval, places, signed, ends=False)


def spread(interval: Interval | None, places: int | None = None, signed: bool = False) -> str:
    """Write `27.31 [26.40, 28.25]`, for readers who want the ends themselves; one decimal more than `plus_minus`."""
    return _told(interval, places, signed, ends=True)


def _told(interval: Interval | None, places: int | None, signed: bool, ends: bool) -> str:
    if interval is None:
        return DASH
    width = half(interval)
    places = decimals(width) if places is None else places
    if not interval.known:
        return _fixed(interval.value, places or 2, signed) + (" [?, ?]" if ends else " ±?")
    if width > 0 and ends:
        value, low, high = (_fixed(end, places + 1, signed) for end in (interval.value, interval.low, interval.high))
        return f"{value} [{low}, {high}]"
    return _fixed(interval.value, places, signed) + (f" ±{width:.{places}f}" if width > 0 else "")


def _fixed(value: float, places: int, signed: bool) -> str:
    rounded = round(value, places) + 0.0  # no "-0.0"
    return f"{rounded:+.{places}f}" if signed and rounded else f"{rounded:.{places}f}"


def significant(value: float, digits: int = 3) -> str:
    """Write a number without an interval: `0.0123`, `6.06`, `1234`."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def percent(rate: float) -> str:
    """Write a rate per token in percent: `0.97`, `5.90`, `19.0`."""
    return f"{100 * rate:.2f}" if 100 * rate < 9.995 else f"{100 * rate:.1f}"


def metric_name(record: Record, name: str | None = None) -> str:
    """Name a metric of the record, the headline unless one is given, as people write it."""
    return metric_words(record.quality.headline if name is None else name)


def metric_words(name: str) -> str:
    """Write the name of a score: `BLEU`, `BLEU (zh)` with another tokenizer, `exact_match` of the evaluate library."""
    base, _, more = name.partition(":")
    if base == "evaluate":
        return Path(more).stem
    return f"{METRIC_NAMES.get(base, base)} ({more})" if more else METRIC_NAMES.get(base, base)


def machine_name(record: Record) -> str:
    """Return the machine's name for people."""
    return str(record.environment["machine"]["name"])


def where(record: Record) -> str:
    """Write `fused engine, fp32, cuda, 1 thread`."""
    engine = record.engine
    return f"{engine.name} engine, {engine.dtype}, {engine.device}, {plural(engine.threads, 'thread')}"


def sampled(record: Record) -> str:
    """Write `sampled: top_p 0.8, temperature 1, seed 3`; nothing where tokens were not sampled."""
    decode = record.decode
    if decode is None:
        return ""
    return f"sampled: top_p {decode.top_p:g}, temperature {decode.temperature:g}, seed {decode.seed}"


def drawn(record: Record) -> list[str]:
    """Return the options by which tokens were sampled: `decode.sample=true`, ...; none where they were not."""
    options = {"sample": "true"} | dataclasses.asdict(record.decode) if record.decode else {}
    return [f"decode.{name}={value}" for name, value in options.items()]


def interval_name(record: Record) -> str:
    """Say what the intervals of a record are."""
    return f"{100 * record.intervals.confidence:g} % intervals"


def plural(count: int, noun: str) -> str:
    """Write `1 example`, `888 examples`, `1,000 examples`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# Names of points: all that words say of a method's switches is made here, from `bild.decoding.policies`.
def number(value: float) -> str:
    """Write a threshold as people do: 0.6, 2, ∞."""
    return names.number(value).replace("inf", "∞")


def label(point: Named) -> str:
    """Name a point: `BiLD 0.6/2`, `BiLD-A 0.25/3 k24`, `speculative k4`, `vanilla`; `switches` tells the rest."""
    return names.label(point.method, point.threshold).replace("inf", "∞")


def legend(point: Named) -> str:
    """Name what points of one look share: `BiLD`, `BiLD, authors' rules`, `speculative`."""
    return names.legend(point.method)


def switches(point: Named) -> str:
    """Write all that differs from the preset, `first=small, rules=authors`, and how tokens were drawn; else nothing."""
    told = switches_words(point.method, point.threshold)
    return ", ".join(filter(None, [told, *(drawn(point) if isinstance(point, Record) else [])]))


def setting_of(point: Named) -> Setting | None:
    """Return a recorded point as options, with the switches alone that depart from its method's preset.

    None for a method, a rule or another value that no option takes here.
    """
    method, threshold = point.method, point.threshold
    if method.name not in METHODS or method.keep not in (None, *KEEPS) or method.stop not in (None, *STOPS):
        return None
    try:
        return MethodConfig(method.name, **own_switches(point)), ThresholdConfig(**dataclasses.asdict(threshold))
    except BildError:
        return None


def key_of(record: Record) -> str | None:
    """Return the key of a record's setting; None for a method or a rule that is not in the tables."""
    setting = setting_of(record)
    if setting is None:
        return None
    return config_hash({"method": settings(*setting), "threshold": thresholds_of(*setting)})


def own_switches(point: Named) -> dict[str, Any]:
    """Return the draft limit, if there is one, and the switches that depart from the method's preset."""
    limit = point.method.max_draft
    return ({} if limit is None else {"max_draft": limit}) | names.differing(point.method, point.threshold)


def split_exit(pair: str) -> tuple[str, int | None]:
    """Split a pair's name into that without `-exitN`, and N."""
    found = re.fullmatch(r"(.+)-exit(\d+)", pair)
    return (found[1], int(found[2])) if found else (pair, None)


def keep_words(keep: str) -> str:
    """Say on which condition a drafted token stands: `−ln p ≤ rb (BiLD, paper 3.3)`."""
    return KEEPS[keep].words.replace("<=", "≤").replace(">=", "≥").replace("-ln", "−ln")


def group_name(method: MethodConfig | Method, threshold: ThresholdConfig | Threshold) -> str:
    """Name settings that differ in their thresholds alone: `BiLD fb/rb, first=small, drafts of up to 10`."""
    given, values = names.told(method, threshold)
    own = KEEPS[given["keep"]].threshold if given["keep"] in KEEPS else None
    thresholds = "/".join(name for name in ("fb", own) if name in values)
    cap = f"top={values['top']}" if "top" in values and own != "top" else ""
    limit = "by measured costs" if method.max_draft == "auto" else f"of up to {method.max_draft}"
    differing = switches_words(method, threshold)
    title = f"{METHODS[method.name].title} {thresholds}".strip()
    return ", ".join(filter(None, [title, cap, differing, f"drafts {limit}"]))


def switches_words(method: MethodConfig | Method, threshold: ThresholdConfig | Threshold) -> str:
    """Write the switches that differ from the method's preset: `first=small, rules=authors`; else nothing."""
    return _words(names.differing(method, threshold))


def _words(given: Mapping[str, Any], only: Iterable[str] | None = None) -> str:
    words, wanted = {True: "yes", False: "no"}, given if only is None else only
    return ", ".join(f"{name}={words.get(given[name], given[name])}" for name in sorted(wanted) if name in given)


def labels(points: Sequence[Named]) -> list[str]:
    """Return the label of each point; those that share one have the fewest switches that differ, or else the hash."""
    found = [label(point) for point in points]
    for name in {name for name in found if found.count(name) > 1}:
        alike = [i for i, each in enumerate(found) if each == name]
        own = [names.differing(points[i].method, points[i].threshold) for i in alike]
        known = sorted({key for each in own for key in each})
        tried = (keys for size in range(1, len(known) + 1) for keys in combinations(known, size))
        apart = next((keys for keys in tried if len({_words(each, keys) for each in own}) == len(own)), None)
        for i, each in zip(alike, own, strict=True):
            more = f"#{getattr(points[i], 'hash', '')[:6]}".rstrip("#") if apart is None else _words(each, apart)
            found[i] = f"{name} {more}".rstrip()
    return found


def switches_note(points: Iterable[Named]) -> str:
    """Return a sentence on the switches that differ from their presets among these points; empty without any."""
    groups: dict[str, list[str]] = {}
    for point in points:
        if given := switches_words(point.method, point.threshold):
            groups.setdefault(given, []).append(label(point))
    told = [f"{given}: {some(list(dict.fromkeys(found)), 5)}" for given, found in groups.items()]
    return f"Switches that differ from the preset: {'; '.join(told)}." if told else ""


def some(words: Sequence[str], most: int = 8) -> str:
    """List the first names and count the others: `a, b and 3 more`."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
