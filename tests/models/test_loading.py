"""Loading pairs: by name, by folder, by hub id; what must agree between the two, and what may differ."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import bild
from bild.errors import BildError
from bild.measure.interleave import library_generate
from bild.models import Pair, load_pair, resolve_device
from bild.models.pair_spec import shared_vocabulary
from bild.models.source import Source
from tests import hubcache
from tests.cli.commands import REPOSITORY
from tests.models.checkpoints import Weights, halved, tiny_shape, without, write_checkpoint
from tests.tinymodels import english_size, multilingual_size, to_json

GOLDEN = REPOSITORY / "tests" / "golden"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a fault. Shared: tests must not change it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "good")


def load(large: Path | str, small: Path | str, **options) -> Pair:
    return load_pair(str(large), str(small), device="cpu", **options)


def refusal(large: Path | str, small: Path | str, **options) -> str:
    with pytest.raises(BildError) as caught:
        load(large, small, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- ways to name a pair


def test_the_embedded_pair_by_its_name(embedded_pair: Pair) -> None:
    assert embedded_pair.name == "embedded"
    assert (embedded_pair.large.parameters, embedded_pair.small.parameters) == (12_567_296, 840_704)
    assert (embedded_pair.start, embedded_pair.eos, embedded_pair.vocabulary) == (0, 1, len(embedded_pair.tokenizer))
    assert embedded_pair.large.source.revision is None


def test_two_folders(tmp_path: Path, good: Path) -> None:
    small = write_checkpoint(tmp_path / "small", seed=2, layers=1)
    pair = load(good, small)
    assert (pair.name, pair.tokenizer_name) == ("good", str(good))
    assert (pair.large.describe()["source"], pair.small.describe()["source"]) == (str(good), str(small))
    assert pair.large.parameters > pair.small.parameters
    assert load(good, small, name="mine").name == "mine"


def test_two_hub_ids(hub: Path) -> None:
    names = ("kssteven/T5-large-xsum", "kssteven/T5-small-xsum-bild-aligned")
    pair = load(*names)
    assert pair.name == "T5-large-xsum"
    assert pair.tokenizer_name == names[0]
    assert [model.source.revision for model in (pair.large, pair.small)] == [hubcache.commit_of(n) for n in names]
    assert pair.decode(pair.encode("A dog is running.")[0]) == "A dog is running."


def test_the_authors_translation_pair_takes_its_tokenizer_from_elsewhere(hub: Path) -> None:
    names = ("kssteven/mT5-large-wmt2014-de-en", "kssteven/mT5-small-wmt2014-de-en-bild-aligned")
    assert load(*names).tokenizer is None
    pair = load(*names, tokenizer="google/mt5-small")
    assert (pair.tokenizer_name, pair.vocabulary) == ("google/mt5-small", multilingual_size())
    assert pair.decode(pair.encode("Ein Hund läuft.")[0]) == "Ein Hund läuft."


def test_the_small_model_may_own_the_tokenizer(tmp_path: Path, good: Path) -> None:
    pair = load(write_checkpoint(tmp_path / "bare", tokenizer=None), good)
    assert pair.tokenizer_name == str(good)


def test_a_pair_needs_a_small_model(good: Path) -> None:
    with pytest.raises(BildError, match=f"^A pair needs two checkpoints: {good} was given as the large one"):
        load_pair(str(good), device="cpu")


def test_early_exit_needs_no_small_model(good: Path) -> None:
    pair = load_pair(str(good), exit=1, device="cpu")
    assert pair.small.parameters < pair.large.parameters
    assert pair.small.fingerprint == f"{pair.large.fingerprint}-exit1"
    for layers in (0, 2):
        with pytest.raises(BildError, match=f"^model.exit={layers} is out of range: this checkpoint has 2 decoder"):
            load_pair(str(good), exit=layers, device="cpu")


# --- vocabularies


def loud_padding(weights: Weights) -> Weights:
    """A change of the weights: the 28 last rows would win every choice."""
    weights["shared.weight"][-28:] *= 50.0
    return weights


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair of 32,128 and 32,100 rows, as T5 checkpoints have them; the large one prefers its padding."""
    root = tmp_path_factory.mktemp("padded")
    large = write_checkpoint(root / "large", rows=32128, tokenizer=None, weights=loud_padding)
    small = write_checkpoint(root / "small", rows=32100, tokenizer=None, seed=2)
    return load(large, small)


