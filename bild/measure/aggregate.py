"""From the lines of `samples.jsonl` to the quality, latency and counts of a record.

One finished example as a line of `samples.jsonl`: tokens, text, times and counts of the method and its baselines.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bild.config import MeasureConfig
from bild.decoding import Round
from bild.measure.live import PHASES, Run
from bild.metrics import bootstrap
from bild.metrics.quality import quality_and_draws
from bild.results import (
    Baseline,
    Counts,
    Joint,
    Latency,
    Library,
    Phases,
    Quality,
    Speedup,
    Stationarity,
)

Sample = Mapping[str, Any]

DRIFT_LIMIT = 0.1
"""Relative change of the baseline between the halves of a run from which the record carries a warning."""
_SUMS = (
    "rounds",
    "small_passes",
    "large_passes",
    "small_positions",
    "large_positions",
    "drafted",
    "kept",
    "fallbacks",
    "full_drafts",
    "rollbacks",
    "rejected",
)


def written(tokens: Sequence[int]) -> int:
    """Generated tokens: the end token counts, the start token does not, for every method alike."""
    return len(tokens) - 1


def quality_and_joint(
    samples: Sequence[Sample], references: Sequence[str], metric: str, measure: MeasureConfig
) -> tuple[Quality, Joint]:
    """Scores, their paired differences to vanilla, and how the headline score and the speedup vary together."""
    texts = [sample["text"] for sample in samples]
    baseline = [sample["baseline"]["text"] for sample in samples]
    found, scores = quality_and_draws(
        metric, texts, references, baseline, measure.draws, measure.confidence, measure.seed
    )
    times = np.array([[sample["baseline"]["ns"], sample["ns"]["total"]] for sample in samples], dtype=np.float64)
    sums = bootstrap.resampled_sums(times, measure.draws, measure.seed)
    return found, _joint(sums[:, 0] / sums[:, 1], scores)


def _joint(speedups: bootstrap.Floats, scores: bootstrap.Floats) -> Joint:
    speed_sd, score_sd = float(speedups.std()), float(scores.std())
    if speed_sd == 0.0 or score_sd == 0.0:
        return Joint(speed_sd, score_sd, 0.0)
    return Joint(speed_sd, score_sd, float(np.corrcoef(speedups, scores)[0, 1]))


def latency_of(samples: Sequence[Sample], measure: MeasureConfig) -> Latency:
    """Times at batch size 1, and the speedups over vanilla on the same engine and over the library."""
    own = [sample["ns"]["total"] / 1e9 for sample in samples]
    base = [sample["baseline"]["ns"] / 1e9 for sample in samples]
    tokens = sum(written(sample["tokens"]) for sample in samples)
    base_tokens = sum(written(sample["baseline"]["tokens"]) for sample in samples)
    phases = {phase: sum(sample["ns"][phase] for sample in samples) / 1e9 for phase in PHASES}
    settings: dict[str, Any] = {"draws": measure.draws, "confidence": measure.confidence, "seed": measure.seed}

    timed = [i for i, sample in enumerate(samples) if sample["library"] is not None]
    library = None
    if timed:
        theirs = [samples[i]["library"]["ns"] / 1e9 for i in timed]
        their_tokens = sum(written(samples[i]["library"]["tokens"]) for i in timed)
        library = Library(
            examples=len(timed),
            seconds=sum(theirs),
            ms_per_token=sum(theirs) * 1e3 / their_tokens,
            speedup=bootstrap.ratio_of_totals(theirs, [own[i] for i in timed], **settings),
        )
    return Latency(
        examples=len(samples),
        tokens=tokens,
        seconds=sum(own),
        ms_per_example=bootstrap.mean([1e3 * seconds for seconds in own], **settings),
        ms_per_token=sum(own) * 1e3 / tokens,
        phases=Phases(**phases),
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
        library=library,
        stationarity=stationarity(samples),
    )


def stationarity(samples: Sequence[Sample]) -> Stationarity:
    """Whether the machine kept its speed: the baseline's median ms per token, second half of the run against first."""
    pace = [sample["baseline"]["ns"] / written(sample["baseline"]["tokens"]) for sample in samples]
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
    """Calls and their fates over all examples."""
    tokens = sum(written(sample["tokens"]) for sample in samples)
    sums = {name: sum(sample[name] for sample in samples) for name in _SUMS}
    widths: Counter[int] = Counter()
    for sample in samples:
        widths.update({int(width): n for width, n in sample["large_widths"].items()})
    layers = Counter(layer for sample in samples for layer in sample.get("layers", ()))
    whole = sum(sample.get("depth", 0) * written(sample["tokens"]) for sample in samples)
    return Counts(
        tokens=tokens,
        examples=len(samples),
        large_widths=dict(sorted(widths.items())),
        # Without a large pass (method=small) there is no such ratio; 0 says so.
        tokens_per_large_pass=tokens / sums["large_passes"] if sums["large_passes"] else 0.0,
        fallback_rate=sums["fallbacks"] / tokens,
        rollback_rate=sums["rollbacks"] / tokens,
        truncated_sources=sum(bool(sample["truncated"]) for sample in samples),
        reached_limit=sum(bool(sample["reached_limit"]) for sample in samples),
        exit_layers=dict(sorted(layers.items())) if layers else None,
        layer_share=sum(layer * n for layer, n in layers.items()) / whole if layers else None,
        **sums,
    )


def describe_run(run: Run, text: str, target_limit: int, eos: int) -> dict[str, Any]:
    """What a method did on one example. Times in ns; `large_widths` counts large passes by new positions.

    CALM also says how many decoder `layers` each token took, of `depth`.
    """
    tokens = run.decoded.tokens
    return {
        "tokens": tokens,
        "text": text,
        "ns": {"total": run.total_ns, **run.phases_ns},
        "reached_limit": len(tokens) >= target_limit and tokens[-1] != eos,
        "small_passes": len(run.small_passes),
        "small_positions": sum(run.small_passes),
        "large_passes": len(run.large_passes),
        "large_positions": sum(run.large_passes),
        "large_widths": {str(width): n for width, n in sorted(Counter(run.large_passes).items())},
        **count_rounds(run.decoded.rounds),
        **({"layers": run.decoded.layers, "depth": run.decoded.depth} if run.decoded.depth else {}),
    }


def count_rounds(rounds: list[Round]) -> dict[str, int]:
    """Fates of the drafts. A dropped unsure token was never drafted; a rollback throws away the rest of its draft."""
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


def describe_baseline(run: Run, text: str) -> dict[str, Any]:
    """The same example by same-engine vanilla decoding."""
    return {"tokens": run.decoded.tokens, "text": text, "ns": run.total_ns}


def trace(rounds: list[Round]) -> list[dict[str, Any]]:
    """The rounds as JSON, probabilities and nlls to six digits (they are for reading; replays read the tree)."""
    return [
        {
            "start": r.start,
            "drafted": list(r.drafted),
            "probs": [_short(p) for p in r.probs],
            "stop": r.stop,
            "token_nll": [_short(v) for v in r.token_nll],
            "kept": r.kept,
            "wrote": r.wrote,
            "rollback": r.rollback,
        }
        for r in rounds
    ]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
