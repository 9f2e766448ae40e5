"""A checkpoint on disk: where it lies, its files, its configuration, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bild.errors import BildError, refusing, shown
from bild.hub import cached_snapshot, is_name, said
from bild.results.files import parse, read_file, refuse_pointer

EMBEDDED = Path(__file__).resolve().parent / "embedded"
"""The pair that ships."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
"""In an order that fingerprints keep: a new one goes behind."""
_BESIDE = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"}
_VOCABULARIES = [name for name in TOKENIZER_FILES if name not in _BESIDE]
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "pytorch_adapter.bin")
_SETTINGS = ("config.json", "generation_config.json", "adapter_config.json")
_WEIGHTS = re.compile(r"\.(safetensors|h5|msgpack|ot|gguf)$|model.*\.(bin|pt|pth|ckpt)$")
"""Files of weights as one framework or another writes them."""
_START, _END = "decoder_start_token_id", "eos_token_id"
_SAMPLE = 1 << 20
_LAYERS = 1000
"""The most that a stack may have: building one more takes time even without weights, and no T5 has a tenth."""


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine's disk."""

    name: str
    """As the user gave it: a path or a hub id."""
    folder: Path
    revision: str | None
    """The hub's commit hash; None for a folder."""

    @property
    def has_tokenizer(self) -> bool:
        """Tell whether a tokenizer lies beside the weights: a vocabulary, or ByT5's configuration, which needs none."""
        if any((self.folder / name).is_file() for name in _VOCABULARIES):
            return True
        named = (self.folder / name for name in ("tokenizer_config.json", "config.json"))
        return any(file.is_file() and b"ByT5Tokenizer" in read_file(file) for file in named)


