"""The `evaluate` modules: the same figures, no network, no files."""

from __future__ import annotations

import os
import subprocess
import sys

import evaluate
import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from bild.errors import BildError
from bild.metrics import load, quality
from tests.metrics.texts import references, worsened

REFERENCES = references(60)
PREDICTIONS = worsened(REFERENCES, 0.3)


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge"])
def test_they_are_modules_of_the_library(name):
    assert isinstance(load(name), evaluate.Metric)


def test_bleu_and_chrf_are_sacrebleus():
    bleu = load("bleu").compute(predictions=PREDICTIONS, references=REFERENCES)
    plain = sacrebleu.BLEU()
    assert bleu["bleu"] == plain.corpus_score(PREDICTIONS, [REFERENCES]).score
    assert bleu["signature"] == str(plain.get_signature())
    chrf = load("chrf").compute(predictions=PREDICTIONS, references=REFERENCES)
    assert chrf["chrf"] == sacrebleu.CHRF().corpus_score(PREDICTIONS, [REFERENCES]).score


def test_rouge_is_rouge_scores_on_text_split_into_lines():
    lines = [text.replace(". ", ".\n") for text in REFERENCES]
    outputs = worsened(REFERENCES, 0.3)
    outputs = [text.replace(". ", ".\n") for text in outputs]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    rows = [scorer.score(reference, output) for reference, output in zip(lines, outputs, strict=True)]
    found = load("rouge").compute(predictions=outputs, references=lines)
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        assert found[name] == 100 * np.mean([row[name].fmeasure for row in rows])


@pytest.mark.parametrize(("metric", "modules"), [("bleu", ["bleu", "chrf"]), ("rouge", ["rouge"])])
def test_they_agree_with_quality(metric, modules):
    scores = quality(metric, PREDICTIONS, REFERENCES, draws=100).scores
    found: dict[str, float] = {}
    for name in modules:
        found |= load(name).compute(predictions=PREDICTIONS, references=REFERENCES)
    assert {name: found[name] for name in scores} == {name: score.value for name, score in scores.items()}


def test_examples_can_come_in_batches():
    whole = load("bleu").compute(predictions=PREDICTIONS, references=REFERENCES)
    module = load("bleu")
    module.add_batch(predictions=PREDICTIONS[:20], references=REFERENCES[:20])
    for prediction, reference in zip(PREDICTIONS[20:], REFERENCES[20:], strict=True):
        module.add(prediction=prediction, reference=reference)
    assert module.compute() == whole
    assert module.compute(predictions=PREDICTIONS, references=REFERENCES) == whole  # and it can be used again


def test_empty_texts_are_examples():
    assert load("bleu").compute(predictions=[""], references=["a b"])["bleu"] == 0.0
    assert load("rouge").compute(predictions=[""], references=["a b"])["rougeLsum"] == 0.0


def test_refusals():
    with pytest.raises(BildError, match=r"^The metric bertscore is not known: choose one of bleu, chrf, rouge\.$"):
        load("bertscore")
    with pytest.raises(BildError, match="There are no predictions"):
        load("bleu").compute(predictions=[], references=[])
    with pytest.raises(ValueError, match="Mismatch in the number of predictions"):
        load("bleu").compute(predictions=["a"], references=["a", "b"])


@pytest.mark.slow
def test_no_network_no_files_no_home(tmp_path):
    """A home that is a file makes every attempt to write there fail, even for the superuser."""
    home = tmp_path / "home"
    home.write_text("not a folder")
    code = (
        "from bild.metrics import load\n"
        "for name in ('bleu', 'chrf', 'rouge'):\n"
        "    found = load(name).compute(predictions=['a b c d'], references=['a b c d'])\n"
        "    print(found['rouge1' if name == 'rouge' else name])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
    environment |= {"HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert [round(float(line), 6) for line in done.stdout.split()] == [100, 100, 100], done.stderr
    assert sorted(tmp_path.rglob("*")) == before
