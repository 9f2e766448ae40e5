"""Batches, rates, dropout, options, and a decoder that is grown."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bild.api import generate
from bild.config import ModelConfig
from bild.decoding.actions import Draft, Drafted, Verified
from bild.decoding.loop import big_little
from bild.decoding.rules import Rules
from bild.errors import BildError
from bild.models import load_pair
from bild.models.checkpoint import load_model
from bild.models.source import locate, read_config
from bild.training import start
from bild.training.config import AlignConfig, AlignSettings, TrainConfig, TrainSettings
from bild.training.corpus import epoch_order, recombined
from bild.training.judge import large_passes
from bild.training.optimization import ByteDropout, quicken_dropout, rate_at
from tests.engines.tiny import build
from tests.training.tiny import SHAPE, tiny_module


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=80), st.integers(1, 9))
def test_an_epoch_has_every_example_once(lengths: list[tuple[int, int]], size: int) -> None:
    order = epoch_order(lengths, size, 0, 0)
    assert sorted(i for batch in order for i in batch) == list(range(len(lengths)))
    assert len(order) == -(-len(lengths) // size)
    assert order == epoch_order(lengths, size, 0, 0)


def test_epochs_and_seeds_differ() -> None:
    lengths = [(i % 5, 1) for i in range(50)]
    orders = [epoch_order(lengths, 4, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize(
    ("schedule", "steps", "rates"),
    [
        ("constant", [0, 50, 99], [1.0, 1.0, 1.0]),
        ("linear", [0, 50, 75], [1.0, 0.5, 0.25]),
        ("cosine", [0, 50, 100], [1.0, 0.5, 0.0]),
    ],
)
def test_rates(schedule: str, steps: list[int], rates: list[float]) -> None:
    settings = TrainSettings(rate=1.0, schedule=schedule)
    assert [rate_at(step, 100, settings) for step in steps] == pytest.approx(rates)


def test_a_rate_warms_up_and_falls_by_the_root() -> None:
    settings = TrainSettings(rate=1.0, schedule="inverse-sqrt", warmup=4)
    found = [rate_at(step, 100, settings) for step in (0, 3, 4, 16, 64)]
    assert found == pytest.approx([0.2, 0.8, 1.0, 0.5, 0.25])


def test_byte_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = ByteDropout(0.2)
    x = torch.ones(1001, 33)
    out = layer(x)
    kept = 1 - 51 / 256
    assert float((out != 0).float().mean()) == pytest.approx(kept, abs=0.01)
    assert float(out[out != 0].mean()) == pytest.approx(1 / kept)
    assert torch.equal(layer.eval()(x), x)
    torch.manual_seed(0)
    assert torch.equal(layer.train()(x), out)


def test_every_dropout_of_a_module_is_replaced() -> None:
    module = tiny_module(dropout=0.1)
    names = list(module.state_dict())
    quicken_dropout(module)
    assert not any(isinstance(m, torch.nn.Dropout) for m in module.modules())
    assert sum(isinstance(m, ByteDropout) for m in module.modules()) > 8
    assert list(module.state_dict()) == names


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": "sgd"}, "train.optimizer=sgd is not known"),
        ({"rate": 0.0}, "train.rate=0 is out of range"),
        ({"dropout": 1.0}, "train.dropout=1 is out of range"),
        ({"exit": [1, 0]}, "is not a layer"),
        ({"exit": "one"}, "is not a layer"),
        ({"epochs": 0}, "train.epochs=0 is out of range"),
        ({"grow": 0}, "train.grow=0 is out of range"),
        ({"optimizer": "adamw", "scale_parameter": True}, "train.scale_parameter is Adafactor's"),
    ],
)
def test_settings_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(BildError, match=said):
        TrainSettings(**settings)  # type: ignore[arg-type]


def test_exits_are_a_list_whatever_is_typed() -> None:
    assert [TrainSettings(exit=given).exit for given in (None, 2, [3, 1, 3])] == [[], [2], [1, 3]]


def test_what_is_trained_must_be_named() -> None:
    for options in ({}, {"shape": SHAPE, "model": ModelConfig()}):
        with pytest.raises(BildError, match="Name what is trained"):
            TrainConfig(**options)  # type: ignore[arg-type]
    with pytest.raises(BildError, match="Name the pair"):
        AlignConfig()
    with pytest.raises(BildError, match="belong together"):
        AlignConfig(model=ModelConfig(), align=AlignSettings(start="scratch"))
    with pytest.raises(BildError, match="takes the large model's distribution"):
        AlignConfig(model=ModelConfig(), align=AlignSettings(loss="js"), train=TrainSettings(label_smoothing=0.1))
    with pytest.raises(BildError, match=r"train\.grow=2 copies the layers of a trained model"):
        TrainConfig(shape=SHAPE, train=TrainSettings(grow=2))
    with pytest.raises(BildError, match=r"train\.grow=2 is for bild train"):
        AlignConfig(model=ModelConfig(), train=TrainSettings(grow=2))


@pytest.mark.spread(1)
@pytest.mark.parametrize("make", ["t5-v1.0", "mt5"])
def test_a_grown_decoder_begins_near_what_it_was(make: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers are in their places, its copies apart, and every engine writes the same with it."""
    module = build(make).half()
    module.save_pretrained(tmp_path / "flat")
    source = locate(str(tmp_path / "flat"))
    flat = load_model(source, read_config(source), torch.float32, torch.device("cpu"))
    deep = start.grown(flat, 3)
    assert (flat.config.num_decoder_layers, deep.config.num_decoder_layers) == (2, 6)
    for old, new in ((old, 3 * old + copy) for old in range(2) for copy in range(3)):
        before, after = (
            {name.removeprefix(prefix): weight for name, weight in model.state.items() if name.startswith(prefix)}
            for model, prefix in ((flat, f"decoder.block.{old}."), (deep, f"decoder.block.{new}."))
        )
        copied = new % 3 > 0
        assert before.keys() - after.keys() == {name for name in before if copied and "relative_" in name}
        for name, weight in after.items():
            quiet = copied and name.endswith((".o.weight", ".wo.weight"))
            assert torch.equal(weight, (before[name].float() * 0.1).half() if quiet else before[name])
            assert not copied or weight.data_ptr() != before[name].data_ptr()

    def logits(quiet: float) -> torch.Tensor:
        monkeypatch.setattr(start, "_QUIET", quiet)
        model = start.grown(flat, 3).module if quiet < 2 else flat.module
        with torch.no_grad():
            asked = {"input_ids": torch.tensor([[5, 9, 7, 1]]), "decoder_input_ids": torch.tensor([[0, 8, 3, 21, 4]])}
            return model(**asked).logits.log_softmax(-1)

    was = logits(2)
    assert torch.equal(logits(0.0), was)
    assert 0 < float((logits(0.01) - was).abs().mean()) < 0.2 * float((logits(1.0) - was).abs().mean())

    deep.module.save_pretrained(tmp_path / "deep")
    pair = load_pair(str(tmp_path / "deep"), str(tmp_path / "flat"), device="cpu")
    written = [generate(pair, [5, 9, 7, 1], max_length=12, fb=0.5, rb=1.0, engine=e) for e in ("hf", "fused", "graph")]
    assert written[0].tokens == written[1].tokens == written[2].tokens


