"""The counts that each score needs of every example, so that any resample of the examples can be scored by a sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from bild.errors import BildError
from bild.metrics.bootstrap import Floats
from bild.metrics.sentences import RULES, one_per_line

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
SCORES = {"bleu": ("bleu", "chrf"), "rouge": ROUGE_TYPES}
EVALUATE = "evaluate:"
"""Begins the name of a metric of the `evaluate` library: `evaluate:exact_match`, `evaluate:folder/of/mine.py`."""


@dataclass(frozen=True)
class Statistics:
    """One score of one set of outputs, 0..100.

    `table` holds additive statistics (examples x statistics); `score` turns their sums over any multiset of examples of
    the same size into the score of that multiset. `signature` says how the score is computed.
    """

    name: str
    value: float
    table: Floats
    score: Callable[[Floats], float]
    signature: str


def scores_of(metric: str) -> tuple[str, ...]:
    """Name the scores of a metric. BildError for a metric that is not known."""
    if metric.startswith(EVALUATE):
        return (metric,)
    if metric not in SCORES:
        raise BildError(f"The metric {metric} is not known: choose one of {', '.join(SCORES)}, or {EVALUATE}NAME.")
    return SCORES[metric]


def headline_of(metric: str) -> str:
    """Name the score of a metric that the paper reports. BildError for a metric that is not known."""
    return "rougeLsum" if metric == "rouge" else scores_of(metric)[0]


def compute(names: Sequence[str], predictions: Sequence[str], references: Sequence[str]) -> dict[str, Statistics]:
    """Compute scores by their names ("bleu", "chrf", "rougeLsum", ..., "evaluate:NAME") over the same texts."""
    others = {"bleu": bleu, "chrf": chrf}
    rouges = [name for name in names if name in ROUGE_TYPES]
    found = rouge(predictions, references, rouges) if rouges else {}
    for name in names:
        if name in others:
            found[name] = others[name](predictions, references)
        elif name not in found:
            found[name] = evaluated(name, predictions, references)
    return {name: found[name] for name in names}


def bleu(predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """sacreBLEU's corpus BLEU: 13a tokenisation, cased, exponential smoothing."""
    return _sacrebleu("bleu", BLEU(force=True), predictions, references)


def chrf(predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """sacreBLEU's corpus chrF2: character 6-grams, no words."""
    return _sacrebleu("chrf", CHRF(), predictions, references)


def rouge(
    predictions: Sequence[str], references: Sequence[str], types: Sequence[str] = ROUGE_TYPES
) -> dict[str, Statistics]:
    """The means of rouge-score's F1 over the examples, Porter-stemmed, by name.

    The paper's "ROUGE-L" is rougeLsum. Texts are put one sentence a line first, as the authors' evaluation does; that
    changes rougeLsum alone, because the others take a line end for a space. The plain mean stands where the authors'
    library takes the median of bootstrap means, which moves from run to run in the second decimal.
    """
    from rouge_score.rouge_scorer import RougeScorer  # here, because it is slow to import

    _check(predictions, references)
    scorer = RougeScorer(list(types), use_stemmer=True)
    rows = [
        scorer.score(one_per_line(reference), one_per_line(prediction))
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    found: dict[str, Statistics] = {}
    for name in types:
        column = np.array([row[name].fmeasure for row in rows])
        found[name] = Statistics(
            name=name,
            value=100 * float(np.mean(column)),
            table=column[:, None],
            score=lambda sums: 100 * float(sums[0]) / len(rows),
            signature=f"{name}|nrefs:1|stat:f1|average:mean|stemmer:yes|split:{RULES}|version:{version('rouge-score')}",
        )
    return found


def _sacrebleu(name: str, metric: Any, predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """Take sacreBLEU apart where its own bootstrap does: per-example counts, summed, then scored."""
    _check(predictions, references)
    rows = metric._extract_corpus_statistics(list(predictions), [list(references)])
    return Statistics(
        name=name,
        value=float(metric._aggregate_and_compute(rows).score),
        table=np.array(rows, dtype=np.float64),
        score=lambda sums: float(metric._compute_score_from_stats([int(count) for count in sums]).score),
        signature=str(metric.get_signature()),
    )


def evaluated(name: str, predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """The mean over the examples of a metric of the `evaluate` library, in its own unit: its first number counts.

    The library runs the metric's code: from a file or folder, or from the hub by name. BildError where there is none.
    """
    _check(predictions, references)
    import evaluate  # here, because it imports torch

    try:
        module = evaluate.load(name.removeprefix(EVALUATE), keep_in_memory=True)
        found = [module.compute(predictions=[p], references=[r]) for p, r in zip(predictions, references, strict=True)]
        values = [next(float(value) for value in one.values() if isinstance(value, int | float)) for one in found]
    except Exception as error:  # the metric's own code runs here
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BildError(
            f"task.metric={name} cannot be used: {reason}; give the name of a metric of the evaluate library whose "
            "result has a number, or a file with one."
        ) from error
    table = np.array(values)[:, None] / 100  # as of every mean: 100 times the mean of the table is the score
    version_of = version("evaluate")
    return Statistics(
        name=name,
        value=float(np.mean(values)),
        table=table,
        score=lambda sums: 100 * float(sums[0]) / len(values),
        signature=f"{name}|nrefs:1|average:mean|version:{version_of}",
    )


def _check(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references):
        raise BildError(
            f"There are {len(predictions)} predictions and {len(references)} references: a score needs one reference "
            "for each prediction."
        )
    if not predictions:
        raise BildError("There are no predictions: a score needs at least one example (an empty text counts as one).")
