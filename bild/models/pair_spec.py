"""The checkpoints of a pair and the way to load them, as one value; and all that the two must have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bild.config import DTYPES, GRAPH_TRITON, Checkpoints, EngineConfig, ModelConfig, RunConfig
from bild.errors import BildError, refusing, shown
from bild.hub import ships
from bild.models.source import (
    EMBEDDED,
    Source,
    embedded_folder,
    fingerprint,
    locate,
    locate_tokenizer,
    plain_config,
    tokenizer_fingerprint,
)
from bild.options import check_fields, word
from bild.results.files import parse, read_file

_PADDING = 128
"""Vocabularies are padded to multiples of this (T5: 32,100 to 32,128; mT5: 250,100 to 250,112 is below one)."""

_EXTRA = 10_000
"""The most sentinel tokens that a tokenizer may ask for; T5 has 100."""


@dataclass(frozen=True)
class PairSpec:
    """Two checkpoints by folder or hub id, or one of which the first `exit` decoder layers are the small model.

    Raises BildError where a dtype is unknown, or where there is neither a small model nor an exit.
    """

    large: str
    small: str | None = None
    tokenizer: str | None = None
    """A folder or hub id; None takes the tokenizer beside the large model, else the one beside the small model."""
    name: str | None = None
    revision_large: str | None = None
    revision_small: str | None = None
    exit: int | None = None
    dtype: str = word("fp32", DTYPES)
    device: str = "auto"
    triton: bool = False
    """Whether Triton's products are measured, too: those of `engine=graph-triton`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(self.device))
        check_fields("", self)
        if self.small is not None and self.exit is not None:
            raise BildError(
                f"exit={self.exit} makes the small model of the large one's first layers, so {shown(self.small)} has "
                "no place in the pair: leave one of them out."
            )
        if self.small is None and self.exit is None and self.large != "embedded":
            raise BildError(
                f"A pair needs two checkpoints: {self.large} was given as the large one, and no small one; "
                "name it, or give exit=n to take the large one's first n decoder layers."
            )

    @classmethod
    def of(cls, model: ModelConfig, checkpoints: Checkpoints, engine: EngineConfig) -> PairSpec:
        """Return the spec of a configured pair, with the two checkpoints that were chosen for its task."""
        return cls(
            checkpoints.large,
            None if model.exit else checkpoints.small,
            tokenizer=model.tokenizer,
            name=model.pair_name,
            revision_large=model.revision_large,
            revision_small=model.revision_small,
            exit=model.exit,
            dtype=engine.dtype,
            device=engine.device,
            triton=engine.name == GRAPH_TRITON,
        )

    @classmethod
    def of_run(cls, config: RunConfig) -> PairSpec:
        """Return the spec of a run's pair. BildError where the pair was not made for the run's task."""
        return cls.of(config.model, checkpoints_of(config), config.engine)

    def sources(self) -> tuple[Source, Source]:
        """Find both checkpoints; with an exit the large one stands for both. BildError where one is missing."""
        large = embedded_folder(self.large, "large")
        whole = locate(large, revision=self.revision_large, option="model.large")
        if self.exit is not None:
            return whole, whole
        small = embedded_folder(self.small or "embedded", "small")
        part = locate(small, revision=self.revision_small, option="model.small")
        return whole, part

    def tokenizers(self, sources: tuple[Source, Source]) -> list[Source]:
        """List where a tokenizer lies: the one that was asked for, or those beside the two models, which must agree."""
        asked = self.tokenizer
        if asked is None and (ships(self.large) or ships(self.small or "")):
            asked = str(EMBEDDED)
        if asked is None:
            return [source for source in sources if source.has_tokenizer]
        return [locate_tokenizer(asked, "model.tokenizer")]

    def fingerprints(self) -> dict[str, Any]:
        """Identify the pair without loading it: by the fingerprints of both checkpoints and of the tokenizer."""
        sources = self.sources()
        owners = self.tokenizers(sources)
        bridged = {"one_encoder": True} if self.exit is None and "bild_bridge" in plain_config(sources[1]) else {}
        return {
            "large": fingerprint(sources[0].folder),
            "small": fingerprint(sources[1].folder) + (f"-exit{self.exit}" if self.exit is not None else ""),
            "tokenizer": tokenizer_fingerprint(owners[0].folder) if owners else None,
            **bridged,
        }


