"""Choosing thresholds from a decision tree: what each setting would give, and the fastest that is good enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bild.config import MethodConfig, ThresholdConfig
from bild.errors import BildError

if TYPE_CHECKING:
    import pandas as pd

    from bild.tree import Tree

FB = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RB = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, math.inf)


def threshold_table(tree: Tree, fb: Sequence[float] = FB, rb: Sequence[float] = RB, **switches: Any) -> pd.DataFrame:
    """One row a setting that the tree can replay: thresholds, quality, rates, and predicted speed where it has prices.

    `switches` are those of `conf/method` (`max_draft=5`, `rules="authors"`). Quality is in the metric's points with its
    bootstrap interval, `difference` is to vanilla; rates are per token; `speedup` is the ratio of predicted totals.
    BildError where the tree reaches none of the settings.
    """
    import pandas as pd

    method = MethodConfig("bild", **switches)
    asked = [(method, ThresholdConfig(one, other)) for one in fb for other in rb]
    points = [point for point in asked if not tree.missing([point])]
    if not points:
        raise BildError(
            f"The decision tree in {tree.path} was not grown for any of these thresholds: sweep them first."
        )
    vanilla, *replays = tree.replay_grid([(MethodConfig("vanilla"), ThresholdConfig()), *points])
    base = None if vanilla.seconds is None else float(vanilla.seconds.sum())
    rows = []
    for (_, threshold), replay in zip(points, replays, strict=True):
        counts, seconds = replay.counts, replay.seconds
        rows.append(
            {
                "fb": threshold.fb,
                "rb": threshold.rb,
                "quality": replay.quality.value,
                "low": replay.quality.low,
                "high": replay.quality.high,
                "difference": replay.difference(vanilla).value,
                "fallback_rate": counts.fallback_rate,
                "rollback_rate": counts.rollback_rate,
                "tokens_per_large_pass": counts.tokens_per_large_pass,
                "ms_per_example": None if seconds is None else 1e3 * float(seconds.mean()),
                "speedup": None if seconds is None or base is None else base / float(seconds.sum()),
            }
        )
    return pd.DataFrame(rows)


def fastest(table: pd.DataFrame, loss: float = 0.0) -> pd.Series[Any]:
    """The row of the highest speedup that loses at most `loss` points against vanilla.

    Without prices, tokens per large pass stand for speed. BildError where no row is good enough.
    """
    good = table[table["difference"] >= -loss - 1e-9]
    if good.empty:
        raise BildError(f"No setting loses {loss:g} points or less: allow a larger loss, or raise fb and lower rb.")
    by = "speedup" if table["speedup"].notna().all() else "tokens_per_large_pass"
    return good.iloc[int(good[by].to_numpy().argmax())]
