"""The things that two checkpoints must share to be a pair: the tokenizer, the vocabulary, the start and end tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bild.errors import BildError, told
from bild.models.source import Source

_PADDING = 128
"""Vocabularies are padded to multiples of this (T5: 32,100 to 32,128; mT5: 250,100 to 250,112 is below one)."""


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
            return one.read_bytes() == two.read_bytes()
    return False


def load_tokenizer(source: Source) -> Any:
    """The tokenizer beside a checkpoint, or a BildError that says what is wrong with it."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
    except Exception as error:  # the library raises all kinds for a broken file
        raise BildError(f"The tokenizer of {source.name} cannot be loaded: {told(error)}.") from error


def prefix_of(tokenizer: Any, eos: int) -> list[int]:
    """Return the special tokens that a tokenizer puts before every text: T5 has none, CodeT5 one."""
    empty: list[int] = tokenizer("")["input_ids"]
    return empty[: empty.index(eos)] if eos in empty else []


def shared_vocabulary(sources: tuple[Source, Source], configs: list[Any], tokenizer: Any | None) -> int:
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


def shared_ids(sources: tuple[Source, Source], configs: list[Any]) -> tuple[int, int]:
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
