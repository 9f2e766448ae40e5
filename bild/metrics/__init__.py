"""Quality: BLEU, chrF and ROUGE as the paper counts them, or a metric of `evaluate`; speed; and claims about both.

Here scores with intervals and paired differences to a baseline, and the headline score of many systems.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bild.config import WITHOUT_SPACES, confidence_of
from bild.errors import BildError
from bild.metrics import statistics
from bild.metrics.claims import Floats, difference, score_interval
from bild.metrics.speedup import mean_time, speedup
from bild.metrics.statistics import Statistics
from bild.options import Option
from bild.progress import say
from bild.results.interval import Difference, Score
from bild.results.parts import Quality

__all__ = ["Scorer", "mean_time", "quality", "quality_of", "speedup"]


def quality(
    metric: str,
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    baseline: Sequence[str] | None = None,
    confidence: float = 0.95,
    exact: bool = False,
    data: str = "",
) -> Quality:
    """Score predictions against one reference each, with intervals over the choice of the examples.

    `metric` is "bleu" (BLEU, and chrF beside it), "rouge" (rougeLsum, and rouge1, rouge2, rougeL beside it), one of
    these with another tokenizer ("bleu:zh", "rouge:unicode"), or "evaluate:NAME", a metric of the `evaluate` library,
    averaged over the examples. `baseline` holds another system's predictions for the same examples, to which the paired
    differences are; `exact` says that the rules of the method allow none. `data` is the hash of the examples.

    Raises BildError for an unknown metric, no predictions, and lists of different lengths. Warns of references in a
    script in which the metric sees no words.
    """
    names, confidence = statistics.scores_of(metric), confidence_of(confidence)
    if baseline is not None and len(baseline) != len(predictions):
        raise BildError(
            f"There are {len(predictions)} predictions and {len(baseline)} of the baseline: a paired difference needs "
            "both for the same examples."
        )
    own = statistics.compute(names, predictions, references)
    if told := unseen(metric, references, "metric="):
        say(f"warning: the references are {told}")
    others = None if baseline is None else statistics.compute(names, baseline, references)
    return quality_of(statistics.headline_of(metric), own, others, confidence=confidence, exact=exact, data=data)


def quality_of(
    headline: str,
    own: Mapping[str, Statistics],
    others: Mapping[str, Statistics] | None,
    *,
    confidence: float,
    exact: bool,
    data: str,
) -> Quality:
    """Judge statistics that are there already, by the names of their scores, as `quality` does."""
    scores: dict[str, Score] = {}
    found: dict[str, Difference] = {}
    for name, each in own.items():
        ends = score_interval(each.table, each, confidence)
        scores[name] = Score(each.value, ends.low, ends.high, each.signature)
        if others is not None:
            found[name] = difference(each.table, others[name].table, each, confidence, exact)
    examples = len(own[headline].table)
    return Quality(headline, scores, found if others is not None else None, examples, "live", data, 0)


class Scorer:
    """Scores outputs for fixed references, each text once. BildError for a metric that is not known."""

    def __init__(self, metric: str, references: Sequence[str]) -> None:
        self.name = statistics.headline_of(metric)
        self.references: list[str] = Option(list[str], {"empty": True}).checked("references", references)
        self._known = statistics.KnownTexts((self.name,))

    @property
    def signature(self) -> str:
        """Say how the score is computed."""
        return self._known.any(self.name).signature

    def table(self, texts: Sequence[str]) -> Floats:
        """Turn one text for each reference into additive statistics: [examples, statistics]."""
        return self.rows(list(enumerate(texts)))

    def rows(self, items: Sequence[tuple[int, str]]) -> Floats:
        """Turn texts for some of the references, (index, text), into additive statistics: [items, statistics]."""
        if not all(0 <= i < len(self.references) for i, _ in items):
            raise BildError(f"There are {len(self.references)} references: give one text for each of them at most.")
        texts, references = [text for _, text in items], [self.references[i] for i, _ in items]
        return self._known.compute(texts, references)[self.name].table

    def score(self, sums: Floats, examples: int) -> float:
        """Return the score, 0..100, of statistics summed over so many examples."""
        return float(self.scores(sums[None, :], examples)[0])

    def scores(self, sums: Floats, examples: int) -> Floats:
        """Return the scores of many sums [many, statistics], each over so many examples: [many]."""
        return self._known.any(self.name).scores(sums, examples)


_BLIND = {"rouge": r"[^\0-\x7f]", "bleu:zh": f"(?![\u3400-\u9fff])[{WITHOUT_SPACES}]"}
_BLIND |= dict.fromkeys(("bleu", "bleu:intl", "bleu:none"), f"[{WITHOUT_SPACES}]")
"""By metric, the letters that its tokenizer sees no words in."""


def unseen(metric: str, references: Iterable[str], option: str = "task.metric=") -> str | None:
    """Say that a metric sees no words in most letters of the references, and which one does; else None."""
    letters = "".join(c for text in references for c in text.lower() if c.isalpha())
    blind = re.findall(_BLIND.get(metric, "(?!)"), letters)
    if 2 * len(blind) <= len(letters):
        return None
    chinese = 2 * sum("\u3400" <= c <= "\u9fff" for c in blind) > len(blind)
    better = "rouge:unicode" if metric == "rouge" else "bleu:zh" if chinese else "bleu:char"
    return f"in a script in which {option}{metric} sees no words: set {option}{better}."