@pytest.mark.spread(2)
@pytest.mark.parametrize("engine", ["fused", "hf"])
@pytest.mark.parametrize("method", ["vanilla", "bild", "speculative"])
def test_ids_beyond_the_smaller_vocabulary_are_never_chosen(padded: Pair, engine: str, method: str) -> None:
    assert padded.vocabulary == 32100
    source = [17, 4711, 32099, 1]
    freely = library_generate(padded, source, 12).tokens
    assert any(token >= 32100 for token in freely)
    options = {"rb": 0.5} if method == "bild" else {}
    output = bild.generate(padded, source, method=method, engine=engine, max_length=12, **options)
    assert max(output.tokens) < 32100
    assert len(output.tokens) > 2


@pytest.mark.parametrize(("rows", "padded"), [(32100, 32128), (250100, 250112), (250112, 250112)])
def test_the_published_paddings_are_accepted_and_other_sizes_are_not(rows: int, padded: int) -> None:
    sources = tuple(Source(name, Path(name), None) for name in ("large", "small"))

    def shared(large: int, small: int) -> int:
        return shared_vocabulary(sources, [SimpleNamespace(vocab_size=n) for n in (large, small)], None)

    assert shared(rows, padded) == shared(padded, rows) == rows
    for other in (rows - 128, padded + 1):
        with pytest.raises(BildError, match=r"^The vocabularies differ: large has"):
            shared(rows, other)


def test_padding_is_accepted_on_either_side(tmp_path: Path, good: Path) -> None:
    rows = tiny_shape().rows
    other = write_checkpoint(tmp_path / "other", rows=english_size(), seed=2)
    assert english_size() < rows
    assert load(good, other).vocabulary == load(other, good).vocabulary == english_size()


def test_a_difference_beyond_padding_is_refused(tmp_path: Path, good: Path) -> None:
    other = write_checkpoint(tmp_path / "other", rows=tiny_shape().rows + 128, seed=2)
    assert refusal(good, other) == (
        f"The vocabularies differ: {good} has {tiny_shape().rows} rows and {other} {tiny_shape().rows + 128}; "
        "BiLD needs two models over one vocabulary (padding to a multiple of 128 is allowed)."
    )


def test_another_tokenizer_is_refused(tmp_path: Path, good: Path) -> None:
    other = write_checkpoint(tmp_path / "other", tokenizer="multilingual", seed=2)
    assert refusal(good, other).startswith(f"The vocabularies differ: the tokenizer of {good} is not that of {other};")


def test_two_tokenizers_with_two_words_exchanged_are_two(tmp_path: Path, good: Path) -> None:
    plain = json.loads((good / "tokenizer.json").read_bytes())
    words = plain["model"]["vocab"]
    words[10], words[11] = words[11], words[10]
    other = write_checkpoint(tmp_path / "other", files={"tokenizer.json": json.dumps(plain).encode()})
    assert "is not that of" in refusal(good, other)


def test_the_same_words_in_another_file_are_the_same_tokenizer(tmp_path: Path, good: Path) -> None:
    plain = json.loads((good / "tokenizer.json").read_bytes())
    other = write_checkpoint(tmp_path / "other", files={"tokenizer.json": json.dumps(plain, indent=4).encode()})
    assert load(good, other).tokenizer_name == str(good)


def test_a_tokenizer_with_more_words_than_a_model_has_rows(tmp_path: Path, good: Path) -> None:
    few = write_checkpoint(tmp_path / "few", rows=english_size() - 1, tokenizer=None)
    assert refusal(good, few) == (
        f"The tokenizer has {english_size()} tokens and {few} only {english_size() - 1} rows: "
        "this checkpoint was trained with another vocabulary."
    )


