"""Checkpoints as people publish them: each is loaded as the library means it, on every engine, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, ByT5Tokenizer

import bild
from bild.errors import BildError
from bild.measure.interleave import library_generate
from bild.models import Pair, load_pair
from bild.tasks import Dataset, Example
from bild.training.corpus import encode_corpus
from tests import hubcache
from tests.models.checkpoints import Weights, write_checkpoint
from tests.tinymodels import Shape, checkpoint_files, multilingual_tokenizer, random_weights, to_json

ENGINES = ("fused", "hf", "graph")
SOURCE = [17, 50, 99, 1]
DEAD = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "good")


def load(large: Path, small: Path) -> Pair:
    return load_pair(str(large), str(small), device="cpu")


def refusal(folder: Path, good: Path) -> str:
    with pytest.raises(BildError) as caught:
        load(folder, good)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tokens(pair: Pair, engine: str, **options: Any) -> list[int]:
    return bild.generate(pair, SOURCE, method="vanilla", engine=engine, max_length=12, **options).tokens


def with_more(**more: np.ndarray) -> Callable[[Weights], Weights]:
    """A change of the weights: others stand beside them, `__` in the place of a point."""
    return lambda weights: weights | {name.replace("__", "."): value for name, value in more.items()}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


# --- weights that the model has no place for

BEYOND = {
    "a position bias in every layer": ("decoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight", (32, 4)),
    "more layers than config.json says": ("decoder.block.2.layer.0.SelfAttention.k.weight", (32, 32)),
    "scales of a quantisation": ("encoder.block.0.layer.0.SelfAttention.q.weight_scale", (1,)),
    "a head of another task": ("classification_head.dense.weight", (32, 32)),
    "a norm's bias that adds something": ("encoder.final_layer_norm.bias", (32,)),
}


@pytest.mark.spread(2)
@pytest.mark.parametrize("kind", BEYOND)
def test_weights_without_a_place_are_refused_by_name(tmp_path: Path, good: Path, kind: str) -> None:
    name, shape = BEYOND[kind]
    bad = write_checkpoint(tmp_path / "bad", weights=with_more(**{name.replace(".", "__"): noise(*shape)}))
    assert refusal(bad, good) == (
        f"The weights of {bad} do not fit its config.json: 1 have no place in the model, {name} first."
    )


# --- embeddings and heads


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_an_input_embedding_of_its_own_is_refused(tmp_path: Path, good: Path, stack: str) -> None:
    name = f"{stack}.embed_tokens.weight"

    def changed(weights: Weights) -> Weights:
        return weights | {name: weights["shared.weight"] + np.float32(0.5)}

    bad = write_checkpoint(tmp_path / "bad", weights=changed)
    assert refusal(bad, good).startswith(
        f"{bad} has input embeddings of their own for its encoder and decoder ({name} "
    )


def test_an_embedding_of_another_size_is_refused(tmp_path: Path, good: Path) -> None:
    bad = write_checkpoint(tmp_path / "bad", weights=with_more(decoder__embed_tokens__weight=noise(8, 32)))
    assert refusal(bad, good).startswith(f"{bad} has input embeddings of their own")


def test_an_embedding_under_its_other_names_is_the_embedding(tmp_path: Path, good: Path) -> None:
    def renamed(weights: Weights) -> Weights:
        shared = weights.pop("shared.weight")
        return weights | {"encoder.embed_tokens.weight": shared, "decoder.embed_tokens.weight": shared}

    pair = load(write_checkpoint(tmp_path / "other", weights=renamed), good)
    plain = load(good, good)
    for engine in ENGINES:
        assert tokens(pair, engine) == tokens(plain, engine)


def mt5(folder: Path, change: Callable[[Weights], Weights] = dict, **config: Any) -> Path:
    """An mT5, whose head is not its embedding."""
    shape = Shape(rows=200, layers=2, gated=True, untied=True)
    files = checkpoint_files(shape, 1)
    files["config.json"] = to_json(json.loads(files["config.json"]) | config)
    files["model.safetensors"] = save(change(random_weights(shape, 1)), metadata={"format": "pt"})
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def headless(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if name != "lm_head.weight"}


def test_a_missing_head_is_the_embedding_and_that_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, bare = mt5(tmp_path / "whole"), mt5(tmp_path / "bare", headless)
    pair = load(bare, whole)
    assert f"warning: {bare} has no lm_head.weight: its input embedding is the head, too" in capsys.readouterr().err
    assert (pair.large.module.lm_head.weight == pair.large.module.shared.weight).all()
    assert tokens(pair, "fused") == tokens(pair, "hf") == library_generate(pair, SOURCE, 12).tokens


def test_a_head_that_is_tied_by_the_configuration_is_not_missed(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(mt5(tmp_path / "whole"), mt5(tmp_path / "tied", headless, tie_word_embeddings=True))
    load(good, write_checkpoint(tmp_path / "small", seed=2))
    assert capsys.readouterr().err == ""


def test_a_head_that_is_too_narrow_is_told_with_its_size(tmp_path: Path) -> None:
    bad = mt5(tmp_path / "bad", lambda weights: weights | {"lm_head.weight": noise(32, 32)})
    assert refusal(bad, mt5(tmp_path / "whole")) == (
        f"The weights of {bad} do not fit its config.json: lm_head.weight is [32, 32], not [200, 32]."
    )


# --- what old conversions left


def old_keys(weights: Weights) -> Weights:
    shared = weights["shared.weight"]
    biases = {
        name.replace(".weight", ".bias"): np.zeros_like(value)
        for name, value in weights.items()
        if name.endswith("layer_norm.weight")
    }
    copies = {f"{name}.weight": shared for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head")}
    return weights | biases | copies | {DEAD: noise(32, 4)}


WISHES = {
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "num_beams": 4,
    "min_length": 30,
    "suppress_tokens": [17, 50],
    "no_repeat_ngram_size": 3,
    "forced_eos_token_id": 1,
}


def test_old_keys_and_wishes_change_nothing(tmp_path: Path, good: Path) -> None:
    old = write_checkpoint(
        tmp_path / "old",
        weights=old_keys,
        config={"task_specific_params": {"summarization": {"num_beams": 4}}, "n_positions": 512, "output_past": True},
        files={"generation_config.json": to_json(WISHES)},
    )
    pair, plain = load(old, good), load(good, good)
    for engine in ENGINES:
        assert tokens(pair, engine) == tokens(plain, engine)
    assert library_generate(pair, SOURCE, 12).tokens == library_generate(plain, SOURCE, 12).tokens


# --- where a text starts and ends


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("ends", "told"), [([1, 60], "at any of the tokens 1, 60"), ([], "nowhere (eos_token_id is [])")]
)
def test_several_end_tokens_are_refused(tmp_path: Path, good: Path, file: str, ends: list[int], told: str) -> None:
    options: dict[str, Any] = {"files": {"generation_config.json": to_json({"eos_token_id": ends})}}
    if file == "config.json":
        options = {"files": {"generation_config.json": b"{}"}, "config": {"eos_token_id": ends}}
    bad = write_checkpoint(tmp_path / "bad", **options)
    assert refusal(bad, good) == (
        f"{bad} ends a text {told}: BiLD knows one end token; set eos_token_id to one of them in "
        "its config.json or generation_config.json."
    )


@pytest.mark.parametrize("ends", [[1], [1, 1]])
def test_a_list_of_one_end_token_is_that_token(tmp_path: Path, good: Path, ends: list[int]) -> None:
    one = write_checkpoint(tmp_path / "one", config={"eos_token_id": ends}, files={"generation_config.json": b"{}"})
    assert load(one, good).eos == 1


@pytest.mark.parametrize("name", ["decoder_start_token_id", "eos_token_id"])
@pytest.mark.parametrize("value", ["0", -1, 99999, [[1]], {"a": 1}])
def test_what_is_no_token_is_refused(tmp_path: Path, good: Path, name: str, value: Any) -> None:
    ids = {"decoder_start_token_id": 0, "eos_token_id": 1}
    bad = write_checkpoint(tmp_path / "bad", files={"generation_config.json": to_json(ids | {name: value})})
    wrong = json.dumps(value[0] if isinstance(value, list) else value)
    assert refusal(bad, good).startswith(f"{bad} has no token {wrong}, which is its {name}: set it to a whole number")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_without_a_start_the_library_starts_with_the_token_of_beginnings(tmp_path: Path, file: str) -> None:
    ids = {"bos_token_id": 5, "decoder_start_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    config = ids if file == "config.json" else {"decoder_start_token_id": None}
    files = {"generation_config.json": to_json(ids if file != "config.json" else {})}
    pair = load(*(write_checkpoint(tmp_path / n, seed=i, config=config, files=files) for i, n in enumerate("ab")))
    assert pair.start == 5
    assert tokens(pair, "fused") == tokens(pair, "hf") == library_generate(pair, SOURCE, 12).tokens


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"is_encoder_decoder": False}, "is a t5 checkpoint without a decoder (is_encoder_decoder is false): only T5"),
        ({"relative_attention_max_distance": 16}, "makes no model (relative_attention_max_distance is 16, for 32 b"),
    ],
)
def test_a_configuration_that_makes_no_pair_is_refused(
    tmp_path: Path, good: Path, config: dict[str, Any], words: str
) -> None:
    assert words in refusal(write_checkpoint(tmp_path / "bad", config=config), good)


def test_what_the_library_is_told_to_return_changes_nothing(tmp_path: Path, good: Path) -> None:
    wishes = {"return_dict": False, "output_attentions": True, "output_hidden_states": True, "use_cache": False}
    pair, plain = load(write_checkpoint(tmp_path / "own", config=wishes), good), load(good, good)
    assert [tokens(pair, engine) for engine in ENGINES] == [tokens(plain, engine) for engine in ENGINES]
    assert library_generate(pair, SOURCE, 12).tokens == tokens(plain, "fused")


@pytest.mark.parametrize("name", ["decoder_start_token_id", "eos_token_id"])
def test_generation_config_has_the_last_word(tmp_path: Path, name: str) -> None:
    ids = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    first = tokens(load(*(write_checkpoint(tmp_path / n, seed=i) for i, n in enumerate("ab"))), "hf")
    value = 5 if name == "decoder_start_token_id" else first[3]
    files = {"generation_config.json": to_json(ids | {name: value})}
    pair = load(*(write_checkpoint(tmp_path / n, seed=i, files=files) for i, n in enumerate("cd")))
    assert (pair.start if name == "decoder_start_token_id" else pair.eos) == value
    expected = library_generate(pair, SOURCE, 12).tokens
    assert expected != first
    for engine in ENGINES:
        assert tokens(pair, engine) == expected


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{nope", "Expecting property"),
        (b"[1]", "it holds no JSON object)."),
        (b'{"top_p": NaN}', "NaN is no number of J"),
    ],
)
def test_settings_that_are_no_object_of_json_are_refused(tmp_path: Path, good: Path, content: bytes, why: str) -> None:
    for file in ("generation_config.json", "config.json"):
        bad = write_checkpoint(tmp_path / file, files={file: content})
        assert re.match(rf"{bad}.* cannot be read \({re.escape(why)}", refusal(bad, good))


@pytest.mark.parametrize("index", [b"[]", b"{}", b'{"weight_map": {"shared.weight": null}}', b'{"weight_map": ["a"]}'])
def test_an_index_that_names_no_files_is_refused(tmp_path: Path, good: Path, index: bytes) -> None:
    bad = write_checkpoint(tmp_path / "bad", files={"model.safetensors.index.json": index})
    (bad / "model.safetensors").unlink()
    assert "index.json is no index of shards (it h" in (told := refusal(bad, good))
    assert told.endswith("): fetch it again.")


@pytest.mark.parametrize(
    "file", ["model.fp16.safetensors", "tf_model.h5", "pytorch_model.fp16.bin", "training_args.bin"]
)
def test_weights_under_another_name_are_told(tmp_path: Path, good: Path, file: str) -> None:
    bad = write_checkpoint(tmp_path / "bad")
    (bad / "model.safetensors").rename(bad / file)
    told = refusal(bad, good)
    assert told.startswith(f"{bad} has no weights: neither model.safetensors nor ")
    assert told.endswith(f"; {file} is not read, save it as model.safetensors.") == (file != "training_args.bin")


def test_start_and_end_are_in_the_fingerprint_and_wishes_are_not(tmp_path: Path) -> None:
    def of(name: str, **settings: Any) -> str:
        files = {"generation_config.json": to_json(settings)}
        return load(*[write_checkpoint(tmp_path / name, files=files)] * 2).large.fingerprint

    plain = of("plain", eos_token_id=1)
    assert of("wishes", eos_token_id=1, num_beams=4) == of("none") == plain
    assert len({plain, of("start", decoder_start_token_id=5), of("end", eos_token_id=7)}) == 3


# --- adapters


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("peft", [True, False])
def test_an_adapter_is_refused_alike_with_and_without_peft(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch, weights: bool, peft: bool
) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_peft_available", lambda: peft)
    adapter = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": "google/flan-t5-small"}
    lora = save({"base_model.model.shared.lora_A.weight": noise(4, 32)})
    files = {"adapter_config.json": to_json(adapter), "adapter_model.safetensors": lora}
    bad = write_checkpoint(tmp_path / "bad", files=files)
    if not weights:
        (bad / "model.safetensors").unlink()
    assert refusal(bad, good) == (
        f"{bad} is an adapter (it has adapter_config.json): merge it into its base model first, with peft's "
        "merge_and_unload(), and save that."
    )


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin", "pytorch_adapter.bin"])
def test_the_weights_of_an_adapter_beside_a_model_are_refused(tmp_path: Path, good: Path, file: str) -> None:
    bad = write_checkpoint(tmp_path / "bad", files={file: b"..."})
    assert refusal(bad, good).startswith(f"{bad} is an adapter (it has {file}): merge it")


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn, torch.uint8])
def test_weights_of_a_byte_are_refused(tmp_path: Path, good: Path, kind: torch.dtype) -> None:
    bad = write_checkpoint(tmp_path / "bad")
    weights = load_file(bad / "model.safetensors")
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    save_file(weights | {name: weights[name].to(kind)}, bad / "model.safetensors")
    assert f"are quantised: {name} in {bad}/model.safetensors is {str(kind)[6:]}; save them" in refusal(bad, good)


def test_a_quantisation_beside_plain_weights_is_refused(tmp_path: Path, good: Path) -> None:
    """The library would quantise them as it loads them, and a record would say fp32."""
    for found in ({"quant_method": "bitsandbytes"}, {}):
        bad = write_checkpoint(tmp_path / f"bad{len(found)}", config={"quantization_config": found})
        assert "(quantization_config in its config.json): save them in fp32" in refusal(bad, good)
    assert load(write_checkpoint(tmp_path / "none", config={"quantization_config": None}), good).start == 0


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path: Path, good: Path, file: str) -> None:
    bad = write_checkpoint(tmp_path / "bad", files={"generation_config.json": b'{"eos_token_id": 1}'})
    plain = json.loads((bad / file).read_text())
    (bad / file).write_text('{"eos_token_id": 2,\n' + json.dumps(plain, indent=1)[1:])
    told = refusal(bad, good)
    assert file in told
    assert "the key 'eos_token_id' stands twice in one object, on lines 1, " in told


def test_an_adapter_on_the_hub_is_refused(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"config.json": (good / "config.json").read_bytes(), "adapter_config.json": b"{}"}
    hubcache.add_repository(tmp_path / "hf", "someone/T5-lora", files)
    hubcache.use_hub(monkeypatch, tmp_path / "hf")
    assert refusal(Path("someone/T5-lora"), good).startswith("someone/T5-lora is an adapter")


@pytest.mark.parametrize(("content", "revision"), [(b"", None), (b"\xff\xfe", None), (b"", "../.."), (b"", "/etc")])
def test_a_revision_that_is_no_commit_is_not_in_the_cache(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, revision: str | None
) -> None:
    snapshot = hubcache.add_repository(tmp_path / "hf", "someone/T5", {"config.json": b"{}"})
    (snapshot.parent.parent / "refs" / "main").write_bytes(content)
    hubcache.use_hub(monkeypatch, tmp_path / "hf")
    with pytest.raises(BildError, match=r"^model.large=someone/T5 is neither a folder nor in the hub cache at "):
        load_pair("someone/T5", str(good), revision_large=revision, device="cpu")


# --- tokenizers


def byt5(folder: Path, layers: int) -> Path:
    """A fine-tuned ByT5: a tokenizer that has no vocabulary file."""
    config = {"tokenizer_class": "ByT5Tokenizer", "num_decoder_layers": 1}
    shape = Shape(rows=384, layers=layers, gated=True, untied=True)
    files = checkpoint_files(shape, layers)
    files["config.json"] = to_json(json.loads(files["config.json"]) | config | {"model_type": "t5"})
    weights = random_weights(shape, layers)
    kept = {k: v for k, v in weights.items() if not k.startswith("decoder.block.") or k.startswith("decoder.block.0.")}
    files["model.safetensors"] = save(kept, metadata={"format": "pt"})
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    ByT5Tokenizer().save_pretrained(folder)
    return folder


def test_byt5_runs_on_every_engine(tmp_path: Path) -> None:
    pair = load(byt5(tmp_path / "large", 3), byt5(tmp_path / "small", 2))
    text = "Zwei Hünde."
    ids, _ = pair.encode(text)
    assert ids == AutoTokenizer.from_pretrained(tmp_path / "large")(text)["input_ids"]
    assert pair.decode(ids) == text
    expected = library_generate(pair, ids, 12).tokens
    for engine in ENGINES:
        output = bild.generate(pair, text, method="vanilla", engine=engine, max_length=12)
        assert output.tokens == expected
    for name in ("large", "small"):
        (tmp_path / name / "tokenizer_config.json").unlink()  # config.json names its class, too
    assert load(tmp_path / "large", tmp_path / "small").encode(text)[0] == ids


def test_sentencepiece_alone_is_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "spiece.model").write_bytes(multilingual_tokenizer()["spiece.model"])
    files = {"spiece.model": multilingual_tokenizer()["spiece.model"]}
    alone = write_checkpoint(tmp_path / "alone", tokenizer=None, rows=700, files=files)
    pair = load(alone, write_checkpoint(tmp_path / "small", tokenizer=None, rows=700, seed=2))
    assert pair.tokenizer_name == str(alone)
    assert pair.decode(pair.encode("Ein Hund läuft.")[0]) == "Ein Hund läuft."


def test_the_name_that_tokenizers_of_mt5_had_is_known(tmp_path: Path) -> None:
    files = {"spiece.model": multilingual_tokenizer()["spiece.model"]}
    plain = write_checkpoint(tmp_path / "plain", tokenizer=None, rows=700, files=files)
    files["tokenizer_config.json"] = to_json({"tokenizer_class": "MT5Tokenizer"})
    named = write_checkpoint(tmp_path / "named", tokenizer=None, rows=700, seed=2, files=files)
    text = "Ein Hund läuft."
    assert load(named, plain).encode(text) == load(plain, named).encode(text)


def test_a_vocabulary_of_words_is_a_tokenizer(tmp_path: Path) -> None:
    """As Chinese T5s have it: BERT's tokenizer, which begins every text with `[CLS]` and ends it with `[SEP]`."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *"今天气很好狗在雪里跑。"]
    ids = {"decoder_start_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    files = {"vocab.txt": "\n".join(words).encode(), "generation_config.json": to_json(ids)}
    files["tokenizer_config.json"] = to_json({"tokenizer_class": "BertTokenizer"})
    large = write_checkpoint(tmp_path / "large", tokenizer=None, rows=32, files=files, config=ids)
    small = write_checkpoint(tmp_path / "small", tokenizer=None, rows=32, files=files, config=ids, seed=2)
    pair, text = load(large, small), "今天天气很好。"
    found, cut = pair.encode(text)
    assert found == AutoTokenizer.from_pretrained(large)(text)["input_ids"]
    assert (found[0], found[-1], cut, pair.decode(found).replace(" ", "")) == (1, 2, False, text)


def test_codet5_writes_its_first_token(tmp_path: Path) -> None:
    """Byte-level BPE with `<s>` before every text, as RobertaTokenizer has it."""
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(["def f(x):\n    return x\n"], vocab_size=300, special_tokens=specials)
    ids = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
    folders = []
    for seed, name in enumerate(("large", "small")):
        files = {"generation_config.json": to_json(ids)}
        folder = write_checkpoint(tmp_path / name, tokenizer=None, seed=seed, rows=320, config=ids, files=files)
        trained.save_model(str(folder))
        (folder / "tokenizer_config.json").write_bytes(to_json({"tokenizer_class": "RobertaTokenizer"}))
        folders.append(folder)
    pair = load(*folders)
    text = "def f(x): return x"
    found, cut = pair.encode(text)
    assert found == AutoTokenizer.from_pretrained(folders[0])(text)["input_ids"]
    assert (found[0], found[-1], cut) == (0, 2, False)
    short, cut = pair.encode(text, 4)
    assert (len(short), short[0], short[-1], cut) == (4, 0, 2, True)
    assert pair.decode(found) == text


def test_the_source_ends_as_its_tokenizer_ends_it_and_not_as_the_model_ends_its_texts(tmp_path: Path) -> None:
    files = {"generation_config.json": to_json({"decoder_start_token_id": 0, "eos_token_id": 60})}
    pair = load(*(write_checkpoint(tmp_path / n, seed=i, files=files) for i, n in enumerate("ab")))
    text = "A dog is running."
    ids, cut = pair.encode(text)
    assert (pair.eos, ids, cut) == (60, AutoTokenizer.from_pretrained(tmp_path / "a")(text)["input_ids"], False)
    assert pair.encode(text, 3) == ([*ids[:2], 1], True)
    corpus = encode_corpus(
        Dataset((Example("0", text, text),), {}), pair.tokenizer, eos=60, prompt="", source_limit=99, target_limit=99
    )
    assert (corpus.sources, corpus.targets) == ([ids], [[*ids[:-1], 60]])


def test_a_vocabulary_that_is_damaged_is_told_by_its_file(tmp_path: Path, good: Path) -> None:
    bad = write_checkpoint(tmp_path / "bad", tokenizer=None, files={"spiece.model": b"none"})
    assert refusal(bad, good) == (
        f"The tokenizer of {bad} cannot be loaded: spiece.model is no model of SentencePiece, fetch it again."
    )


def test_a_tokenizer_that_would_fill_the_memory_with_sentinels_is_refused(tmp_path: Path, good: Path) -> None:
    files = {"spiece.model": multilingual_tokenizer()["spiece.model"]}
    files["tokenizer_config.json"] = to_json({"tokenizer_class": "T5Tokenizer", "extra_ids": 10**12})
    bad = write_checkpoint(tmp_path / "bad", tokenizer=None, files=files)
    assert refusal(bad, good) == (
        f"The tokenizer of {bad} cannot be loaded: tokenizer_config.json asks for 1e+12 extra_ids, at most 10,000 are "
        "read."
    )


@pytest.mark.parametrize("setting", ["x", [], {"a": 1}])
def test_a_setting_that_the_library_reads_first_where_it_encodes_is_refused_before(
    tmp_path: Path, good: Path, setting: Any
) -> None:
    files = {"tokenizer_config.json": to_json({"tokenizer_class": "T5Tokenizer", "model_max_length": setting})}
    bad = write_checkpoint(tmp_path / "bad", files=files)
    assert refusal(bad, good).startswith(f"The tokenizer of {bad} cannot be loaded: '>' not supported between")


def test_a_configuration_without_a_vocabulary_is_no_tokenizer(tmp_path: Path, good: Path) -> None:
    files = {"tokenizer_config.json": to_json({"tokenizer_class": "T5Tokenizer", "extra_ids": 100})}
    bare = write_checkpoint(tmp_path / "bare", tokenizer=None, files=files)
    other = write_checkpoint(tmp_path / "other", tokenizer=None, files=files, seed=2)
    assert load(bare, other).tokenizer is None
    assert load(bare, good).tokenizer_name == str(good)


# --- pairs that are hardly meant


def test_a_swapped_pair_and_a_model_twice_are_told(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_checkpoint(tmp_path / "small", seed=2, layers=1)
    load(good, small)
    assert capsys.readouterr().err == ""
    load(small, good)
    assert capsys.readouterr().err.startswith(f"warning: the large model {small} has ")
    load(good, good)
    assert capsys.readouterr().err == f"warning: the large and the small model are the same, {good}\n"
