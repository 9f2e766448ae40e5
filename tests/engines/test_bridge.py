"""A small model behind the large one's encoder: engines and trees against a plain loop over the library's modules."""

from __future__ import annotations

import copy
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from bild.config import TaskConfig
from bild.decoding import Draft, Drafted, Policy, Verified, Verify
from bild.decoding.methods import setting
from bild.decoding.policies import policy_for
from bild.engines.base import rank_of, stop_of
from bild.engines.bridge import BRIDGE, cut_encoder
from bild.engines.early_exit import truncated
from bild.engines.kernels import sizes_of
from bild.errors import BildError
from bild.measure.live import engines_of, run_live
from bild.models import EMBEDDED, Pair, load_pair
from bild.models.shapes import layout_bytes
from bild.tasks import load_task
from bild.tree.grow import grow
from tests.engines.tiny import EOS, ROWS, START, build, ids

LENGTH = 16
TASK = TaskConfig(target_limit=LENGTH, seed=3)
POINTS = [setting("bild", fb=0.3, rb=1.5), setting("speculative", max_draft=4)]


def saved(folder: Path, large: Any, small: Any, bridge: torch.Tensor, tokenizer: str | None = None) -> Pair:
    """The pair through files: `small` gives up its encoder for this bridge."""
    large.save_pretrained(folder / "large")
    cut_encoder(small, large.encoder).encoder.bridge.weight.data.copy_(bridge)
    small.save_pretrained(folder / "small")
    return load_pair(str(folder / "large"), str(folder / "small"), tokenizer=tokenizer, device="cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The first layers of the large model's decoder behind a noisy identity: drafts are kept, cut and taken back."""
    large = load_pair(device="cpu").large.module
    near = torch.eye(256) + 0.01 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    small = copy.deepcopy(truncated(large, 3))
    return saved(tmp_path_factory.mktemp("near"), large, small, near, str(EMBEDDED))


class PlainModel:
    """One of the library's modules, as it reads the folder by itself: every pass over the whole text, nothing kept."""

    def __init__(self, folder: Path, large: Any | None = None) -> None:
        self.module = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.encoder = (large or self.module).encoder
        self.bridge = None
        if large is not None:
            from safetensors.torch import load_file

            self.bridge = load_file(folder / "model.safetensors")[BRIDGE]

    def start(self, source: list[int]) -> None:
        states = self.encoder(input_ids=torch.tensor([source])).last_hidden_state
        self.encoded = BaseModelOutput(states if self.bridge is None else states @ self.bridge.T)

    def logp(self, text: list[int]) -> torch.Tensor:
        fed = torch.tensor([text])
        output = self.module(encoder_outputs=self.encoded, decoder_input_ids=fed, use_cache=False)
        return torch.log_softmax(output.logits[0].float(), -1)


@torch.inference_mode()
def plainly(policy: Policy, source: list[int], large: PlainModel, small: PlainModel) -> list[int]:
    """Answer a policy by the two modules."""
    for each in (large, small):
        each.start(source)
    ask = next(policy)
    while True:
        try:
            if isinstance(ask, Draft):
                tokens, probs, stop = list[int](), list[float](), None
                while stop is None:
                    best = small.logp([*ask.prefix, *tokens])[-1].max(-1)
                    tokens.append(int(best.indices))
                    probs.append(math.exp(float(best.values)))
                    stop = stop_of(tokens[-1], probs[-1], len(tokens), ask.limit, ask.stop_below, EOS)
                ask = policy.send(Drafted(tokens, probs, stop))  # type: ignore[arg-type]
            else:
                assert isinstance(ask, Verify)
                logp = large.logp([*ask.prefix, *ask.tokens])[len(ask.prefix) - 1 :]
                best = logp.max(-1)
                given = [-float(row[token]) for row, token in zip(logp, ask.tokens, strict=False)]
                ranks = rank_of(logp[:-1], ask.tokens) if ask.ranks else ()
                ask = policy.send(Verified(best.indices.tolist(), (-best.values).tolist(), given, ranks))
        except StopIteration as ended:
            text: list[int] = ended.value.tokens
            return text


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.whole)])
def test_engines_and_replay_write_what_a_plain_loop_writes(pair: Pair, tmp_path: Path, count: int) -> None:
    large = PlainModel(Path(pair.large.source.folder))
    small = PlainModel(Path(pair.small.source.folder), large.module)
    data = load_task(replace(TASK, samples=count))
    tree = grow(tmp_path, pair, TASK, data, POINTS)
    replays = [dict(zip([e.id for e in tree.examples], r.tokens, strict=True)) for r in tree.replay_grid(POINTS)]
    rollbacks = 0
    for n, example in enumerate(data.examples):
        point = n % len(POINTS)
        make = policy_for(*POINTS[point])
        limits = {"start": pair.start, "eos": pair.eos, "max_length": LENGTH}
        source = pair.encode(example.source)[0]
        text = plainly(make(**limits), source, large, small)
        for name in ("hf", "fused", "graph"):
            run = run_live(make(**limits), source, *engines_of(pair, POINTS[point][0].name, name))
            assert run.decoded.tokens == text, (name, example.id)
            rollbacks += sum(r.rollback for r in run.decoded.rounds)
        assert replays[point][example.id] == text
    assert rollbacks > 0


