"""CALM through the public door: from a command to a record that tells how deep the tokens went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bild.api import generate
from bild.errors import BildError
from bild.measure.aggregate import counts_of
from bild.models import Pair
from bild.results import find_records
from tests.cli.commands import QUICK, call
from tests.measure.lines import sample

TEXT = "Ein Mann in einem blauen Hemd steht auf einer Leiter."
DEPTH = 8
"""Decoder layers of the embedded large model."""


@pytest.mark.slow
def test_a_run_records_its_settings_and_its_layers(tmp_path: Path) -> None:
    options = ("method=calm", "threshold.exit=0.5,1", "method.decay=null", "task.samples=3")
    swept = call("bild.run", "-m", *options, *QUICK, cwd=tmp_path)
    assert swept.code == 0, swept.err
    points, skipped = find_records(tmp_path / "results")
    assert not skipped
    early, whole = sorted((point.record for point in points), key=lambda record: record.threshold.exit or 0)
    assert (early.label, whole.label) == ("CALM constant 0.5", "CALM constant 1")
    assert (early.method.confidence, early.method.decay, early.method.min_layers) == ("state", None, 2)
    assert (early.threshold.fb, early.threshold.rb, early.method.max_draft) == (None, None, None)
    for record in (early, whole):
        layers = record.counts.exit_layers
        assert layers is not None
        assert sum(layers.values()) == record.counts.tokens == record.counts.large_passes
        mean = sum(layer * n for layer, n in layers.items()) / record.counts.tokens
        assert record.counts.layer_share == pytest.approx(mean / DEPTH)
        assert record.latency.phases.large > 0
        assert record.latency.phases.small == record.latency.phases.encode_small == 0
    assert (early.counts.layer_share or 1) < 1
    assert whole.counts.exit_layers == {DEPTH: whole.counts.tokens}
    for line in (points[0].path / "samples.jsonl").read_text().splitlines():
        told = json.loads(line)
        assert len(told["layers"]) == len(told["tokens"]) - 1
        assert told["depth"] == DEPTH


def test_layers_are_counted_over_the_tokens_of_all_examples() -> None:
    made = [
        sample([0, 5, 6, 1], 1.0, baseline=([0, 1], 1.0), layers=[2, 6, 3], depth=6),
        sample([0, 5, 1], 1.0, baseline=([0, 1], 1.0), layers=[2, 2], depth=6),
    ]
    counts = counts_of(made)
    assert counts.exit_layers == {2: 3, 3: 1, 6: 1}
    assert counts.layer_share == pytest.approx((2 + 6 + 3 + 2 + 2) / (5 * 6))


def test_other_methods_have_no_layers_to_tell() -> None:
    counts = counts_of([sample([0, 5, 1], 1.0, baseline=([0, 1], 1.0))])
    assert counts.exit_layers is None
    assert counts.layer_share is None


def test_generate(embedded_pair: Pair) -> None:
    vanilla = generate(embedded_pair, TEXT, method="vanilla")
    whole = generate(embedded_pair, TEXT, method="calm", exit=1.0, decay=None)
    early = generate(embedded_pair, TEXT, method="calm", exit=0.0, decay=None)
    assert whole.text == vanilla.text
    assert set(whole.run.decoded.layers) == {DEPTH}
    assert set(early.run.decoded.layers) == {2}
    with pytest.raises(BildError, match="method=calm does not run on engine=hf"):
        generate(embedded_pair, TEXT, method="calm", engine="hf")
