"""From token ids to text without loading a model: what a trace of a finished point needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bild.config import RunConfig
from bild.errors import BildError
from bild.models.agreement import shared_tokenizer
from bild.models.loading import locate_both, shipped_folders


def text_decoder(config: RunConfig) -> Callable[[Sequence[int]], str]:
    """The pair's `decode`, special tokens left out. BildError where the pair is not found or has no tokenizer."""
    model = config.model
    checkpoints = model.fit(config.task)
    if checkpoints is None:
        raise BildError(f"model={model.name} does not fit task={config.task.name}.")
    large, small, asked = shipped_folders(checkpoints.large, checkpoints.small, model.tokenizer)
    sources = locate_both(large, small, model.revision_large, model.revision_small, model.allow_pickle, model.exit)
    tokenizer, _ = shared_tokenizer(sources, asked)
    if tokenizer is None:
        raise BildError(f"The pair {model.pair_name} has no tokenizer: give model.tokenizer=..., a folder or a hub id.")

    def decode(tokens: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    return decode
