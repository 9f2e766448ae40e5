"""A draft behind the large model's encoder learns from states and distributions that were computed once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bild.config import ModelConfig
from bild.engines.bridge import BridgedEncoder
from bild.errors import BildError
from bild.models import load_pair
from bild.training.alignment import align, drafted_prefixes, least_squares_bridge
from bild.training.config import AlignConfig, AlignSettings, SplitSettings, TrainSettings
from bild.training.corpus import Corpus, make_batch
from bild.training.job import train
from bild.training.targets import Lessons
from tests.training.tiny import SHAPE, record, tiny_config, tiny_module, tiny_task, write_corpus

CPU = torch.device("cpu")
CORPUS = Corpus([[3 + i] * (1 + i % 4) + [1] for i in range(10)], [[5 + i] * (1 + i % 3) + [1] for i in range(10)])


def lessons(folder: Path, monkeypatch: pytest.MonkeyPatch, free: int = 1 << 40) -> Lessons:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    return Lessons(tiny_module(2).eval(), CORPUS, 150, folder, 4)


def test_what_is_kept_is_what_the_large_model_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indices = [7, 2, 9]
    sources, targets = ([table[i] for i in indices] for table in (CORPUS.sources, CORPUS.targets))
    batch = make_batch(sources, targets, 0, CPU)._replace(indices=indices)
    computed = lessons(tmp_path, monkeypatch, free=1000)
    assert computed.kept is None
    states, given = computed(batch)
    with torch.no_grad():
        output = computed.module(input_ids=batch.sources, attention_mask=batch.source_mask, labels=batch.targets)
    assert torch.allclose(output.logits[batch.targets >= 0][:, :150].log_softmax(-1), given, atol=1e-5)
    for kept in (lessons(tmp_path, monkeypatch), lessons(tmp_path, monkeypatch)):  # the second one finds the file
        found, logp = kept(batch)
        assert torch.allclose(found, states * batch.source_mask[..., None], rtol=1e-3, atol=1e-3)
        assert torch.allclose(logp.exp(), given.exp(), rtol=1e-2, atol=1e-5)
    kept.forget()
    assert not list(tmp_path.iterdir())


def test_a_text_goes_on_from_the_small_models_own_token() -> None:
    large, small = tiny_module(4).eval(), tiny_module(5).eval()
    found = drafted_prefixes(large, small, CORPUS.sources, CORPUS.targets, 160, np.random.default_rng(0))
    for source, output, prefix in zip(CORPUS.sources, CORPUS.targets, found, strict=True):
        *same, token = prefix
        with torch.no_grad():
            logits = small(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[0, *same]])).logits
        assert output[: len(same)] == same
        assert token == logits[0, -1].argmax() != output[len(same)]


def test_a_bridge_is_fitted_to_the_encoder_that_it_replaces() -> None:
    large, small = tiny_module(4).eval(), tiny_module(4).eval()
    turned = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0))).Q
    small.encoder.register_forward_hook(lambda *args: args[2].__setitem__("last_hidden_state", args[2][0] @ turned.T))
    dice = torch.Generator().manual_seed(1)
    sources = [torch.randint(2, 150, (9,), generator=dice).tolist() for _ in range(20)]
    assert torch.allclose(least_squares_bridge(large, small, sources), turned, atol=1e-4)


@pytest.mark.slow
def test_an_alignment_leaves_a_draft_that_loads_behind_its_large_model(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    large = str(train(replace(tiny_config(corpus, tmp_path / "large", subword_dropout=0.0), splits=SplitSettings())))

    def aligned(out: str, **options: Any) -> AlignConfig:
        usual: dict[str, Any] = {"model": ModelConfig("folders", large=large, small=large), "device": "cpu"}
        usual["train"] = TrainSettings(rate=5e-3, batch=4, epochs=2, select="agreement")
        usual["align"] = AlignSettings(start="finetuned", loss="kl", batch=12, bridge=True)
        task = replace(tiny_task(corpus), target_limit=8)
        return AlignConfig(task=task, splits=SplitSettings(), out=str(tmp_path / out), **(usual | options))

    scratch = align(aligned("scratch", shape=SHAPE, align=AlignSettings("scratch", "kl", 12, True)))
    copied = align(aligned("copied"))
    options = {"train": TrainSettings(rate=5e-3, batch=4, select="tokens-per-pass"), "shape": None}
    options["align"] = AlignSettings("finetuned", "kl", 12, True, augment=1, on_policy=True)
    again = align(aligned("again", model=ModelConfig("folders", large=large, small=str(copied)), **options))
    assert len((again / "targets.jsonl").read_text().splitlines()) == 3 * len(
        (corpus / "train.jsonl").read_text().splitlines()
    )
    assert record(again)["scores"]["validation"]["tokens_per_pass_10"] >= 1.0
    for folder in (scratch, copied, again):
        assert not list(folder.glob("lessons*"))
        assert "decoder behind the encoder of its large model" in (folder / "README.md").read_text()
        pair = load_pair(large, str(folder), device="cpu")
        assert isinstance(pair.small.module.encoder, BridgedEncoder)
        assert [entry["agreement"] for entry in record(folder)["progress"]["history"] if "agreement" in entry]
    # Its own decoder behind its own encoder, through a bridge: the copy begins where the large model is.
    assert record(copied)["scores"]["validation"]["agreement"] > 0.9


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(BildError, match="which has no exits"):
        AlignConfig(model=ModelConfig(), align=AlignSettings(bridge=True), train=TrainSettings(exit=1))
