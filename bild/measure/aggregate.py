"""From decoded examples to samples, and from samples to the quality, latency and counts of a record."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bild.config import MeasureConfig
from bild.decoding import Round
from bild.measure.live import PHASES, Run
from bild.measure.paces import counted, sessions_of
from bild.metrics import Scorer, mean_time, quality, speedup
from bild.metrics.jackknife import influences
from bild.metrics.speedup import Speed, percentiles
from bild.results.codec import hints
from bild.results.parts import (
    Baseline,
    Counts,
    EqualTexts,
    Joint,
    Latency,
    Library,
    Percentiles,
    Phases,
    Quality,
    SessionNote,
    Speedup,
    Stationarity,
    rates,
)
from bild.results.parts import Pair as PairRecord
from bild.results.sample import PhaseTimes, Sample, VanillaRun
from bild.results.work import Fed, Passes, Work, texts_work

DRIFT_LIMIT = 0.1
"""Relative change of the baseline between the halves of a run from which the record carries a warning."""
_SUMS = [name for name, kind in hints(Counts).items() if kind is int and hints(Sample).get(name) is int]
"""The counts that every sample has: rounds, passes, positions, drafted tokens and their fates."""


def quality_and_joint(
    samples: Sequence[Sample],
    references: Sequence[str],
    metric: str,
    confidence: float = 0.95,
    *,
    exact: bool = False,
    data: str = "",
) -> tuple[Quality, Joint]:
    """Score samples, pair them with vanilla, and tell how the headline's difference and the speedup vary together."""
    texts = [sample.text for sample in samples]
    base = [sample.baseline.text for sample in samples]
    found = quality(metric, texts, references, baseline=base, confidence=confidence, exact=exact, data=data)
    return found, _joint(samples, Scorer(metric, references))


def _joint(samples: Sequence[Sample], scorer: Scorer) -> Joint:
    own_scores, base_scores = (
        influences(scorer.table(texts), scorer)[1]
        for texts in ([sample.text for sample in samples], [sample.baseline.text for sample in samples])
    )
    scores = own_scores - base_scores
    base = np.array([sample.baseline_seconds for sample in samples])
    own = np.array([sample.seconds for sample in samples])
    speeds = base.sum() / own.sum() * (base / base.mean() - own / own.mean())
    n = len(samples)
    speed_sd, score_sd = (float(each.std() / np.sqrt(max(1, n - 1))) for each in (speeds, scores))
    if speed_sd == 0.0 or score_sd == 0.0:
        return Joint(speed_sd, score_sd, 0.0)
    return Joint(speed_sd, score_sd, float(np.corrcoef(speeds, scores)[0, 1]))


def latency_of(
    samples: Sequence[Sample], measure: MeasureConfig, notes: Mapping[int, SessionNote] | None = None
) -> Latency:
    """Sum up times at batch size 1, and the speedups over vanilla on the same engine and over the library.

    The samples are in the order of their measurement; `notes` tell how the machine was found before each session.
    Times are those of all examples, speedups and percentiles those of the sessions that claims count.
    """
    own = [sample.seconds for sample in samples]
    base = [sample.baseline_seconds for sample in samples]
    tokens = sum(sample.written for sample in samples)
    base_tokens = sum(sample.baseline.written for sample in samples)
    sessions = sessions_of(samples, notes or {})
    kept, level = counted(samples, sessions), measure.confidence
    speed = _speedup(kept, level)
    return Latency(
        examples=len(samples),
        tokens=tokens,
        seconds=sum(own),
        ms_per_example=mean_time([1e3 * s for s in own], [sample.session for sample in samples], confidence=level),
        ms_per_token=sum(own) * 1e3 / tokens,
        phases=Phases(**{phase: sum(getattr(sample.ns, phase) for sample in samples) / 1e9 for phase in PHASES}),
        speedup=Speedup(total=speed.total, geometric=speed.geometric),
        baseline=Baseline(
            seconds=sum(base),
            tokens=base_tokens,
            ms_per_example=sum(base) * 1e3 / len(base),
            ms_per_token=sum(base) * 1e3 / base_tokens,
        ),
        library=_library(samples, kept, level),
        stationarity=stationarity(samples),
        sessions=sessions,
        between=speed.between,
        percentiles=_percentiles(kept, level),
    )


