"""`task.metric=evaluate:NAME`: a metric of the `evaluate` library is averaged over the examples and resampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bild.config import TaskConfig
from bild.errors import BildError
from bild.metrics import Scorer, quality

OVERLAP = """
import datasets
import evaluate


class Overlap(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        pairs = [(set(p.split()), set(r.split())) for p, r in zip(predictions, references)]
        return {"note": "words", "overlap": sum(len(p & r) / len(p | r) for p, r in pairs) / len(pairs)}
"""
PREDICTIONS, REFERENCES = ["a dog runs", "two men", "a b"], ["a dog runs", "two women", "c d"]
EACH = [1.0, 1 / 3, 0.0]


@pytest.fixture
def metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a metric in a file."""
    (tmp_path / "overlap.py").write_text(OVERLAP)
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    return f"evaluate:{tmp_path / 'overlap.py'}"


def test_it_is_a_mean_with_an_interval_and_a_signature(metric: str) -> None:
    found = quality(metric, PREDICTIONS, REFERENCES, baseline=REFERENCES)
    score = found.scores[found.headline]
    assert found.headline == metric == TaskConfig(metric=metric).metric
    assert score.value == pytest.approx(np.mean(EACH))
    assert score.low < score.value < score.high
    assert score.signature.startswith(f"{metric}|nrefs:1|average:mean|version:")
    assert found.difference is not None
    assert found.difference[metric].value == pytest.approx(np.mean(EACH) - 1)


def test_the_scorer_of_many_systems_agrees(metric: str) -> None:
    scorer = Scorer(metric, REFERENCES)
    table = scorer.table(PREDICTIONS)
    assert scorer.score(table.sum(axis=0), 3) == pytest.approx(np.mean(EACH))
    assert scorer.scores(table, 1) == pytest.approx(EACH)
    assert scorer.name == metric


def test_what_is_no_metric_is_refused(tmp_path: Path, metric: str) -> None:
    (tmp_path / "broken.py").write_text("import evaluate\nraise RuntimeError('not today.\\nMore.')\n")
    for name, reason in ((f"{tmp_path}/none.py", "Couldn't find"), (f"{tmp_path}/broken.py", "not today")):
        with pytest.raises(BildError, match=rf"^task\.metric=evaluate:{name} cannot be used: {reason}") as caught:
            quality(f"evaluate:{name}", ["a"], ["a"])
        assert "\n" not in str(caught.value)
    with pytest.raises(BildError, match=r"^task\.metric=meteor is not known: choose one of bleu, rouge"):
        TaskConfig(metric="meteor")
