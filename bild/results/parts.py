"""The parts of a record. Times are in seconds or milliseconds as named, quality is in the metric's points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from bild.config import DecodeConfig
from bild.results.codec import INFINITE
from bild.results.interval import Difference, Interval, Score
from bild.results.work import Sizes

_DATA = {"hash": str, "revision": str | None, "total": int, "samples": int | None, "seed": int | None}


@dataclass(frozen=True)
class Task:
    """The task: limits in tokens, where the data came from, and the languages of sources and references, if known.

    `data["hash"]` covers the examples that were decoded (sources and references, in order), so two records with one
    hash decoded the same examples; `total` counts the split, `samples` those taken from it (null: all).
    """

    name: str
    kind: str
    split: str
    metric: str
    source_limit: int
    target_limit: int
    prompt: str
    data: dict[str, Any] = field(metadata={"shape": _DATA})
    languages: list[str] | None = None


@dataclass(frozen=True)
class ModelRecord:
    """One checkpoint: where it came from, a fingerprint of its weights, the number of its parameters, and its sizes
    (null in older records)."""

    source: str
    revision: str | None
    fingerprint: str
    parameters: int
    sizes: Sizes | None = None


@dataclass(frozen=True)
class PairRecord:
    """The large and the small model, and their tokenizer."""

    name: str
    large: ModelRecord
    small: ModelRecord
    tokenizer: str


@dataclass(frozen=True)
class Method:
    """The method with all its switches resolved; null where the method has no such switch."""

    name: str
    rules: str | None
    max_draft: int | str | None
    first: str | None
    after_rollback: str | None
    scan: str | None
    unsure: str | None
    verify_eos: bool | None
    confidence: str | None = None
    decay: float | None = None
    min_layers: int | None = None
    stop: str | None = None
    keep: str | None = None


@dataclass(frozen=True)
class Decode:
    """The way tokens were sampled (docs/algorithm.md): nucleus, temperature, and the seed of the noise."""

    top_p: float
    temperature: float
    seed: int

    @staticmethod
    def of(config: DecodeConfig) -> Decode | None:
        """Return what a record says of it: None where tokens were chosen greedily."""
        return Decode(config.top_p, config.temperature, config.seed) if config.sample else None


@dataclass(frozen=True)
class Threshold:
    """Thresholds of fallback (a probability), rollback (nats, or "inf") and exit (a confidence); null where none is.

    `alpha` is what a drafted token may lose (a probability, or a share of one), `top` the highest rank at which it
    stands.
    """

    fb: float | None
    rb: float | None = field(metadata=INFINITE)
    exit: float | None = None
    alpha: float | None = None
    top: int | None = None


def recorded(switches: Mapping[str, Any], thresholds: Mapping[str, Any]) -> tuple[Method, Threshold]:
    """Return the switches and thresholds of a method as records have them; null for what it does not heed."""
    unheeded: dict[str, Any] = dict.fromkeys(each.name for each in fields(Method))
    return Method(**{**unheeded, **switches}), Threshold(**{"fb": None, "rb": None, **thresholds})


@dataclass(frozen=True)
class EngineRecord:
    """The engine that ran the forward passes, and its device."""

    name: str
    dtype: str
    device: str
    threads: int


@dataclass(frozen=True)
class Intervals:
    """The confidence of every interval of the record."""

    confidence: float


@dataclass(frozen=True)
class Joint:
    """Standard deviations over the examples of the speedup (ratio of totals) and the headline's paired difference, and
    the correlation of the two."""

    speedup_sd: float
    quality_sd: float
    correlation: float


@dataclass(frozen=True)
class Quality:
    """Scores by name (`headline` names the main one), and their paired differences to same-engine vanilla.

    `examples` were judged, those whose hash is `data`: the ones that were decoded live (`origin` "live"), or all of a
    decision tree ("tree"), of which `settled` lay within rounding and were decided by a live decoding.
    """

    headline: str
    scores: dict[str, Score]
    difference: dict[str, Difference] | None
    examples: int
    origin: str
    data: str
    settled: int


@dataclass(frozen=True)
class Phases:
    """Seconds spent in each phase, summed over the examples."""

    encode_large: float
    encode_small: float
    small: float
    large: float
    rest: float


@dataclass(frozen=True)
class Speedup:
    """Over same-engine vanilla: the ratio of total times, and the geometric mean of the per-example ratios."""

    total: Interval
    geometric: Interval


@dataclass(frozen=True)
class Baseline:
    """Same-engine vanilla decoding of the same examples, timed alternately with the method."""

    seconds: float
    tokens: int
    ms_per_example: float
    ms_per_token: float


@dataclass(frozen=True)
class EqualTexts:
    """Texts that should be vanilla's: how many of the `examples` are, token by token.

    `gap` is the widest of those between vanilla's token and the other where a text first differs: nats of the large
    model, next to nothing where rounding decided a tie. null where no text differs, or nobody asked.
    """

    equal: int
    examples: int
    gap: float | None = None

    @property
    def words(self) -> str:
        """Write `31 of 32`."""
        return f"{self.equal:,} of {self.examples:,}"

    def warning(self, whose: str, dtype: str) -> str | None:
        """Return a sentence about texts that differ by more than rounding in half precision; None where all is well."""
        other, gap = self.examples - self.equal, abs(self.gap or 0.0)
        if not other or (dtype != "fp32" and gap < BEYOND_ROUNDING):
            return None
        told = f"{whose} writes other texts than vanilla's for {other:,} of {self.examples:,} examples"
        if self.gap is None:
            return f"{told}: measure again to learn how near they came."
        told += f"; where a text first differs, the large model has the two tokens up to {gap:.2g} nats apart"
        no_tie = ", which is no tie: one of the two is not the model of this checkpoint; compare engine=hf."
        return told + (": a tie, which rounding decides." if gap < _A_TIE else no_tie)


BEYOND_ROUNDING = 1.0  # nats between two tokens that no rounding swaps: one is e times as probable as the other
_A_TIE = 1e-3  # nats that an fp32 engine's rounding may decide


@dataclass(frozen=True)
class Library:
    """The library's own greedy generate() on a part of the examples, and the method's speedup over it on these.

    `texts` compares its texts to same-engine vanilla's; null in older records.
    """

    examples: int
    seconds: float
    ms_per_token: float
    speedup: Interval
    texts: EqualTexts | None = None


@dataclass(frozen=True)
class Stationarity:
    """Relative change of the baseline's ms per token from the first half of the run to the second."""

    drift: float
    warning: str | None