def test_a_draft_of_another_width_and_make_is_the_same_on_all_engines(tmp_path: Path) -> None:
    large, small = build("mt5", seed=5), build("t5-v1.1", seed=6, d_model=16, num_decoder_layers=3)
    made = saved(tmp_path, large, small, torch.randn(16, 24) * 0.3)
    dice = random.Random(1)
    for n in range(4):
        source, text = [*ids(dice.randint(3, 20), seed=n), EOS], [START, *ids(6, seed=n + 9)]
        told = []
        for name in ("hf", "fused", "graph"):
            engine = made.engine("small", name)
            engine.start(source)
            told.append(engine.step(text, len(text)))
        for other in told[1:]:
            assert other.choice == told[0].choice
            assert other.choice_nll == pytest.approx(told[0].choice_nll, rel=1e-4)
            assert other.token_nll == pytest.approx(told[0].token_nll, rel=1e-4)
    weights, config = made.weights("small"), made.small.config
    assert weights.encoder is made.weights("large").encoder
    laid = [m for layer in weights.decoder for m in vars(layer).values()] + [weights.cross_kv, weights.head]
    assert sorted((m.inner, m.out) for m in laid) == sorted(sizes_of(config, ROWS))
    gains = weights.decoder_gain.numel() + weights.decoder_bias.numel()
    held = sum(m.inner * m.out for m in laid) + weights.embed.numel() + gains
    assert layout_bytes(config, torch.float32) == 4 * held


@pytest.mark.parametrize("name", ["hf", "fused", "graph"])
def test_the_source_is_encoded_once_a_text_and_anew_for_the_next(
    pair: Pair, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = pair.engine("large", name), pair.engine("small", name)
    encoded: list[str] = []
    for role, engine in (("large", large), ("small", small)):

        def counted(source: list[int], role: str = role, encode: Any = engine.encode) -> Any:
            encoded.append(role)
            return encode(source)

        monkeypatch.setattr(engine, "encode", counted)
    source = [*ids(6), EOS]
    made = {}
    for method, expected in (("bild", ["large"]), ("vanilla", ["large"]), ("small", ["small"]), ("bild", ["large"])):
        policy = policy_for(*setting(method))(start=pair.start, eos=pair.eos, max_length=LENGTH)
        run = run_live(policy, source, *engines_of(pair, method, name))
        assert encoded == expected, method
        encoded.clear()
        assert made.setdefault(method, run.decoded.tokens) == run.decoded.tokens


def test_what_does_not_fit_is_refused_in_a_sentence(pair: Pair, tmp_path: Path) -> None:
    alone, narrow = str(pair.small.source.folder), tmp_path / "large"
    build("t5-v1.0", vocab_size=4000).save_pretrained(narrow)
    with pytest.raises(BildError, match=r"no encoder of its own.*only be that one's model\.small"):
        load_pair(alone, str(pair.large.source.folder), tokenizer=str(EMBEDDED), device="cpu")
    with pytest.raises(BildError, match=r"reads encoder states of width 256, and .*large has 24"):
        load_pair(str(narrow), alone, tokenizer=str(EMBEDDED), device="cpu")
    with pytest.raises(BildError, match="no encoder of its own"):
        load_pair(alone, exit=1, tokenizer=str(EMBEDDED), device="cpu")
    config = json.loads((pair.small.source.folder / "config.json").read_text())
    for file in pair.small.source.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"bild_bridge": {"width": "wide"}}))
    with pytest.raises(BildError, match="is not understood"):
        load_pair(str(pair.large.source.folder), str(tmp_path), tokenizer=str(EMBEDDED), device="cpu")
