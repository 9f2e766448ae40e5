"""One finished example as a line of `samples.jsonl`: tokens, text, times and counts of the method and its baselines."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bild.bench.live import Run
from bild.decoding import Round


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
