"""Load a pair: two checkpoints, checked against each other, and the tokenizer they share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bild.engines import DTYPES, Engine, build_engine, build_exit_engines, check_exit
from bild.errors import BildError
from bild.models.source import Source, fingerprint, locate, tokenizer_fingerprint

EMBEDDED = Path(__file__).parent / "embedded"
_PADDING = 128
"""Vocabularies are padded to multiples of this (T5: 32,100 to 32,128; mT5: 250,100 to 250,112 is below one)."""


@dataclass
class Model:
    """One loaded checkpoint."""

    module: Any
    source: Source
    fingerprint: str
    parameters: int

    def describe(self) -> dict[str, Any]:
        """For the record."""
        return {
            "source": self.source.name,
            "revision": self.source.revision,
            "fingerprint": self.fingerprint,
            "parameters": self.parameters,
        }


@dataclass
class Pair:
    """A large and a small model with one vocabulary, on one device, in one dtype."""

    name: str
    large: Model
    small: Model
    tokenizer: Any | None
    tokenizer_name: str | None
    vocabulary: int
    """Token ids that both know; padding rows beyond it are never chosen."""
    start: int
    eos: int
    dtype: str
    device: torch.device
    exit: int | None = None
    """The small model is the large one's first `exit` decoder layers; None where it is a checkpoint of its own."""
    _engines: dict[tuple[str, str], Engine] = field(default_factory=dict, repr=False)

    def engine(self, role: str, name: str) -> Engine:
        """The engine of `role` ("large" or "small"), built at its first use."""
        key = (role, name)
        if key not in self._engines and self.exit is not None:
            options: dict[str, Any] = {"dtype": self.dtype, "eos": self.eos, "vocabulary": self.vocabulary}
            both = build_exit_engines(name, self.large.module, self.exit, **options)
            self._engines[("large", name)], self._engines[("small", name)] = both
        if key not in self._engines:
            module = (self.large if role == "large" else self.small).module
            self._engines[key] = build_engine(name, module, dtype=self.dtype, eos=self.eos, vocabulary=self.vocabulary)
        return self._engines[key]

    def encode(self, text: str, limit: int | None = None) -> tuple[list[int], bool]:
        """Token ids of a source, end token included, at most `limit` of them; and whether it was cut."""
        if self.tokenizer is None:
            raise BildError(f"The pair {self.name} has no tokenizer: give token ids, or a folder with tokenizer.json.")
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
        room = len(ids) if limit is None else limit - 1
        return [*ids[:room], self.eos], len(ids) > room

    def decode(self, tokens: list[int]) -> str:
        """Text of token ids, special tokens left out."""
        if self.tokenizer is None:
            raise BildError(f"The pair {self.name} has no tokenizer: its output is token ids only.")
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()