@dataclass(frozen=True)
class SessionNote:
    """How the machine was found before a session: the threads that others kept busy, whether that was calm enough for
    a claim, and the seconds that were waited for it."""

    load: float
    calm: bool
    waited: float


@dataclass(frozen=True)
class SessionPace:
    """One process that timed a part of the examples.

    `pace` is vanilla's time over what the same texts take at the pace of the calm sessions, `load` how many threads
    others kept busy before it began (null: nobody looked), `note` the reason for which claims leave it out.
    """

    number: int
    examples: int
    ms_per_token: float
    speedup: float
    pace: float
    load: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Percentile:
    """A percentile with its interval; an end is null where there are too few examples to know it."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of the ms per example, by the names p50, p90 and p99."""

    method: dict[str, Percentile]
    vanilla: dict[str, Percentile]


@dataclass(frozen=True)
class Latency:
    """End-to-end times at batch 1, encoders included.

    `ms_per_token` is the time per output token. The interval of `speedup` holds the choice of the examples and, where
    there are several sessions, that of the session; `between` is the standard deviation of the log speedup between
    sessions (null: one session cannot know it). Records of before version 3 have neither sessions nor percentiles.
    """

    examples: int
    tokens: int
    seconds: float
    ms_per_example: Interval
    ms_per_token: float
    phases: Phases
    speedup: Speedup
    baseline: Baseline
    library: Library | None
    stationarity: Stationarity
    sessions: list[SessionPace]
    between: float | None
    percentiles: Percentiles | None


@dataclass(frozen=True)
class Counts:
    """Calls and their fates, summed over the examples.

    `*_positions` count newly fed positions, `large_widths` large passes by their width, `fallbacks` hand-overs because
    the small model was unsure, `full_drafts` those at the draft limit, `rejected` drafted tokens thrown away. Both
    rates are per generated token. `*_passes_run` count the passes that the engine ran for those that were needed, of
    vanilla (`baseline_*`) too, and `captures` what was compiled or captured while the clock ran, which must be 0; null
    where nobody counted. For CALM, `exit_layers` counts tokens by the decoder layers that they took, and
    `layer_share` is these layers over those that all tokens would take in the whole decoder; null for other methods.
    """

    tokens: int
    examples: int
    rounds: int
    small_passes: int
    large_passes: int
    small_positions: int
    large_positions: int
    large_widths: dict[int, int]
    drafted: int
    kept: int
    fallbacks: int
    full_drafts: int
    rollbacks: int
    rejected: int
    tokens_per_large_pass: float
    fallback_rate: float
    rollback_rate: float
    truncated_sources: int
    reached_limit: int
    exit_layers: dict[int, int] | None = None
    layer_share: float | None = None
    small_passes_run: int | None = None
    large_passes_run: int | None = None
    baseline_passes: int | None = None
    baseline_passes_run: int | None = None
    captures: int | None = None
