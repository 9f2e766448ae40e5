"""Quality: BLEU, chrF and ROUGE as the paper counts them, or a metric of `evaluate`; speed; and claims about both."""

from bild.metrics.scorer import Scorer, quality
from bild.metrics.speedup import mean_time, speedup

__all__ = ["Scorer", "mean_time", "quality", "speedup"]
