"""The typed configuration of `python -m bild.bench`. No torch: a wrong option is told before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from bild.config import DTYPES, ENGINES, ModelConfig, ShapeConfig, at_least, one_of
from bild.errors import BildError

PEERS = (
    "generate",
    "generate-static",
    "generate-compiled",
    "assisted",
    "prompt-lookup",
    "ctranslate2",
    "ctranslate2-int8",
)


@dataclass
class BenchConfig:
    """The options of the bench: a shape or a pair, by which engines and beside which peers, and how often."""

    GROUPS: ClassVar[tuple[str, ...]] = ("shape", "model")
    """The groups of `conf/` that this command takes."""
    ALIASES: ClassVar[dict[str, str]] = {"engine": "engines"}
    """Other names of fields that users may type: `engine` alone is a group, which holds a single one."""

    shape: ShapeConfig | None = None
    model: ModelConfig | None = None
    engines: list[str] = field(default_factory=lambda: ["hf", "fused", "graph"])
    peers: list[str] = field(default_factory=lambda: list(PEERS))
    dtype: str = "fp32"
    device: str = "auto"
    threads: int = 1
    widths: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """New positions of the verification passes."""
    source_length: int = 64
    long_sources: list[int] = field(default_factory=lambda: [256, 1024])
    """More lengths of a source, at which engines, `generate` and `ctranslate2` are timed to the first token and on."""
    tokens: int = 32
    """Tokens that are timed, after the first one; the end token does not end them."""
    cached: int = 32
    """Positions that are cached before a verification pass."""
    repeats: int = 7
    warmup: int = 2
    assistant_tokens: int = 5
    """Drafted tokens of assisted generation and of prompt lookup."""
    seed: int = 0
    out: str = "bench"

    def __post_init__(self) -> None:
        if self.shape is not None and self.model is not None:
            raise BildError("shape=... and model=... are two things to measure: name one of them.")
        if self.shape is None and self.model is None:
            self.model = ModelConfig(large="embedded", small="embedded", fits=["translation-de-en"], task="embedded")
        self.engines, self.peers = list(dict.fromkeys(self.engines)), list(dict.fromkeys(self.peers))
        for engine in self.engines:
            one_of("engine", engine, ENGINES)
        for peer in self.peers:
            one_of("peers", peer, PEERS)
        if not self.engines and not self.peers:
            raise BildError("There is nothing to measure: name at least one of engine=[...] and peers=[...].")
        one_of("dtype", self.dtype, DTYPES)
        self.widths, self.long_sources = sorted(set(self.widths)), sorted(set(self.long_sources))
        for name, least in {"source_length": 2, "tokens": 2, "cached": 1, "repeats": 1, "warmup": 1}.items():
            at_least(name, getattr(self, name), least)
        for name in ("threads", "assistant_tokens"):
            at_least(name, getattr(self, name), 1)
        for width in self.widths:
            at_least("widths", width, 1)
        for length in self.long_sources:
            at_least("long_sources", length, 2)

    @property
    def name(self) -> str:
        """Return the name of what is measured, as files have it."""
        named = self.shape or self.model
        assert named is not None
        return named.name.replace("/", "-")