def locate(name: str, *, revision: str | None = None, weights: bool = True, option: str = "model") -> Source:
    """Find a checkpoint by path or hub id, downloading it where the hub can be reached.

    `weights=False` asks for a tokenizer only. Raises BildError for what is missing or is no whole checkpoint.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if revision is not None:
            key = option.replace(".", ".revision_")
            raise BildError(f"{key}={shown(revision)} has no effect on a folder, which {option} is: leave it out.")
        source = Source(_shown(name, path.resolve()), path.resolve(), None)
    elif not is_name(name) or path.is_file():
        raise BildError(f"There is no folder {name} for {option}: give one with config.json and model.safetensors.")
    else:
        wanted = [*_SETTINGS, *TOKENIZER_FILES] if weights else ["config.json", *TOKENIZER_FILES]
        source = _from_hub(name, revision, [*wanted, "*.safetensors", _SAFE[1]] if weights else wanted, option)
        if weights and not _is_whole(source.folder):  # pickles only, or an interrupted download of theirs
            source = _from_hub(name, revision, [*wanted, "pytorch_model*.bin", _PICKLES[1]], option)
    for file in (*_SETTINGS, *TOKENIZER_FILES, _SAFE[1], _PICKLES[1]):
        refuse_pointer(source.folder / file)
    if not weights:
        return source
    if not (source.folder / "config.json").is_file():
        raise BildError(f"{name} has no config.json: {option} needs a folder or hub id of a T5 or mT5 checkpoint.")
    if adapter := next((file for file in _ADAPTERS if (source.folder / file).is_file()), None):
        raise BildError(
            f"{name} is an adapter (it has {adapter}): merge it into its base model first, with peft's "
            "merge_and_unload(), and save that."
        )
    for weights_file in weight_files(source.folder):
        refuse_pointer(weights_file)
    return source


def weight_files(folder: Path) -> list[Path]:
    """List the files of a checkpoint's weights: safetensors where there are any, else pickles; one file or shards.

    Raises BildError where there are none, and where an index names a shard that is not there.
    """
    for whole, index in (_SAFE, _PICKLES):
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            names = _shards_in(folder / index)
            for name in names:
                if Path(name).name != name or not (folder / name).is_file():
                    raise BildError(f"{folder} has no {name}, which its {index} names: fetch the missing shard.")
            return [folder / name for name in names]
    others = sorted(file.name for file in folder.glob("*") if _WEIGHTS.search(file.name) and file.is_file())
    if shards := [name for name in others if "-of-" in name]:
        raise BildError(f"{folder} has {shards[0]} and no index of its shards: fetch the *.index.json beside them.")
    found = f"; {others[0]} is not read, save it as {_SAFE[0]}" if others else ""
    whole = f"neither {_SAFE[0]} nor {_PICKLES[0]} was found, whole or in shards"
    raise BildError(f"{folder} has no weights: {whole}{found}.")


def _shards_in(index: Path) -> list[str]:
    with refusing(lambda why: f"{index} is no index of shards ({why}): fetch it again.", ValueError):
        shards = _object(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise ValueError("it has no weight_map from names to files")
    return sorted({*shards.values()})


def _is_whole(folder: Path) -> bool:
    try:
        return bool(weight_files(folder))
    except BildError:
        return False


def read_config(source: Source) -> Any:
    """Read the configuration of a checkpoint, with the start and end tokens as the library's `generate()` heeds them.

    Raises BildError for what is no T5 or mT5, for quantised weights, and for texts that could end at several tokens.
    """
    from transformers import AutoConfig

    plain = plain_config(source)
    kind = plain.get("model_type")
    if kind not in ("t5", "mt5") or plain.get("is_encoder_decoder") is False:
        what = f"is a {kind} checkpoint" if isinstance(kind, str) else "has a config.json without a model_type"
        what += " without a decoder (is_encoder_decoder is false)" if kind in ("t5", "mt5") else ""
        raise BildError(f"{source.name} {what}: only T5 and mT5 encoder-decoders can be paired.")
    if plain.get("quantization_config") is not None:
        raise BildError(
            f"The weights of {source.name} are quantised, or would be as they are loaded (quantization_config in its "
            "config.json): save them in fp32, fp16 or bf16."
        )
    with refusing(lambda why: f"{source.name} has a config.json that is not a {kind}'s ({why})."):
        config = AutoConfig.from_pretrained(source.folder)  # checks the values
        layers = max(config.num_layers, config.num_decoder_layers)
        if layers > _LAYERS:
            raise ValueError(f"{layers:g} layers")
    config.return_dict = True  # as all that calls the library's module expects it
    if config.relative_attention_max_distance <= config.relative_attention_num_buckets // 2:
        raise BildError(
            f"{source.name} has a config.json that makes no model (relative_attention_max_distance is "
            f"{config.relative_attention_max_distance}, for {config.relative_attention_num_buckets} buckets)."
        )
    starts = (plain.get(_START), plain.get("bos_token_id"), config.pad_token_id)  # the library's order; T5 has the last
    start = next((start for start in starts if start is not None), None)
    for name, value in ({_START: start, _END: config.eos_token_id} | generation_ids(source.folder)).items():
        if value is not None:
            setattr(config, name, _one_token(source, name, value, int(config.vocab_size)))
    return config


def _one_token(source: Source, name: str, value: Any, rows: int) -> int:
    """Return the id of a start or end token, which may stand in a list. BildError for several, and for what is none."""
    found = value if isinstance(value, list) else [value]
    if wrong := [each for each in found if type(each) is not int or not 0 <= each < rows]:
        raise BildError(
            f"{source.name} has no token {json.dumps(wrong[0])}, which is its {name}: set it to a whole number from 0 "
            f"to {rows - 1} in its config.json or generation_config.json."
        )
    if len({*found}) != 1:
        does, knows = ("ends", "end") if name == _END else ("starts", "start")
        tokens = f"at any of the tokens {', '.join(map(str, found))}" if found else f"nowhere ({name} is [])"
        raise BildError(
            f"{source.name} {does} a text {tokens}: BiLD knows one {knows} token; "
            f"set {name} to one of them in its config.json or generation_config.json."
        )
    return int(found[0])


def plain_config(source: Source) -> dict[str, Any]:
    """Read config.json without a check of its values. BildError where it is no JSON."""
    with refusing(lambda why: f"{source.name} has a config.json that cannot be read ({why}).", ValueError):
        return _object(source.folder / "config.json")


def _object(file: Path) -> dict[str, Any]:
    """Read a file of JSON, which must be an object. ValueError for what is none."""

    def refuse(name: str) -> None:  # as NaN, which Python would take
        raise ValueError(f"{name} is no number of JSON")

    found = parse(read_file(file), parse_constant=refuse)
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def generation_ids(folder: Path) -> dict[str, Any]:
    """Read the start and end tokens of generation_config.json, which the library heeds, where config.json has others.

    Where it has no start but a `bos_token_id`, the library starts with that. Nothing else in that file (beams, lengths,
    penalties) has a part in greedy decoding. BildError where it is no JSON.
    """
    file = folder / "generation_config.json"
    if not file.is_file():
        return {}
    with refusing(lambda why: f"{file} cannot be read ({why}).", ValueError):
        found = _object(file)
        start = found.get(_START)
        wanted = {_START: found.get("bos_token_id") if start is None else start, _END: found.get(_END)}
    try:
        plain = _object(folder / "config.json")
        return {name: value for name, value in wanted.items() if value is not None and value != plain.get(name)}
    except (BildError, ValueError):  # told where the configuration is read
        return {}


def locate_tokenizer(name: str, option: str) -> Source:
    """Find a folder or hub id for its tokenizer. BildError where there is none."""
    found = locate(name, weights=False, option=option)
    if not found.has_tokenizer:
        raise BildError(f"{option}={name} has no tokenizer: none of {', '.join(_VOCABULARIES)} was found.")
    return found


def _from_hub(name: str, revision: str | None, patterns: list[str], option: str) -> Source:
    from huggingface_hub import constants, snapshot_download

    at = f" at revision {revision}" if revision else ""
    trouble = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
            return Source(name, folder, folder.name)
        except Exception as error:  # the cache is as good
            trouble = said(error)
    cached = cached_snapshot(name, "model", revision or "main")
    if cached is None:
        raise BildError(
            f"{option}={name} is neither a folder nor in the hub cache at {constants.HF_HUB_CACHE}{at}, and {trouble}: "
            f"fetch it with `hf download {name}` where there is a connection, or give a local folder."
        )
    return Source(name, cached, cached.name)


def _shown(name: str, folder: Path) -> str:
    """Return the name of a folder for records: the pair that ships lies somewhere else on every machine."""
    return str("embedded" / folder.relative_to(EMBEDDED)) if folder.is_relative_to(EMBEDDED) else name


def embedded_folder(name: str, role: str) -> str:
    """Return the folder of a model that ships ("embedded" means the one of that role), and any other name as it is."""
    if name == "embedded":
        return str(EMBEDDED / role)
    return str(EMBEDDED / name.removeprefix("embedded/")) if name.startswith("embedded/") else name


def fingerprint(folder: Path) -> str:
    """Return 16 hex digits that change with the checkpoint: its configuration, and its weights' sizes and bytes.

    Files above 64 MB are read at 64 evenly spaced places, header included: hashing gigabytes would delay every run.
    """
    digest = hashlib.sha256()
    weights = weight_files(folder)
    index = _SAFE[1] if weights[0].suffix == ".safetensors" else _PICKLES[1]
    files = [folder / "config.json", *weights]
    if weights[0].name not in (_SAFE[0], _PICKLES[0]):  # else no index was read
        files.append(folder / index)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            if size <= 64 * _SAMPLE:
                digest.update(stream.read())
                continue
            for i in range(64):
                stream.seek(i * (size - _SAMPLE) // 63)
                digest.update(stream.read(_SAMPLE))
    if ids := generation_ids(folder):
        digest.update(json.dumps(ids, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(folder: Path) -> str:
    """Return 16 hex digits that change with the tokenizer's files."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            digest.update(name.encode() + read_file(folder / name))
    return digest.hexdigest()[:16]
