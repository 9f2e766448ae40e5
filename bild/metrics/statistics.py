"""The counts that each score needs of every example, so that any resample of the examples can be scored by a sum.

rougeLsum scores sentence by sentence, a line each, as the paper's figures do on text that NLTK's Punkt has split, whose
trained model has to be fetched. `sentences` decides like Punkt does on news text; where they differ, only a boundary
moves, and only rougeLsum can see it. Text with one sentence a line is scored exactly as rouge-score itself scores it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from bild.config import EVALUATE, WITHOUT_SPACES, scored_by
from bild.errors import BildError, refusing
from bild.metrics.claims import Floats

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
SCORES = {"bleu": ("bleu", "chrf"), "rouge": ROUGE_TYPES}


@dataclass(frozen=True)
class Statistics:
    """One score of one set of outputs, 0..100.

    `table` holds additive statistics (examples x statistics); `score` turns their sums over any multiset of so many
    examples into the score of that multiset. `signature` says how the score is computed.
    """

    name: str
    value: float
    table: Floats
    score: Callable[[Floats, int], float]
    signature: str

    def scores(self, sums: Floats, examples: int) -> Floats:
        """Return the scores of many sums [many, statistics], each over so many examples: [many]."""
        if sums.shape[1] == 1:
            return np.asarray(100.0 * sums[:, 0] / examples)
        found = corpus_bleu(sums) if self.name.startswith("bleu") else np.full(len(sums), np.nan)
        for i in np.flatnonzero(np.isnan(found)):
            found[i] = self.score(sums[i], examples)
        return found


def scores_of(metric: str) -> tuple[str, ...]:
    """Name the scores of a metric: "bleu" or "rouge", "bleu:zh" with another tokenizer, or "evaluate:NAME".

    Raises BildError for a metric or a tokenizer that is not known.
    """
    if metric == scored_by(metric) and metric.startswith(EVALUATE):
        return (metric,)
    base, _, tokenizer = scored_by(metric).partition(":")
    return tuple(f"{name}:{tokenizer}" if tokenizer and name != "chrf" else name for name in SCORES[base])


def headline_of(metric: str) -> str:
    """Name the score of a metric that the paper reports. BildError for a metric that is not known."""
    names = scores_of(metric)
    return names[ROUGE_TYPES.index("rougeLsum")] if metric.startswith("rouge") else names[0]


def compute(names: Sequence[str], predictions: Sequence[str], references: Sequence[str]) -> dict[str, Statistics]:
    """Compute scores by the names that `scores_of` gives, over the same texts."""
    rouges = [name.partition(":")[0] for name in names if name.startswith("rouge")]
    tokenizer = next((name.partition(":")[2] for name in names if not name.startswith(EVALUATE)), "")
    found = rouge(predictions, references, rouges, tokenizer) if rouges else {}
    for name in names:
        if name.startswith("bleu"):
            found[name] = bleu(predictions, references, tokenizer or "13a")
        elif name == "chrf":
            found[name] = chrf(predictions, references)
        elif name not in found:
            found[name] = evaluated(name, predictions, references)
    return {name: found[name] for name in names}


class KnownTexts:
    """Computes scores of these names, each pair of text and reference once however often it comes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._rows: dict[tuple[str, str], dict[str, Floats]] = {}
        self._last: dict[str, Statistics] = {}

    def compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Statistics]:
        """Compute as the function of this name does."""
        _check(predictions, references)
        pairs = list(zip(predictions, references, strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._rows]
        if new:
            self._last = compute(self.names, [text for text, _ in new], [reference for _, reference in new])
            for i, pair in enumerate(new):
                self._rows[pair] = {name: each.table[i] for name, each in self._last.items()}
        return {name: self._of(name, pairs) for name in self.names}

    def any(self, name: str) -> Statistics:
        """Return a score of this name, of whatever texts: for its signature, and to score sums."""
        self._last = self._last or compute(self.names, ["x"], ["x"])
        return self._last[name]

    def _of(self, name: str, pairs: Sequence[tuple[str, str]]) -> Statistics:
        table = np.array([self._rows[pair][name] for pair in pairs])
        value = float(self._last[name].scores(table.sum(axis=0)[None, :], len(table))[0])
        return replace(self._last[name], table=table, value=value)


def bleu(predictions: Sequence[str], references: Sequence[str], tokenizer: str = "13a") -> Statistics:
    """Compute sacreBLEU's corpus BLEU: cased, exponential smoothing, by one of its tokenizers."""
    # Some tokenizers need a package or a download.
    with refusing(lambda why: f"task.metric=bleu:{tokenizer} cannot be used: {why}."):
        metric = BLEU(force=True, tokenize=tokenizer)
    return _sacrebleu("bleu" if tokenizer == "13a" else f"bleu:{tokenizer}", metric, predictions, references)


def chrf(predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """Compute sacreBLEU's corpus chrF2: character 6-grams, no words."""
    return _sacrebleu("chrf", CHRF(), predictions, references)


def rouge(
    predictions: Sequence[str], references: Sequence[str], types: Sequence[str] = ROUGE_TYPES, tokenizer: str = ""
) -> dict[str, Statistics]:
    """Compute the means of rouge-score's F1 over the examples, Porter-stemmed, by name.

    The paper's "ROUGE-L" is rougeLsum. Texts are put one sentence a line first, as the authors' evaluation does; that
    changes rougeLsum alone, because the others take a line end for a space. The plain mean stands where the authors'
    library takes the median of bootstrap means, which moves from run to run in the second decimal. rouge-score sees
    a-z and digits only; the tokenizer "unicode" sees the words of every script, and does not stem.
    """
    from rouge_score.rouge_scorer import RougeScorer  # here, because it is slow to import

    _check(predictions, references)
    scorer = RougeScorer(list(types), use_stemmer=True, tokenizer=_UnicodeWords() if tokenizer else None)
    stemmer = "no|tok:unicode" if tokenizer else "yes"
    rows = [
        scorer.score(one_per_line(reference), one_per_line(prediction))
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    found: dict[str, Statistics] = {}
    for kind in types:
        name = f"{kind}:{tokenizer}" if tokenizer else kind
        column = np.array([row[kind].fmeasure for row in rows])
        found[name] = Statistics(
            name=name,
            value=100 * float(np.mean(column)),
            table=column[:, None],
            score=_mean,
            signature=f"{name}|nrefs:1|stat:f1|average:mean|stemmer:{stemmer}|split:{RULES}|"
            f"version:{version('rouge-score')}",
        )
    return found


def _mean(sums: Floats, examples: int) -> float:
    return 100.0 * float(sums[0]) / examples


class _UnicodeWords:
    """Words of any script in lower case; where a script puts no space between words, each character is one."""

    def tokenize(self, text: str) -> list[str]:
        """Split a text into its words; marks of punctuation are left out."""
        kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text.lower())
        return re.sub(f"([{WITHOUT_SPACES}])", r" \1 ", kept).split()


def _sacrebleu(name: str, metric: Any, predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """Take sacreBLEU apart where its own bootstrap does: per-example counts, summed, then scored."""
    _check(predictions, references)
    rows = metric._extract_corpus_statistics(list(predictions), [list(references)])
    return Statistics(
        name=name,
        value=float(metric._aggregate_and_compute(rows).score),
        table=np.array(rows, dtype=np.float64),
        score=lambda sums, _: float(metric._compute_score_from_stats([int(count) for count in sums]).score),
        signature=str(metric.get_signature()),
    )


def corpus_bleu(sums: Floats) -> Floats:
    """Compute BLEU from sacreBLEU's corpus statistics [draws, 2 + 2 * 4]: both lengths, matches, n-grams.

    NaN where an n-gram order has no match, so that smoothing comes into play.
    """
    system, reference, matches, grams = sums[:, 0], sums[:, 1], sums[:, 2:6], sums[:, 6:10]
    plain = (matches > 0).all(axis=1)
    found = np.full(len(sums), np.nan)
    logarithms = np.log(100.0 * matches[plain] / grams[plain]).mean(axis=1)
    brevity = np.minimum(0.0, 1.0 - reference[plain] / system[plain])
    found[plain] = np.exp(brevity + logarithms)
    return found


def evaluated(name: str, predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """Average a metric of the `evaluate` library over the examples, in its own unit: its first number counts.

    The library runs the metric's code: from a file or folder, or from the hub by name. BildError where there is none.
    """
    _check(predictions, references)
    import evaluate  # here, because it imports torch

    mend = "name a metric of the evaluate library whose result has a number, or a file with one"
    with refusing(lambda why: f"task.metric={name} cannot be used: {why}; {mend}."):  # the metric's own code runs
        module = evaluate.load(name.removeprefix(EVALUATE), keep_in_memory=True)
        found = [module.compute(predictions=[p], references=[r]) for p, r in zip(predictions, references, strict=True)]
        values = [next(float(value) for value in one.values() if isinstance(value, int | float)) for one in found]
    table = np.array(values)[:, None] / 100  # as of every mean: 100 times the mean of the table is the score
    signature = f"{name}|nrefs:1|average:mean|version:{version('evaluate')}"
    return Statistics(name=name, value=float(np.mean(values)), table=table, score=_mean, signature=signature)


def _check(predictions: Sequence[str], references: Sequence[str]) -> None:
    for what, texts in (("predictions", predictions), ("references", references)):
        many = isinstance(texts, Sequence) and not isinstance(texts, str)
        if odd := [text for text in (texts if many else [texts]) if not many or not isinstance(text, str)]:
            raise BildError(f"The {what} hold {odd[0]!r:.40}: a score needs a list with one text for each example.")
    if len(predictions) != len(references):
        given = f"{len(predictions)} predictions and {len(references)} references"
        raise BildError(f"There are {given}: a score needs one reference for each prediction.")
    if not predictions:
        raise BildError("There are no predictions: a score needs at least one example (an empty text counts as one).")


RULES = "bild-1"  # goes into signatures: count up when the rules change


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that a full stop belongs to. After the first group a sentence never ends. After the second it ends where a
# capitalised word that commonly opens one follows ("... of Acme Corp. The firm ...").
_BEFORE_A_NAME = _words(
    "adm brig capt cmdr col dr fr gen gov hon insp lt maj messrs mr mrs ms mt prof rep reps rev sen sens sgt st supt "
    "cf e.g i.e vs v viz"
)
_MAY_END = _words(
    "a.m p.m bros co corp cos inc jr ltd plc sr approx ave dept dist est ft hr hrs lb lbs mg min oz sec yr "
    "jan feb aug sept sep oct nov dec mon tues wed thurs fri "
    "ala ariz calif colo conn fla ga ill kan ky mass mich minn nev okla ore pa tenn va vt wash wis "
    "etc ph.d m.d b.a m.a"
)
_OPENERS = _words(
    "a after all although an and as at both but by despite during even every few for from he her here his how however "
    "i if in is it its last many meanwhile more most mr mrs ms my no not now of on one only other our she since so "
    "some such that the their then there these they this those though three to two under until we what when where "
    "which while who why with yet you your"
)
_LETTERS_WITH_STOPS = re.compile(r"([a-z]\.)+[a-z]")  # u.s, r.e.m
_OPENING_MARKS = "([{\"'“‘«"
_CLOSING_MARKS = ")]}\"'”’»"


def sentences(text: str) -> list[str]:
    """Split a text into its sentences, stripped, in order; none for a blank text. Each stays on one line."""
    found: list[str] = []
    for line in text.split("\n"):
        start = 0
        for token, following in pairwise(re.finditer(r"\S+", line)):
            if _ends(token[0].rstrip(_CLOSING_MARKS), following[0]):
                found.append(line[start : token.end()])
                start = following.start()
        found.append(line[start:])
    return [sentence.strip() for sentence in found if sentence.strip()]


def one_per_line(text: str) -> str:
    """Put every sentence of a text on a line of its own, which is what rougeLsum reads."""
    return "\n".join(sentences(text))


def _ends(word: str, following: str) -> bool:
    """Tell whether a sentence ends after `word` when `following` comes next."""
    if not word.endswith("."):
        return word.endswith(("!", "?"))
    first = following.lstrip(_OPENING_MARKS)
    if word.endswith(".."):
        return first[:1].isupper()
    stem = word.lstrip(_OPENING_MARKS)[:-1].lower()
    if stem in _BEFORE_A_NAME:
        return False
    if len(stem) == 1 and stem.isalpha() and stem != "i":  # an initial
        return False
    if stem in _MAY_END or _LETTERS_WITH_STOPS.fullmatch(stem):
        return first[:1].isupper() and re.split(r"\W", first, maxsplit=1)[0].lower() in _OPENERS
    return True