def _speedup(samples: Sequence[Sample], confidence: float) -> Speed:
    base, own = [s.baseline_seconds for s in samples], [s.seconds for s in samples]
    return speedup(base, own, [s.session for s in samples], confidence=confidence)


def _percentiles(samples: Sequence[Sample], confidence: float) -> Percentiles:
    numbers = [s.session for s in samples]
    own, base = [1e3 * s.seconds for s in samples], [1e3 * s.baseline_seconds for s in samples]
    return Percentiles(
        method=percentiles(own, numbers, confidence=confidence),
        vanilla=percentiles(base, numbers, confidence=confidence),
    )


def _library(samples: Sequence[Sample], kept: Sequence[Sample], confidence: float) -> Library | None:
    timed = [(sample, sample.library) for sample in kept if sample.library is not None]
    if not timed:
        return None
    asked = [(sample, sample.library.tokens, sample.library_gap) for sample in samples if sample.library is not None]
    theirs = [library.ns / 1e9 for _, library in timed]
    numbers = [sample.session for sample, _ in timed]
    return Library(
        examples=len(timed),
        seconds=sum(theirs),
        ms_per_token=sum(theirs) * 1e3 / sum(library.written for _, library in timed),
        speedup=speedup(theirs, [sample.seconds for sample, _ in timed], numbers, confidence=confidence).total,
        texts=_agreement(asked),
    )


def texts_of(samples: Sequence[Sample]) -> EqualTexts:
    """Compare the texts of a method that is exact by its rules to vanilla's."""
    return _agreement([(sample, sample.tokens, sample.gap) for sample in samples])


def _agreement(asked: Sequence[tuple[Sample, list[int], float | None]]) -> EqualTexts:
    """Compare texts to vanilla's; each comes with the gap where it first differs, if that is known."""
    equal = sum(tokens == sample.baseline.tokens for sample, tokens, _ in asked)
    gaps = [abs(gap) for *_, gap in asked if gap is not None]
    return EqualTexts(equal, len(asked), max(gaps, default=None))


def stationarity(samples: Sequence[Sample]) -> Stationarity:
    """Compare the baseline's median ms per token in the second half of the run to the first: the machine's drift.

    The samples are in the order of their measurement, whatever that of the data is.
    """
    pace = [sample.baseline.ns / sample.baseline.written for sample in samples]
    half = len(pace) // 2
    if half < 2:
        return Stationarity(0.0, None)
    drift = statistics.median(pace[half:]) / statistics.median(pace[:half]) - 1.0
    warning = None
    if abs(drift) > DRIFT_LIMIT:
        warning = (
            f"The baseline became {abs(drift):.0%} {'slower' if drift > 0 else 'faster'} from the first half of the "
            "run to the second: speedups follow the machine's state, too: measure again on a calm one."
        )
    return Stationarity(drift, warning)