def checkpoints_of(config: RunConfig) -> Checkpoints:
    """Return the checkpoints of a run's pair for its task. BildError where the pair was not made for it."""
    found = config.model.fit(config.task)
    if found is None:
        raise BildError(f"model={config.model.name} does not fit task={config.task.name}.")
    return found


def shared_tokenizer(owners: Sequence[Source]) -> Any | None:
    """Load the first tokenizer, None where there is none. BildError where a second one has another vocabulary."""
    if not owners:
        return None
    chosen = load_tokenizer(owners[0])
    if len(owners) == 2 and not _same_file(owners[0], owners[1]):
        other = load_tokenizer(owners[1])
        if chosen.get_vocab() != other.get_vocab():
            raise BildError(
                f"The vocabularies differ: the tokenizer of {owners[0].name} is not that of {owners[1].name}; "
                "BiLD needs two models over one vocabulary."
            )
    return chosen


def _same_file(a: Source, b: Source) -> bool:
    for name in ("tokenizer.json", "spiece.model"):
        one, two = a.folder / name, b.folder / name
        if one.is_file() and two.is_file():
            return read_file(one) == read_file(two)
    return False


def load_tokenizer(source: Source) -> Any:
    """Load the tokenizer beside a checkpoint. BildError says what is wrong with it."""
    from transformers import AutoTokenizer

    def sentence(why: str) -> str:
        if "tiktoken" in why:  # which the library tries last, whatever was wrong with a file of another kind
            why = "spiece.model is no model of SentencePiece, fetch it again"
        return f"The tokenizer of {source.name} cannot be loaded: {why}."

    settings = source.folder / "tokenizer_config.json"
    with refusing(sentence):
        found = parse(read_file(settings)) if settings.is_file() else {}
        extra = found.get("extra_ids") if isinstance(found, dict) else None
        if isinstance(extra, int | float) and extra > _EXTRA:  # the library would write each of them out
            raise ValueError(f"tokenizer_config.json asks for {extra:g} extra_ids, at most {_EXTRA:,} are read")
        kind = str(found.get("tokenizer_class")) if isinstance(found, dict) else ""
        # A name that the library has dropped: it was another one for T5's.
        known = {"tokenizer_type": "t5"} if kind.startswith("MT5Tokenizer") else {}
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, **known)
        tokenizer.decode(tokenizer("a")["input_ids"])  # the library looks at some settings first where it is used
        return tokenizer


def affixes_of(tokenizer: Any, eos: int) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before and behind every text: T5 has `</s>`, CodeT5 `<s>`, too.

    `eos`, with which the model ends its own texts, stands behind where the tokenizer puts nothing there.
    """
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:at], whole[at + len(bare) :] or [eos]


def shared_vocabulary(sources: tuple[Source, Source], configs: list[Any], tokenizer: Any | None) -> int:
    """Count the rows that both models have. BildError where the sizes differ by more than padding."""
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


def shared_ids(sources: tuple[Source, Source], configs: list[Any]) -> tuple[int, int]:
    """Return (decoder start token, end token), which must be the same in both models."""
    found = []
    for config in configs:
        start: Any = getattr(config, "decoder_start_token_id", None)
        found.append((start, config.eos_token_id))
    for what, a, b in zip(("decoder start token", "end token"), found[0], found[1], strict=True):
        if a != b or a is None:
            raise BildError(
                f"The {what} differs or is missing: {a} in {sources[0].name}, {b} in {sources[1].name}; "
                "both models must have been trained with one vocabulary."
            )
    return found[0]
