"""The checkpoints of a pair and the way to load them, as one value that checks itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bild.config import DTYPES, Checkpoints, EngineConfig, ModelConfig, RunConfig
from bild.errors import BildError
from bild.hub import ships
from bild.models.source import (
    EMBEDDED,
    Source,
    embedded_folder,
    fingerprint,
    locate,
    locate_tokenizer,
    tokenizer_fingerprint,
)


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
    dtype: str = "fp32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise BildError(f"dtype={self.dtype} is not known: choose one of {', '.join(DTYPES)}.")
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
        )

    @classmethod
    def of_run(cls, config: RunConfig) -> PairSpec:
        """Return the spec of a run's pair. BildError where the pair was not made for the run's task."""
        checkpoints = config.model.fit(config.task)
        if checkpoints is None:
            raise BildError(f"model={config.model.name} does not fit task={config.task.name}.")
        return cls.of(config.model, checkpoints, config.engine)

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
        return {
            "large": fingerprint(sources[0].folder),
            "small": fingerprint(sources[1].folder) + (f"-exit{self.exit}" if self.exit is not None else ""),
            "tokenizer": tokenizer_fingerprint(owners[0].folder) if owners else None,
        }