def counts_of(samples: Sequence[Sample]) -> Counts:
    """Sum up passes, drafts and their fates over all examples."""
    tokens = sum(sample.written for sample in samples)
    sums = {name: sum(getattr(sample, name) for sample in samples) for name in _SUMS}
    widths: Counter[int] = Counter()
    for sample in samples:
        widths.update(sample.large_widths)
    layers = Counter(layer for sample in samples for layer in sample.layers or ())
    whole = sum((sample.depth or 0) * sample.written for sample in samples)
    return Counts(
        tokens=tokens,
        examples=len(samples),
        large_widths=dict(sorted(widths.items())),
        **rates(tokens, sums["large_passes"], sums["fallbacks"], sums["rollbacks"]),
        truncated_sources=sum(sample.truncated for sample in samples),
        reached_limit=sum(sample.reached_limit for sample in samples),
        exit_layers=dict(sorted(layers.items())) if layers else None,
        layer_share=sum(layer * n for layer, n in layers.items()) / whole if layers else None,
        small_passes_run=_sum(sample.small_passes_run for sample in samples),
        large_passes_run=_sum(sample.large_passes_run for sample in samples),
        baseline_passes=sum(sample.baseline.written for sample in samples),
        baseline_passes_run=_sum(sample.baseline.passes_run for sample in samples),
        captures=_sum(n for sample in samples for n in (sample.captures, sample.baseline.captures)),
        **sums,
    )


def work_of(samples: Sequence[Sample], pair: PairRecord, dtype: str) -> Work | None:
    """Count the work of the timed examples beside vanilla's, exactly, from the shapes of all passes.

    None in older records, where a sample does not tell its passes or a model its sizes.
    """
    small, large = pair.small.sizes, pair.large.sizes
    if small is None or large is None or not all(sample.large_sums or sample.small_sums for sample in samples):
        return None
    own = [Fed(s.source_tokens, s.small_sums, s.large_sums, s.exit_sums, s.layers) for s in samples]
    base = [Fed(s.source_tokens, None, Passes.one_by_one(s.baseline.written)) for s in samples]
    return Work(texts_work(own, small, large, dtype), texts_work(base, small, large, dtype))


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum of what every sample has counted; None where one of them has not."""
    found = list(counts)
    return None if None in found else sum(n for n in found if n is not None)


def run_fields(run: Run, target_limit: int, eos: int) -> dict[str, Any]:
    """Return what a `Sample` says of a run beside its text: tokens, times and counts."""
    tokens = run.decoded.tokens
    return {
        "tokens": tokens,
        "ns": PhaseTimes(run.total_ns, **run.phases_ns),
        "reached_limit": len(tokens) >= target_limit and tokens[-1] != eos,
        "small_passes": len(run.small_passes),
        "small_positions": sum(run.small_passes),
        "large_passes": len(run.large_passes),
        "large_positions": sum(run.large_passes),
        "large_widths": dict(sorted(Counter(run.large_passes).items())),
        "small_passes_run": run.ran.get("small", 0),
        "large_passes_run": run.ran.get("large", 0),
        "captures": run.captures,
        **{f"{name}_sums": sums for name, sums in run.sums.items()},
        **count_rounds(run.decoded.rounds),
        **({"layers": run.decoded.layers, "depth": run.decoded.depth} if run.decoded.depth else {}),
    }


def vanilla_run(run: Run, text: str) -> VanillaRun:
    """Return what a `Sample` says of its baseline."""
    return VanillaRun(run.decoded.tokens, run.total_ns, text, run.ran["large"], run.captures)


def count_rounds(rounds: list[Round]) -> dict[str, int]:
    """Count the fates of drafts. A dropped unsure token was never drafted; a rollback throws away its draft's rest."""
    drafted = sum(len(r.drafted) for r in rounds)
    kept = sum(r.kept for r in rounds)
    return {
        "rounds": len(rounds),
        "drafted": drafted,
        "kept": kept,
        "rejected": drafted - kept,
        "fallbacks": sum(r.stop == "unsure" for r in rounds),
        "full_drafts": sum(r.stop == "limit" for r in rounds),
        "rollbacks": sum(r.rollback for r in rounds),
    }


def trace(rounds: list[Round]) -> list[dict[str, Any]]:
    """Return the rounds as JSON, probabilities and nlls to six digits (for people: replays read the tree)."""
    return [
        each._asdict()
        | {"probs": _short(each.probs), "token_nll": _short(each.token_nll), "drafted": list(each.drafted)}
        for each in rounds
    ]


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
