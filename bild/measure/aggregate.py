"""From decoded examples to samples, and from samples to the quality, latency and counts of a record."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bild.config import MeasureConfig
from bild.decoding import Round
from bild.measure.live import PHASES, Run
from bild.metrics import bootstrap
from bild.metrics.scorer import quality_and_draws
from bild.results.codec import hints
from bild.results.parts import Baseline, Counts, Joint, Latency, Library, Phases, Quality, Speedup, Stationarity, rates
from bild.results.sample import PhaseTimes, Sample, VanillaRun

DRIFT_LIMIT = 0.1
"""Relative change of the baseline between the halves of a run from which the record carries a warning."""
_SUMS = [name for name, kind in hints(Counts).items() if kind is int and hints(Sample).get(name) is int]
"""The counts that every sample has: rounds, passes, positions, drafted tokens and their fates."""


def quality_and_joint(
    samples: Sequence[Sample], references: Sequence[str], metric: str, measure: MeasureConfig
) -> tuple[Quality, Joint]:
    """Score samples, pair them with vanilla, and tell how the headline score and the speedup vary together."""
    texts = [sample.text for sample in samples]
    baseline = [sample.baseline.text for sample in samples]
    found, scores = quality_and_draws(
        metric, texts, references, baseline, measure.draws, measure.confidence, measure.seed
    )
    times = np.array([[sample.baseline.ns, sample.ns.total] for sample in samples], dtype=np.float64)
    sums = bootstrap.resampled_sums(times, measure.draws, measure.seed)
    return found, _joint(sums[:, 0] / sums[:, 1], scores)


def _joint(speedups: bootstrap.Floats, scores: bootstrap.Floats) -> Joint:
    speed_sd, score_sd = float(speedups.std()), float(scores.std())
    if speed_sd == 0.0 or score_sd == 0.0:
        return Joint(speed_sd, score_sd, 0.0)
    return Joint(speed_sd, score_sd, float(np.corrcoef(speedups, scores)[0, 1]))


def latency_of(samples: Sequence[Sample], measure: MeasureConfig) -> Latency:
    """Sum up times at batch size 1, and the speedups over vanilla on the same engine and over the library."""
    own = [sample.seconds for sample in samples]
    base = [sample.baseline_seconds for sample in samples]
    tokens = sum(sample.written for sample in samples)
    base_tokens = sum(sample.baseline.written for sample in samples)
    settings: dict[str, Any] = {"draws": measure.draws, "confidence": measure.confidence, "seed": measure.seed}
    return Latency(
        examples=len(samples),
        tokens=tokens,
        seconds=sum(own),
        ms_per_example=bootstrap.mean([1e3 * seconds for seconds in own], **settings),
        ms_per_token=sum(own) * 1e3 / tokens,
        phases=Phases(**{phase: sum(getattr(sample.ns, phase) for sample in samples) / 1e9 for phase in PHASES}),
        speedup=Speedup(
            total=bootstrap.ratio_of_totals(base, own, **settings),
            geometric=bootstrap.geometric_mean_ratio(base, own, **settings),
        ),
        baseline=Baseline(
            seconds=sum(base),
            tokens=base_tokens,
            ms_per_example=sum(base) * 1e3 / len(base),
            ms_per_token=sum(base) * 1e3 / base_tokens,
        ),
        library=_library(samples, settings),
        stationarity=stationarity(samples),
    )


def _library(samples: Sequence[Sample], settings: dict[str, Any]) -> Library | None:
    timed = [(sample, sample.library) for sample in samples if sample.library is not None]
    if not timed:
        return None
    theirs = [library.ns / 1e9 for _, library in timed]
    return Library(
        examples=len(timed),
        seconds=sum(theirs),
        ms_per_token=sum(theirs) * 1e3 / sum(library.written for _, library in timed),
        speedup=bootstrap.ratio_of_totals(theirs, [sample.seconds for sample, _ in timed], **settings),
    )


def stationarity(samples: Sequence[Sample]) -> Stationarity:
    """Compare the baseline's median ms per token in the second half of the run to the first: the machine's drift."""
    pace = [sample.baseline.ns / sample.baseline.written for sample in samples]
    half = len(pace) // 2
    if half < 2:
        return Stationarity(0.0, None)
    drift = statistics.median(pace[half:]) / statistics.median(pace[:half]) - 1.0
    warning = None
    if abs(drift) > DRIFT_LIMIT:
        warning = (
            f"The baseline became {abs(drift):.0%} {'slower' if drift > 0 else 'faster'} from the first half of the "
            "run to the second: trust the paired speedups, and measure the times again."
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