def resolve_device(device: str) -> torch.device:
    """ "auto" takes the first CUDA device where there is one."""
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BildError(f"engine.device={device} is not a device: use auto, cpu, cuda or cuda:N.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise BildError(f"engine.device={device} is not supported: use auto, cpu, cuda or cuda:N.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BildError(
            f"engine.device={device} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices."
        )
    return torch.device("cuda", chosen.index or 0) if chosen.type == "cuda" else chosen


def load_pair(
    large: str = "embedded",
    small: str | None = None,
    *,
    tokenizer: str | None = None,
    name: str | None = None,
    dtype: str = "fp32",
    device: str = "auto",
    revision_large: str | None = None,
    revision_small: str | None = None,
    allow_pickle: bool = False,
    exit: int | None = None,
) -> Pair:
    """Load two checkpoints (folders or hub ids), or the embedded pair by its name alone.

    `exit=n` makes the first n decoder layers of the large checkpoint the small model; `small` is then not loaded.

    Raises BildError where one is missing or unsafe, where they are no T5 or mT5, or where their vocabularies, end or
    start tokens differ.
    """
    if dtype not in DTYPES:
        raise BildError(f"dtype={dtype} is not known: choose one of {', '.join(DTYPES)}.")
    place = resolve_device(device)
    if large == "embedded":
        name = name or "embedded"
    large, small, tokenizer = _embedded(large, small, tokenizer)
    sources = _locate_both(large, small, revision_large, revision_small, allow_pickle, exit)
    configs = [_config(source) for source in sources]  # first, because the tokenizer's loader reads them too
    if exit is not None:
        check_exit(exit, configs[0].num_decoder_layers)
    chosen, tokenizer_name = _shared_tokenizer(sources, tokenizer)
    whole = _load(sources[0], configs[0], DTYPES[dtype], place, allow_pickle)
    if exit is None:
        part = _load(sources[1], configs[1], DTYPES[dtype], place, allow_pickle)
    else:
        part = _first_layers(whole, exit)
    vocabulary = _shared_vocabulary(sources, configs, chosen)
    start, eos = _shared_ids(sources, configs)
    if name is None:
        name = f"{sources[0].folder.name if sources[0].revision is None else large.rpartition('/')[2]}"
    return Pair(name, whole, part, chosen, tokenizer_name, vocabulary, start, eos, dtype, place, exit)


def _embedded(large: str, small: str | None, tokenizer: str | None) -> tuple[str, str | None, str | None]:
    """Put the folders of the pair that ships in the place of its name; alone, it stands for both models."""
    if "embedded" not in (large, small):
        return large, small, tokenizer
    if large == "embedded":
        large, small = str(EMBEDDED / "large"), small or "embedded"
    if small == "embedded":
        small = str(EMBEDDED / "small")
    return large, small, tokenizer or str(EMBEDDED)


def _locate_both(
    large: str,
    small: str | None,
    revision_large: str | None,
    revision_small: str | None,
    allow_pickle: bool,
    exit_layer: int | None,
) -> tuple[Source, Source]:
    whole = locate(large, revision=revision_large, allow_pickle=allow_pickle, option="model.large")
    if exit_layer is not None:
        return whole, whole
    if small is None:
        raise BildError(
            f"A pair needs two checkpoints: {large} was given as the large one, and no small one; "
            "name it, or give exit=n to take the large one's first n decoder layers."
        )
    return whole, locate(small, revision=revision_small, allow_pickle=allow_pickle, option="model.small")


def _first_layers(whole: Model, exit_layer: int) -> Model:
    """The small model of an early-exit pair: the same module, described as its first layers."""
    beyond = tuple(f"decoder.block.{i}." for i in range(exit_layer, whole.module.config.num_decoder_layers))
    parameters = sum(p.numel() for name, p in whole.module.named_parameters() if not name.startswith(beyond))
    return Model(whole.module, whole.source, f"{whole.fingerprint}-exit{exit_layer}", parameters)


def fingerprints(
    large: str,
    small: str | None,
    *,
    tokenizer: str | None = None,
    revision_large: str | None = None,
    revision_small: str | None = None,
    allow_pickle: bool = False,
    exit: int | None = None,
) -> dict[str, Any]:
    """What identifies a pair, found without loading it: the fingerprints of both checkpoints and of the tokenizer."""
    large, small, tokenizer = _embedded(large, small, tokenizer)
    sources = _locate_both(large, small, revision_large, revision_small, allow_pickle, exit)
    owner = next((source for source in sources if source.has_tokenizer), None)
    if tokenizer is not None:
        owner = locate(tokenizer, weights=False, option="model.tokenizer")
    return {
        "large": fingerprint(sources[0].folder),
        "small": fingerprint(sources[1].folder) + (f"-exit{exit}" if exit is not None else ""),
        "tokenizer": None if owner is None else tokenizer_fingerprint(owner.folder),
    }


def _config(source: Source) -> Any:
    """The configuration of a checkpoint, which must be a T5 or an mT5."""
    from transformers import AutoConfig

    try:
        plain = json.loads((source.folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BildError(f"{source.name} has a config.json that cannot be read ({error}).") from error
    kind = plain.get("model_type") if isinstance(plain, dict) else None
    if kind not in ("t5", "mt5"):
        what = f"is a {kind} checkpoint" if isinstance(kind, str) else "has a config.json without a model_type"
        raise BildError(f"{source.name} {what}: only T5 and mT5 encoder-decoders can be paired.")
    try:
        return AutoConfig.from_pretrained(source.folder)
    except Exception as error:  # the library checks the values, and raises all kinds
        raise BildError(f"{source.name} has a config.json that is not a {kind}'s ({_told(error)}).") from error


def _load(source: Source, config: Any, dtype: torch.dtype, device: torch.device, allow_pickle: bool) -> Model:
    from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    classes = {"t5": T5ForConditionalGeneration, "mt5": MT5ForConditionalGeneration}
    transformers_logging.set_verbosity_error()  # its warnings on ties and its bars would drown ours
    transformers_logging.disable_progress_bar()
    try:
        module, report = classes[config.model_type].from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            use_safetensors=None if allow_pickle and not source.has_safetensors else True,
            ignore_mismatched_sizes=True,  # they are told below; the library would only point to its log
            output_loading_info=True,
        )
    except Exception as error:  # a damaged file: which kind depends on its format
        raise BildError(f"The weights of {source.name} cannot be loaded: {_told(error)}.") from error
    # The library fills what a file lacks with random numbers; the head may be missing where it is tied.
    missing = sorted(k for k in report["missing_keys"] if not k.endswith(("embed_tokens.weight", "lm_head.weight")))
    if missing:
        raise BildError(f"The weights of {source.name} are incomplete: {len(missing)} are missing, {missing[0]} first.")
    if report["mismatched_keys"]:
        key, found, wanted = sorted(report["mismatched_keys"])[0]
        raise BildError(
            f"The weights of {source.name} do not fit its config.json: {key} is {list(found)}, not {list(wanted)}."
        )
    module = module.to(device).eval()
    parameters = sum(p.numel() for p in module.parameters())
    return Model(module, source, fingerprint(source.folder), parameters)


def _shared_tokenizer(sources: tuple[Source, Source], asked: str | None) -> tuple[Any | None, str | None]:
    """The tokenizer asked for, else the large model's, else the small one's, else none; two of them must agree."""
    if asked is not None:
        source = locate(asked, weights=False, option="model.tokenizer")
        if not source.has_tokenizer:
            raise BildError(f"model.tokenizer={asked} has neither tokenizer.json nor spiece.model.")
        return _load_tokenizer(source), asked
    owners = [source for source in sources if source.has_tokenizer]
    if not owners:
        return None, None
    chosen = _load_tokenizer(owners[0])
    if len(owners) == 2 and not _same_file(owners[0], owners[1]):
        other = _load_tokenizer(owners[1])
        if chosen.get_vocab() != other.get_vocab():
            raise BildError(
                f"The vocabularies differ: the tokenizer of {sources[0].name} is not that of {sources[1].name}; "
                "BiLD needs two models over one vocabulary."
            )
    return chosen, owners[0].name


def _same_file(a: Source, b: Source) -> bool:
    for name in ("tokenizer.json", "spiece.model"):
        one, two = a.folder / name, b.folder / name
        if one.is_file() and two.is_file():
            return one.read_bytes() == two.read_bytes()
    return False


def _load_tokenizer(source: Source) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
    except Exception as error:  # the library raises all kinds for a broken file
        raise BildError(f"The tokenizer of {source.name} cannot be loaded: {_told(error)}.") from error


def _told(error: Exception) -> str:
    """What an error of the library says, on one line and not at length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:157]}...").rstrip(".")


def _shared_vocabulary(sources: tuple[Source, Source], configs: list[Any], tokenizer: Any | None) -> int:
    """Rows that both models have. Sizes may differ by padding only."""
    sizes = [int(config.vocab_size) for config in configs]
    fewest = min(sizes)
    rounded = [-(-size // _PADDING) for size in sizes]
    if tokenizer is not None and len(tokenizer) > fewest:
        raise BildError(
            f"The tokenizer has {len(tokenizer)} tokens and {sources[sizes.index(fewest)].name} only {fewest} rows: "
            "this checkpoint was trained with another vocabulary."
        )
    if rounded[0] != rounded[1]:
        raise BildError(
            f"The vocabularies differ: {sources[0].name} has {sizes[0]} rows and {sources[1].name} {sizes[1]}; "
            f"BiLD needs two models over one vocabulary (padding to a multiple of {_PADDING} is allowed)."
        )
    return fewest


def _shared_ids(sources: tuple[Source, Source], configs: list[Any]) -> tuple[int, int]:
    """(decoder start token, end token); both must be the same in both models. T5's start token is its padding."""
    found = []
    for config in configs:
        start = getattr(config, "decoder_start_token_id", None)
        found.append((config.pad_token_id if start is None else start, config.eos_token_id))
    for what, a, b in zip(("decoder start token", "end token"), found[0], found[1], strict=True):
        if a != b or a is None:
            raise BildError(
                f"The {what} differs or is missing: {a} in {sources[0].name}, {b} in {sources[1].name}; "
                "both models must have been trained with one vocabulary."
            )
    return found[0]