def test_a_tokenizer_that_was_asked_for_and_is_none(tmp_path: Path, good: Path) -> None:
    bare = write_checkpoint(tmp_path / "bare", tokenizer=None)
    sentence = f"model.tokenizer={bare} has no tokenizer: none of tokenizer.json, spiece.model, vocab.json, "
    assert refusal(good, good, tokenizer=str(bare)).startswith(sentence)


@pytest.mark.parametrize(
    ("config", "what"),
    [({"eos_token_id": 2}, "end token"), ({"decoder_start_token_id": 5}, "decoder start token")],
)
def test_special_tokens_that_differ_are_refused(tmp_path: Path, good: Path, config: dict[str, int], what: str) -> None:
    other = write_checkpoint(tmp_path / "other", config=config, files={"generation_config.json": b"{}"})
    (value,) = config.values()
    mine = 1 if what == "end token" else 0
    assert refusal(good, other) == (
        f"The {what} differs or is missing: {mine} in {good}, {value} in {other}; "
        "both models must have been trained with one vocabulary."
    )


def test_a_start_token_that_is_none_of_the_vocabulary_is_refused(tmp_path: Path) -> None:
    for number, end in enumerate(({"a": 1}, 10**18, -1, True, 1.0)):
        ids = to_json({"decoder_start_token_id": end})
        bad = write_checkpoint(tmp_path / str(number), files={"generation_config.json": ids})
        assert refusal(bad, bad).startswith(
            f"{bad} has no token {json.dumps(end)}, which is its decoder_start_token_id: "
        )


def test_a_stack_of_layers_that_would_never_be_built_is_refused(tmp_path: Path) -> None:
    bad = write_checkpoint(tmp_path / "bad", config={"num_decoder_layers": 10**9})
    assert refusal(bad, bad) == f"{bad} has a config.json that is not a t5's (1e+09 layers)."


# --- weights


def test_half_precision_on_disk_is_full_precision_in_memory(tmp_path: Path) -> None:
    half = write_checkpoint(tmp_path / "half", weights=halved, config={"dtype": "float16", "torch_dtype": "float16"})
    full = write_checkpoint(
        tmp_path / "full", weights=lambda w: {k: v.astype(np.float32) for k, v in halved(w).items()}
    )
    pair, other = load(half, half), load(full, full)
    assert {weight.dtype for weight in pair.large.module.parameters()} == {torch.float32}
    for name, weight in pair.large.module.state_dict().items():
        assert torch.equal(weight, other.large.module.state_dict()[name]), name
    assert bild.generate(pair, [5, 6, 1]).tokens == bild.generate(other, [5, 6, 1]).tokens
    assert pair.large.fingerprint != other.large.fingerprint


