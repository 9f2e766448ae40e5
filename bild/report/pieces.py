"""Tokens as text, one by one: what a token looks like inside a text, with the space before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens left out."""


def pieces(ids: Iterable[int], decode: Decode) -> dict[int, str]:
    """The piece of each id; empty for special tokens.

    A tokenizer drops the space where a text begins, so every token is read behind a word.
    """
    wanted = sorted({token for token in ids if token >= 0})
    before = next((token for token in wanted if decode([token]).strip().isalpha()), None)
    if before is None:
        return {token: decode([token]) for token in wanted}
    skip = len(decode([before]))
    return {token: decode([before, token])[skip:] for token in wanted}
