"""Lines of `samples.jsonl` and rounds, made by hand."""

from __future__ import annotations

from typing import Any

from bild.decoding import Round

MS = 1_000_000


def sample(
    tokens: list[int],
    ms: float,
    *,
    baseline: tuple[list[int], float],
    library: tuple[list[int], float] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """One example: what the method wrote and its time, the same of vanilla, and of the library if it was asked."""
    total = round(ms * MS)
    line: dict[str, Any] = {
        "id": "a",
        "tokens": tokens,
        "text": "A dog runs.",
        "ns": {
            "total": total,
            "encode_large": total // 10,
            "encode_small": total // 20,
            "small": total // 2,
            "large": total // 4,
            "rest": total // 10,
        },
        "truncated": False,
        "reached_limit": False,
        "rounds": 2,
        "small_passes": 5,
        "small_positions": 6,
        "large_passes": 2,
        "large_positions": 7,
        "large_widths": {"1": 1, "6": 1},
        "drafted": 5,
        "kept": 4,
        "rejected": 1,
        "fallbacks": 1,
        "full_drafts": 1,
        "rollbacks": 1,
        "baseline": {"tokens": baseline[0], "text": "A dog ran.", "ns": round(baseline[1] * MS)},
        "library": None,
    }
    if library is not None:
        line["library"] = {"tokens": library[0], "ns": round(library[1] * MS)}
    return line | changes


def a_round(
    drafted: int, kept: int, stop: str, *, wrote: int | None = 9, rollback: bool = False, start: int = 1
) -> Round:
    """A round by its numbers; the tokens are made up."""
    return Round(
        start,
        list(range(10, 10 + drafted)),
        [0.123456789] * (drafted + (stop == "unsure")),
        stop,
        [1 / 3] * drafted,
        kept,
        wrote,
        rollback,
    )
