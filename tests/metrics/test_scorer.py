"""The scorer of many systems gives what scoring each by itself gives."""

from __future__ import annotations

import numpy as np
import pytest

from bild.errors import BildError
from bild.metrics import Scorer, quality, statistics

REFERENCES = ["A dog runs through the grass .", "Two men play football .", "A woman reads ."]
SYSTEMS = [
    ["A dog runs in the grass .", "Two men play .", "A woman reads ."],
    ["A dog runs in the grass .", "Men play football .", "A woman is reading a book ."],
]


@pytest.mark.parametrize("metric", ["bleu", "rouge"])
def test_every_system_scores_as_by_itself(metric: str) -> None:
    scorer = Scorer(metric, REFERENCES)
    for texts in SYSTEMS:
        alone = quality(metric, texts, REFERENCES)
        assert scorer.score(scorer.table(texts).sum(axis=0), 3) == pytest.approx(alone.scores[scorer.name].value)
        assert scorer.signature == alone.scores[scorer.name].signature


@pytest.mark.parametrize("metric", ["bleu", "rouge"])
def test_a_part_of_the_examples_scores_as_by_itself(metric: str) -> None:
    scorer = Scorer(metric, REFERENCES)
    part = np.array([True, False, True])
    alone = quality(metric, SYSTEMS[1][::2], REFERENCES[::2])
    table = scorer.table(SYSTEMS[1])
    assert scorer.score(table[part].sum(axis=0), 2) == pytest.approx(alone.scores[scorer.name].value)


def test_a_text_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer("bleu", REFERENCES)
    scorer.table(SYSTEMS[0])
    seen: list[int] = []
    inner = statistics.compute
    monkeypatch.setattr(statistics, "compute", lambda names, p, r: seen.append(len(p)) or inner(names, p, r))
    scorer.table(SYSTEMS[1])
    scorer.table(SYSTEMS[0])
    assert seen == [2]


@pytest.mark.parametrize("metric", ["bleu", "rouge"])
def test_many_sums_are_scored_as_one_after_another(metric: str) -> None:
    scorer = Scorer(metric, REFERENCES)
    tables = [scorer.table(texts) for texts in [*SYSTEMS, ["", "", ""], ["x y", "a", "b c d"]]]
    sums = np.array([table[list(rows)].sum(axis=0) for table in tables for rows in ((0, 1, 2), (1, 1, 1), (0, 2, 2))])
    each = [scorer.score(row, 3) for row in sums]
    assert scorer.scores(sums, 3) == pytest.approx(each, rel=1e-12)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(BildError, match="not known"):
        Scorer("meteor", REFERENCES)


@pytest.mark.parametrize("metric", ["bleu", "rouge"])
def test_texts_that_come_again_are_scored_as_if_anew(metric: str) -> None:
    known = statistics.KnownTexts(statistics.scores_of(metric))
    references = ["a b c d e f.", "g h i j k l.", "a b c d e f."]
    for texts in (["a b c d", "g h i", "a b c d"], ["a b c d", "g h i j k z", "x"], ["a b c d", "g h i", "x"]):
        anew = statistics.compute(statistics.scores_of(metric), texts, references)
        for name, found in known.compute(texts, references).items():
            assert found.value == pytest.approx(anew[name].value, abs=1e-9)
            assert (found.table == anew[name].table).all()
            assert found.signature == anew[name].signature