def test_a_recombined_source_has_the_neighbours_of_the_corpus() -> None:
    dice = np.random.default_rng(0)
    sources = [[9, 8, *dice.integers(10, 20, size=dice.integers(0, 12)).tolist(), 1] for _ in range(60)]
    made = recombined(sources, np.random.default_rng(1))
    known = {pair for source in sources for pair in pairwise(source)}
    assert len(made) == 60
    assert all(source[:2] == [9, 8] and source[-1] == 1 for source in made)
    assert known >= {pair for source in made for pair in pairwise(source)}
    assert sum(source in sources for source in made) < 20
    assert made == recombined(sources, np.random.default_rng(1)) != recombined(sources, np.random.default_rng(2))


def test_large_passes_are_those_of_exact_speculation() -> None:
    """Over scripted models: the small one writes the large one's text, or 99 where they differ."""
    dice = np.random.default_rng(0)
    for length in range(1, 40):
        text, same = [*range(10, 9 + length), 1], (dice.random(length) < 0.7).tolist()
        small = [token if agrees else 99 for token, agrees in zip(text, same, strict=True)]
        for window in (1, 4, 10):
            rules = Rules(keep="exact", fb=0.0, max_draft=window)
            policy, told, done = big_little(rules, start=0, eos=1, max_length=length + 1), None, None
            while done is None:
                try:
                    ask = policy.send(told)
                except StopIteration as end:
                    done = end.value
                    continue
                at = len(ask.prefix) - 1
                drafted = small[at : at + ask.limit] if isinstance(ask, Draft) else ask.tokens
                choice, none = [*text[at : at + len(drafted) + 1], 1], [0.0] * (len(drafted) + 1)
                verified = Verified(choice, none, none, [])
                told = Drafted(drafted, [1.0] * len(drafted), "limit") if isinstance(ask, Draft) else verified
            assert done.tokens == [0, *text]
            assert len(done.rounds) == large_passes(same, window)
