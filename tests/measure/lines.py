"""Samples and rounds, made by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

from bild.decoding import Round
from bild.results.sample import BaselineRun, PhaseTimes, Sample, VanillaRun
from tests.records import make_sample

MS = 1_000_000


def sample(
    tokens: list[int],
    ms: float,
    *,
    baseline: tuple[list[int], float],
    library: tuple[list[int], float] | None = None,
    **changes: Any,
) -> Sample:
    """One example: what the method wrote and its time, the same of vanilla, and of the library if it was asked."""
    total = round(ms * MS)
    made = make_sample(
        tokens=tokens,
        ns=PhaseTimes(total, total // 10, total // 20, total // 2, total // 4, total // 10),
        baseline=VanillaRun(baseline[0], round(baseline[1] * MS), "A dog ran."),
        library=None if library is None else BaselineRun(library[0], round(library[1] * MS)),
    )
    return dataclasses.replace(made, **changes)


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
