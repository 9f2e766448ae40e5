"""Quality: BLEU, chrF and ROUGE as the paper counts them, with paired bootstrap intervals, all without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bild.errors import BildError
from bild.metrics.bootstrap import geometric_mean_ratio, mean, ratio_of_totals
from bild.metrics.quality import quality
from bild.results.parts import Interval, Quality, Score

if TYPE_CHECKING:
    from bild.metrics.modules import Module

__all__ = [
    "Interval",
    "Quality",
    "Score",
    "geometric_mean_ratio",
    "load",
    "mean",
    "quality",
    "ratio_of_totals",
]


def load(name: str) -> Module:
    """Make the `evaluate` module of a metric: "bleu", "chrf" or "rouge". The counterpart of `evaluate.load`."""
    from bild.metrics.modules import MODULES  # here, because `evaluate` imports torch

    if name not in MODULES:
        raise BildError(f"The metric {name} is not known: choose one of {', '.join(MODULES)}.")
    return MODULES[name]()
