"""Texts that should be vanilla's are compared to it, on every engine's behalf: the library's, and exact methods'."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bild.config import (
    DecodeConfig,
    EngineConfig,
    MeasureConfig,
    MethodConfig,
    ModelConfig,
    RunConfig,
    TaskConfig,
    ThresholdConfig,
)
from bild.decoding.policies import policy_for, writes_vanilla
from bild.measure import interleave
from bild.measure.aggregate import latency_of, texts_of
from bild.measure.interleave import library_generate
from bild.measure.live import gap_between
from bild.measure.session import measure_points
from bild.models import Pair
from bild.report.points import footer, texts_note
from bild.report.sections import make_section
from bild.results import Record, comparable, frame
from bild.results.parts import Decode, EqualTexts
from tests.measure.lines import sample
from tests.models.checkpoints import write_checkpoint
from tests.records import make_record

SPECULATIVE, BILD = (MethodConfig("speculative"), ThresholdConfig()), (MethodConfig("bild"), ThresholdConfig())


def run(folder: Path, **options: Any) -> list[Record]:
    """Measure an exact method and another one with tiny checkpoints, on four examples, three by the library too."""
    large, small = (str(write_checkpoint(folder / name, seed=n)) for n, name in enumerate(("large", "small"), 1))
    rows = [json.dumps({"source": f"A dog runs {n}.", "reference": "A dog."}) for n in range(4)]
    (folder / "test.jsonl").write_text("\n".join(rows))
    config = RunConfig(
        task=TaskConfig("file", data="file", path=str(folder / "test.jsonl"), split="test", target_limit=12),
        model=ModelConfig("folders", large, small, fits=["any"]),
        engine=EngineConfig(device="cpu"),
        measure=MeasureConfig(warmup=0, library=3, calm_minutes=0),
        results=str(folder / "results"),
        **options,
    )
    return [point.record for point in measure_points(config, [SPECULATIVE, BILD])]


def test_equal_texts_are_counted_in_record_table_and_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exact, other = records = run(tmp_path)
    for record in records:
        assert record.latency.library is not None
        assert record.latency.library.texts == EqualTexts(3, 3)
        assert not any("texts" in warning for warning in record.warnings)
    assert (exact.texts, other.texts) == (EqualTexts(4, 4), None)
    assert "other texts" not in capsys.readouterr().err
    told = texts_note(make_section(records))
    assert told == " Texts of generate() that are vanilla's: 3 of 3. Texts of exact methods that are vanilla's: 4 of 4."
    table = frame(tmp_path / "results").set_index("method")
    assert list(table.loc[["bild", "speculative"], "library_texts_equal"]) == [3, 3]
    assert (table.loc["speculative", "vanilla_texts_equal"], table.loc["speculative", "vanilla_texts"]) == (4, 4)


def test_sampled_texts_are_compared_too_and_told_apart(tmp_path: Path) -> None:
    greedy, drawn = run(tmp_path), run(tmp_path, decode=DecodeConfig(True, 0.9, seed=2))
    again = run(tmp_path, decode=DecodeConfig(True, 0.9, seed=3))
    assert [record.decode for record in greedy] == [None, None]
    assert drawn[0].decode == Decode(0.9, 1.0, 2)
    for record in (drawn[0], again[0]):
        assert record.latency.library is not None
        assert record.latency.library.texts == EqualTexts(3, 3)  # the library's own warpers, and our noise
        assert record.texts == EqualTexts(4, 4)
    assert comparable(drawn[0], drawn[1]) == []
    assert comparable(drawn[0], again[0]) == ["decode.seed"]
    assert "decode.seed" in comparable(greedy[0], drawn[0])
    assert "decode.sample=true decode.top_p=0.9 decode.temperature=1.0 decode.seed=2" in str(drawn[0].command)
    assert "decode" not in str(greedy[0].command)
    told = frame(tmp_path / "results")
    assert sorted(told["decode_seed"].dropna()) == [2, 2, 3, 3]
    assert len({record.hash for record in (*greedy, *drawn, *again)}) == 6


def test_a_library_that_runs_another_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_weights(pair: Pair, *arguments: Any) -> object:
        return library_generate(dataclasses.replace(pair, large=pair.small), *arguments)

    monkeypatch.setattr(interleave, "library_generate", other_weights)
    records = run(tmp_path)
    library = records[0].latency.library
    assert library is not None
    assert library.texts is not None
    assert (library.texts.equal, library.texts.examples) == (0, 3)
    assert library.texts.gap > 0.01
    warning = "Beside engine=fused the library's generate() writes other texts than vanilla's for 3 of 3 examples"
    assert warning in capsys.readouterr().err
    assert any(warning in line for line in footer(make_section(records)))
    assert records[0].texts == EqualTexts(4, 4)


def test_an_exact_method_that_writes_other_texts_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def careless(method: MethodConfig, threshold: ThresholdConfig, *rest: object) -> object:
        never = MethodConfig("small") if method.name == "speculative" else method
        return policy_for(never, threshold)

    monkeypatch.setattr(interleave, "policy_for", careless)
    exact, other = run(tmp_path)
    assert exact.texts is not None
    assert exact.texts.equal < 4
    assert exact.texts.gap is not None
    assert other.texts is None
    assert "exact by its rules, writes other texts than vanilla's for" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["fused", "hf"])
def test_the_gap_is_that_of_the_librarys_module(embedded_pair: Pair, engine: str) -> None:
    pair, (source, _) = embedded_pair, embedded_pair.encode("Zwei Hunde spielen im Schnee.")
    text = library_generate(pair, source, 24).tokens
    other = [*text[:3], text[3] + 1, *text[4:]]
    with torch.inference_mode():
        logits = pair.large.module(torch.tensor([source]), decoder_input_ids=torch.tensor([text[:3]])).logits[0, -1]
        logp = torch.log_softmax(logits[: pair.vocabulary], -1)
    found = gap_between(pair, engine, source, text, other)
    assert found == pytest.approx(float(logp[text[3]] - logp[other[3]]), abs=1e-3)
    assert found > 0
    assert gap_between(pair, engine, source, text, list(text)) is None
    shorter = gap_between(pair, engine, source, text, text[:3])  # as if it had ended there
    assert shorter == pytest.approx(float(logp[text[3]] - logp[pair.eos]), abs=1e-3)


def test_the_widest_gap_is_recorded_and_an_unknown_one_is_none() -> None:
    same, near, far = (
        sample(tokens, 1.0, baseline=([0, 5, 1], 2.0), library=(tokens, 3.0), gap=gap, library_gap=gap)
        for tokens, gap in (([0, 5, 1], None), ([0, 6, 1], 1e-5), ([0, 7, 1], -2.5))
    )
    assert texts_of([same, near, far]) == EqualTexts(1, 3, 2.5)
    library = latency_of([same, near], MeasureConfig()).library
    assert library is not None
    assert library.texts == EqualTexts(1, 2, 1e-5)
    assert texts_of([dataclasses.replace(far, gap=None)]) == EqualTexts(0, 1, None)


@pytest.mark.parametrize(
    ("texts", "dtype", "words"),
    [
        (EqualTexts(3, 3), "fp32", None),
        (
            EqualTexts(2, 3, 1e-5),
            "fp32",
            "1 of 3 examples; where a text first differs, the large model has",
        ),
        (EqualTexts(2, 3, 1e-5), "fp32", "up to 1e-05 nats apart: a tie, which rounding decides."),
        (EqualTexts(2, 3, 4.0), "fp32", "up to 4 nats apart, which is no tie"),
        (EqualTexts(2, 3), "fp32", "measure again to learn how near they came."),
        (EqualTexts(2, 3, 0.1), "bf16", None),
        (EqualTexts(2, 3, 4.0), "bf16", "up to 4 nats apart, which is no tie"),
    ],
)
def test_a_warning_says_how_near_the_tie_was(texts: EqualTexts, dtype: str, words: str | None) -> None:
    found = make_record(texts=texts, engine__dtype=dtype).warnings
    assert found == [] if words is None else words in found[0]


@pytest.mark.parametrize(
    ("name", "switches", "thresholds", "exact"),
    [
        ("vanilla", {}, {}, True),
        ("small", {}, {}, False),
        ("calm", {}, {}, False),
        ("speculative", {}, {}, True),
        ("speculative", {"verify_eos": False}, {}, False),
        ("dynamic", {}, {"fb": 0.3}, True),
        ("cumulative", {}, {}, True),
        ("heuristic", {}, {}, True),
        ("bild", {}, {"rb": 0.0}, True),
        ("bild", {}, {"rb": 1.0}, False),
        ("bild", {"scan": "first"}, {"rb": 0.0}, False),
        ("bild", {"rules": "authors"}, {"rb": 0.0}, False),
        ("bild", {"rules": "authors", "scan": "all", "verify_eos": True}, {"rb": 0.0}, False),
        ("bild", {"keep": "exact"}, {}, True),
        ("speculative", {"keep": "share"}, {}, False),
        ("relaxed", {}, {}, False),
    ],
)
def test_what_is_exact_by_its_rules(name: str, switches: dict, thresholds: dict, exact: bool) -> None:
    assert writes_vanilla(MethodConfig(name, **switches), ThresholdConfig(**thresholds)) is exact
