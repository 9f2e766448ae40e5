"""Point folders with made-up examples and rounds, for what a report reads beyond the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bild.results import PointFolder, Record
from bild.results.sample import PhaseTimes, Sample, VanillaRun
from tests.records import make_sample


def sample(index: int, own_ms: float, base_ms: float) -> Sample:
    own = PhaseTimes(round(own_ms * 1e6), 0, 0, 0, 0, 0)
    return make_sample(id=f"e{index}", ns=own, baseline=VanillaRun([0, 1], round(base_ms * 1e6), ""))


def round_of(start: int, drafted: int, kept: int, stop: str = "limit", wrote: int | None = 9) -> dict[str, Any]:
    """A draft of so many tokens of which so many stand, and the large model's own behind them."""
    return {
        "start": start,
        "drafted": [5] * drafted,
        "probs": [0.9] * drafted,
        "stop": stop,
        "token_nll": [0.1] * drafted,
        "kept": kept,
        "wrote": wrote,
        "rollback": kept < drafted,
    }


def put(
    root: Path,
    record: Record,
    times: Sequence[tuple[float, float]] = (),
    rounds: Sequence[list[dict[str, Any]]] = (),
) -> Path:
    """A finished point; `times` are ms of the method and of its baseline, `rounds` those of each example."""
    with PointFolder.open(root, record.task.name, record.pair.name, record.label, record.hash, {}) as folder:
        for index, (own, base) in enumerate(times):
            folder.append(sample(index, own, base), rounds[index] if index < len(rounds) else [])
        folder.finish(record)
        return folder.path
