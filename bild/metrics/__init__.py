"""Quality: BLEU, chrF and ROUGE as the paper counts them, or a metric of `evaluate`, with paired intervals."""

from bild.metrics.bootstrap import Interval, geometric_mean_ratio, mean, ratio_of_totals
from bild.metrics.scorer import Quality, Score, Scorer, quality

__all__ = ["Interval", "Quality", "Score", "Scorer", "geometric_mean_ratio", "mean", "quality", "ratio_of_totals"]