@pytest.mark.parametrize(("dtype", "kind"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_dtype_is_the_one_asked_for(good: Path, dtype: str, kind: torch.dtype) -> None:
    pair = load(good, good, dtype=dtype)
    assert pair.dtype == dtype
    assert pair.large.module.shared.weight.dtype == kind
    assert not pair.large.module.training


def test_an_unknown_dtype(good: Path) -> None:
    assert refusal(good, good, dtype="fp8") == "dtype=fp8 is not known: choose one of fp32, fp16, bf16."


@pytest.mark.parametrize(
    ("device", "beginning"),
    [
        ("gpu", "engine.device=gpu is not a device: use auto, cpu, cuda or cuda:N."),
        ("0", "engine.device=0 is not a device"),
        ("meta", "engine.device=meta is not supported: use auto, cpu, cuda or cuda:N."),
        ("cuda:99", "engine.device=cuda:99 was asked for, but torch sees "),
    ],
)
def test_a_device_that_cannot_be_used(device: str, beginning: str) -> None:
    with pytest.raises(BildError) as caught:
        load_pair("embedded", device=device)
    assert str(caught.value).startswith(beginning)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(BildError, match=r"^engine.device=cuda:2 was asked for, but torch sees 2 CUDA devices\.$"):
        resolve_device("cuda:2")


def test_a_missing_weight_is_not_filled_with_chance(tmp_path: Path, good: Path) -> None:
    name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    bad = write_checkpoint(tmp_path / "bad", weights=without(name))
    assert refusal(good, bad) == f"The weights of {bad} are incomplete: 1 are missing, {name} first."


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named_with_its_file(tmp_path: Path, good: Path, value: float) -> None:
    name = "decoder.final_layer_norm.weight"

    def spoil(weights: Weights) -> Weights:
        return weights | {name: np.full_like(weights[name], value)}

    bad = write_checkpoint(tmp_path / "bad", weights=spoil)
    told = f"The weights of {bad} are damaged: {name} in {bad}/model.safetensors holds NaN or infinity;"
    assert refusal(good, bad).startswith(told)


def test_a_checkpoint_that_is_no_t5(tmp_path: Path, good: Path) -> None:
    other = write_checkpoint(tmp_path / "bart", config={"model_type": "bart"})
    sentence = f"{other} is a bart checkpoint: only T5 and mT5 encoder-decoders can be paired."
    assert refusal(other, good) == refusal(good, other) == sentence


# --- folders without a tokenizer


@pytest.fixture(scope="module")
def bare() -> Pair:
    """A trained pair of token ids only."""
    return load(GOLDEN / "t5-large", GOLDEN / "t5-small")


def test_a_pair_without_a_tokenizer_takes_ids(bare: Pair) -> None:
    cases = json.loads((GOLDEN / "traces.json").read_bytes())["t5"]["bild"]
    case = cases[0]
    output = bild.generate(
        bare,
        case["input"],
        fb=case["fallback"],
        rb=case["rollback"],
        rules="authors",
        max_draft=case["max_draft"],
        max_length=case["max_length"],
    )
    assert output.tokens == case["output"]
    assert output.text is None


def test_a_pair_without_a_tokenizer_takes_no_text(bare: Pair) -> None:
    assert bare.tokenizer_name is None
    for attempt in (lambda: bild.generate(bare, "Ein Satz."), lambda: bare.encode("Ein Satz.")):
        with pytest.raises(BildError, match=r"^The pair t5-large has no tokenizer: give token ids, or a folder with"):
            attempt()
    with pytest.raises(BildError, match=r"^The pair t5-large has no tokenizer: its output is token ids only\.$"):
        bare.decode([5, 6])


# --- encoding


def test_a_source_ends_with_the_end_token_and_is_cut_before_it(embedded_pair: Pair) -> None:
    text = "Zwei Hunde spielen im Schnee."
    whole, cut = embedded_pair.encode(text)
    assert (whole[-1], cut, whole.count(1)) == (1, False, 1)
    n = len(whole)
    assert embedded_pair.encode(text, n) == (whole, False)
    assert embedded_pair.encode(text, n + 1) == (whole, False)
    assert embedded_pair.encode(text, n - 1) == ([*whole[: n - 2], 1], True)
    assert embedded_pair.encode(text, 2) == ([whole[0], 1], True)
    assert embedded_pair.encode(text, 1) == ([1], True)
    assert embedded_pair.encode("") == ([1], False)


def test_a_source_is_encoded_as_the_tokenizer_does_it(hub: Path) -> None:
    pair = load("kssteven/T5-large-xsum", "kssteven/T5-small-xsum")
    text = "summarize: A dog is running across the wet meadow."
    assert pair.encode(text, 1024) == (pair.tokenizer(text)["input_ids"], False)
    long = text * 200  # beyond the tokenizer's own limit of 512, which is not ours
    ids, cut = pair.encode(long, 1024)
    assert (len(ids), ids[-1], cut) == (1024, 1, True)
    assert pair.tokenizer.model_max_length == 512


def test_text_comes_back_without_special_tokens(embedded_pair: Pair) -> None:
    ids, _ = embedded_pair.encode("Zwei Hunde spielen.")
    assert embedded_pair.decode([0, *ids, 0, 0]) == "Zwei Hunde spielen."


def test_engines_are_built_once(good: Path) -> None:
    pair = load(good, good)
    assert pair.engine("large", "fused") is pair.engine("large", "fused")
    assert pair.engine("large", "fused") is not pair.engine("small", "fused")
    assert pair.engine("large", "hf") is not pair.engine("large", "fused")
    with pytest.raises(BildError, match=r"^engine=nope is not known"):
        pair.engine("large", "nope")
