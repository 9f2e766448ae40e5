"""Quality: BLEU, chrF and ROUGE as the paper counts them, or a metric of `evaluate`, with paired intervals."""

from bild.metrics.bootstrap import geometric_mean_ratio, mean, ratio_of_totals
from bild.metrics.scorer import Scorer, quality
from bild.results.parts import Interval, Quality, Score

__all__ = ["Interval", "Quality", "Score", "Scorer", "geometric_mean_ratio", "mean", "quality", "ratio_of_totals"]
