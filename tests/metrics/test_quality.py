"""Scores, their intervals and differences, through the public door."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from bild.errors import BildError
from bild.metrics import Scorer, quality
from bild.metrics.statistics import one_per_line
from bild.results.interval import Difference
from bild.results.parts import Quality
from tests.metrics.texts import references, worsened

REFERENCES = references(200)
GOOD = worsened(REFERENCES, 0.2)
POOR = worsened(REFERENCES, 0.5)


# --- values


@pytest.mark.parametrize("predictions", [GOOD, POOR, REFERENCES, [""] * 200, ["!"] * 200], ids=list("gprE!"))
def test_bleu_and_chrf_are_sacrebleus_to_the_last_digit(predictions):
    scores = quality("bleu", predictions, REFERENCES).scores
    assert scores["bleu"].value == sacrebleu.BLEU().corpus_score(predictions, [REFERENCES]).score
    assert scores["chrf"].value == sacrebleu.CHRF().corpus_score(predictions, [REFERENCES]).score


@pytest.mark.parametrize("predictions", [GOOD, POOR, [""] * 200], ids=list("gpE"))
def test_rouge_is_rouge_scores_on_one_sentence_a_line(predictions):
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    rows = [
        scorer.score(one_per_line(reference), one_per_line(prediction))
        for reference, prediction in zip(REFERENCES, predictions, strict=True)
    ]
    scores = quality("rouge", predictions, REFERENCES).scores
    for name, score in scores.items():
        assert score.value == 100 * np.mean([row[name].fmeasure for row in rows])


def test_text_with_one_sentence_a_line_is_scored_as_it_stands():
    predictions = ["A storm hit the city .\nNobody was hurt .", "The bridge is closed"]
    targets = ["Nobody was hurt .\nThe storm hit a city on Monday .", "The old bridge has closed ."]
    scorer = RougeScorer(["rougeLsum"], use_stemmer=True)
    plain = [scorer.score(t, p)["rougeLsum"].fmeasure for t, p in zip(targets, predictions, strict=True)]
    assert quality("rouge", predictions, targets).scores["rougeLsum"].value == 100 * np.mean(plain)


def test_sentence_splitting_moves_rouge_lsum_alone():
    target = "A storm hit the city. Nobody was hurt."
    prediction = "Nobody was hurt. A storm hit the city."
    swapped = quality("rouge", [prediction], [target]).scores
    assert swapped["rougeLsum"].value == pytest.approx(100)
    assert swapped["rougeL"].value < 70
    plain = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(target, prediction)
    assert {name: swapped[name].value for name in plain} == {name: 100 * s.fmeasure for name, s in plain.items()}


def test_arguments_are_not_swapped():
    longer, shorter = ["the old bridge is closed today again"], ["the old bridge is closed"]
    assert quality("bleu", shorter, longer).scores["bleu"].value < quality("bleu", longer, longer).scores["bleu"].value
    assert (
        quality("bleu", shorter, longer).scores["bleu"].value == sacrebleu.BLEU().corpus_score(shorter, [longer]).score
    )


def test_case_counts_for_bleu():
    value = quality("bleu", ["the old bridge is closed"], ["The Old Bridge Is Closed"]).scores["bleu"].value
    assert value == 0.0


def test_stems_count_for_rouge():
    assert quality("rouge", ["closing bridges"], ["closed bridge"]).scores["rouge1"].value == 100.0


@pytest.mark.parametrize(
    ("metric", "headline", "names"),
    [("bleu", "bleu", ["bleu", "chrf"]), ("rouge", "rougeLsum", ["rouge1", "rouge2", "rougeL", "rougeLsum"])],
)
def test_names(metric, headline, names):
    found = quality(metric, GOOD[:5], REFERENCES[:5], baseline=POOR[:5])
    assert found.headline == headline
    assert list(found.scores) == list(found.difference or {}) == names
    assert list(found.scores) == names


# --- signatures


def test_signatures_say_how():
    bleu = quality("bleu", GOOD, REFERENCES).scores
    version = sacrebleu.__version__
    assert bleu["bleu"].signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert bleu["chrf"].signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"
    rouge = quality("rouge", GOOD[:3], REFERENCES[:3]).scores["rougeLsum"].signature
    assert rouge == "rougeLsum|nrefs:1|stat:f1|average:mean|stemmer:yes|split:bild-1|version:0.1.2"


# --- intervals


@pytest.mark.parametrize("metric", ["bleu", "rouge"])
def test_a_score_lies_in_its_interval(metric):
    for score in quality(metric, POOR, REFERENCES).scores.values():
        assert score.low < score.value < score.high


def test_the_interval_is_about_sacrebleus_own():
    own = quality("bleu", POOR, REFERENCES).scores["bleu"]
    theirs = sacrebleu.BLEU().corpus_score(POOR, [REFERENCES], n_bootstrap=1000)
    assert own.high - own.low == pytest.approx(2 * theirs._ci, rel=0.15)
    assert (own.high + own.low) / 2 == pytest.approx(theirs._mean, abs=0.3)


def test_the_interval_of_a_mean_is_about_the_normal_one():
    score = quality("rouge", POOR, REFERENCES).scores["rouge1"]
    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    values = [100 * scorer.score(r, p)["rouge1"].fmeasure for r, p in zip(REFERENCES, POOR, strict=True)]
    assert score.high - score.low == pytest.approx(2 * 1.96 * np.std(values) / len(values) ** 0.5, rel=0.15)


def test_more_confidence_is_a_wider_interval():
    narrow, wide = (quality("bleu", POOR, REFERENCES, confidence=c).scores["bleu"] for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.value == narrow.value


def test_of_one_example_nothing_is_known():
    score = quality("bleu", GOOD[:1], REFERENCES[:1]).scores["bleu"]
    assert (score.low, score.high) == (pytest.approx(score.value - 100), pytest.approx(score.value + 100))


# --- differences


def test_without_a_baseline_there_is_no_difference():
    assert quality("bleu", GOOD, REFERENCES).difference is None


@pytest.mark.parametrize("metric", ["bleu", "rouge"])
def test_a_difference_is_prediction_minus_baseline(metric):
    both = quality(metric, POOR, REFERENCES, baseline=GOOD)
    baseline = quality(metric, GOOD, REFERENCES)
    assert both.difference is not None
    for name, gap in both.difference.items():
        assert gap.value == pytest.approx(both.scores[name].value - baseline.scores[name].value)
        assert gap.low < gap.lower < gap.value < gap.upper < gap.high < 0


@pytest.mark.parametrize("metric", ["bleu", "rouge"])
def test_equal_outputs_differ_by_nothing_and_say_as_much_of_others_as_their_number_allows(metric):
    for examples in (len(POOR), len(POOR) // 2):
        some = POOR[:examples]
        found = quality(metric, some, REFERENCES[:examples], baseline=some)
        own, size = (found.difference or {})[found.headline], found.scores[found.headline].value
        assert own.value == 0.0
        assert own.low < own.lower < 0 < own.upper < own.high
        assert -4 * size / examples < own.lower < -2.9 * size / examples  # the rule of three
    exact = quality(metric, POOR, REFERENCES, baseline=POOR, exact=True).difference or {}
    assert set(exact.values()) == {Difference(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)}


def test_differences_are_paired():
    """Two systems with the same errors but for one example: an unpaired difference would vary as both scores do."""
    other = [*POOR[:-1], REFERENCES[-1]]
    found = quality("bleu", other, REFERENCES, baseline=POOR)
    assert found.difference is not None
    width = found.scores["bleu"].high - found.scores["bleu"].low
    assert found.difference["bleu"].high - found.difference["bleu"].low < 2**0.5 * width / 2


# --- refusals


def test_no_predictions():
    for metric in ("bleu", "rouge"):
        with pytest.raises(BildError, match=r"^There are no predictions: a score needs at least one example"):
            quality(metric, [], [])


def test_lengths_that_differ():
    with pytest.raises(BildError, match=r"^There are 2 predictions and 3 references: a score needs one reference for"):
        quality("bleu", ["a", "b"], ["a", "b", "c"])
    with pytest.raises(BildError, match=r"^There are 2 predictions and 1 references"):
        quality("rouge", ["a", "b"], ["a"])
    with pytest.raises(BildError, match=r"^There are 2 predictions and 1 of the baseline: a paired difference needs"):
        quality("bleu", ["a", "b"], ["a", "b"], baseline=["a"])


@pytest.mark.parametrize("texts", [["a", None], ["a", 3], [["a"], ["b"]], "ab"])
def test_what_is_no_list_of_texts(texts):
    for metric in ("bleu", "rouge"):
        with pytest.raises(BildError, match=r"^The references hold .*: a score needs a list with one text for each "):
            quality(metric, ["a", "b"], texts)
        with pytest.raises(BildError, match=r"^The predictions hold .*: a score needs a list with one text for each "):
            quality(metric, texts, ["a", "b"])


def test_an_unknown_metric():
    with pytest.raises(
        BildError, match=r"^task.metric=meteor is not known: choose one of bleu, rouge, evaluate:NAME\.$"
    ):
        quality("meteor", GOOD, REFERENCES)


# --- the room


def test_results_are_frozen_and_plain():
    found = quality("bleu", GOOD[:2], REFERENCES[:2])
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.headline = "chrf"  # type: ignore[misc]
    plain = dataclasses.asdict(found)
    assert set(plain) == {field.name for field in dataclasses.fields(Quality)}
    assert all(type(v) in (float, str) for score in plain["scores"].values() for v in score.values())


def test_scoring_imports_neither_torch_nor_hydra():
    code = (
        "import sys; from bild.metrics import quality;"
        "quality('bleu', ['a'], ['b']); quality('rouge', ['a'], ['b']);"
        "print([name for name in ('torch', 'hydra', 'evaluate', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


HINDI = ["पूर्व प्रधानमन्त्री शिंजो आबेको हत्याले जापान स्तब्ध छ।", "सुप्रभात संसार।"]
CHINESE = ["今天天气很好，我们去公园散步。", "他在图书馆里读书。"]


KHMER = ["សួស្តីពិភពលោក", "សូមអរគុណច្រើន"]


@pytest.mark.parametrize("texts", [HINDI, CHINESE, KHMER])
def test_rouge_sees_every_script_by_its_unicode_tokenizer(texts):
    found = quality("rouge:unicode", texts, texts)
    assert found.headline == "rougeLsum:unicode"
    assert {round(score.value, 6) for score in found.scores.values()} == {100.0}
    assert "stemmer:no|tok:unicode" in found.scores[found.headline].signature
    other = quality("rouge:unicode", ["Кошка спит на диване 2 часа."], ["Собака бежит по улице 2 раза."])
    assert other.scores[other.headline].value < 20


def test_bleu_takes_another_tokenizer_and_says_so():
    near = ["今天天气很好，我们去公园散散步。", CHINESE[1]]
    found = quality("bleu:zh", near, CHINESE)
    assert found.scores["bleu:zh"].value == pytest.approx(sacrebleu.corpus_bleu(near, [CHINESE], tokenize="zh").score)
    assert "tok:zh" in found.scores["bleu:zh"].signature
    assert list(found.scores) == ["bleu:zh", "chrf"]
    scorer = Scorer("bleu:zh", CHINESE)
    assert scorer.score(scorer.table(near).sum(axis=0), 2) == pytest.approx(found.scores["bleu:zh"].value)


@pytest.mark.parametrize(("metric", "better"), [("rouge", "rouge:unicode"), ("bleu", "bleu:zh")])
def test_a_script_that_a_metric_does_not_see_is_told(capsys, metric, better):
    texts = ["今天天气很好，我们去公园散步。", "他在图书馆里读书。"]
    assert quality(metric, texts, texts).scores[metric.replace("rouge", "rougeLsum")].value == 0
    told = f"in a script in which metric={metric} sees no words: set metric={better}.\n"
    assert capsys.readouterr().err == f"warning: the references are {told}"
    found = quality(better, texts, texts)
    assert found.scores[found.headline].value == pytest.approx(100)
    assert capsys.readouterr().err == ""


def test_an_unknown_tokenizer():
    with pytest.raises(BildError, match=r"^task.metric=rouge:zh is not known: after rouge: goes one of default, uni"):
        quality("rouge:zh", GOOD, REFERENCES)
