"""The typed configuration of `python -m bild.bench`. No torch: a wrong option is told before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bild.config import DTYPES, ENGINES, THREADS, ModelConfig, ShapeConfig
from bild.errors import BildError
from bild.options import LONG, SEED, check_fields, device, folder, number, word

PEERS = (
    "generate",
    "generate-static",
    "generate-compiled",
    "assisted",
    "prompt-lookup",
    "ctranslate2",
    "ctranslate2-int8",
)

USUAL_PEERS = tuple(name for name in PEERS if name != "generate-compiled")
"""Those that are timed unless others are named: what torch.compile captures stands beside our captures in one process,
which ended a bench on a GPU (docs/measurement.md)."""


@dataclass
class BenchConfig:
    """The options of the bench: a shape or a pair, by which engines and beside which peers, and how often."""

    GROUPS: ClassVar[tuple[str, ...]] = ("shape", "model")
    """The groups of `conf/` that this command takes."""
    ALIASES: ClassVar[dict[str, str]] = {"engine": "engines"}
    """Other names of fields that users may type: `engine` alone is a group, which holds a single one."""

    shape: ShapeConfig | None = None
    model: ModelConfig | None = None
    engines: list[str] = word(lambda: ["hf", "fused", "graph"], ENGINES)
    peers: list[str] = word(lambda: list(USUAL_PEERS), PEERS)
    dtype: str = word("fp32", DTYPES)
    device: str = device()
    threads: int = number(1, 1, THREADS)
    widths: list[int] = number(lambda: [1, 2, 4, 8, 16], 1, 1024)
    """New positions of the verification passes."""
    source_length: int = number(64, 2, LONG)
    long_sources: list[int] = number(lambda: [256, 1024], 2, LONG)
    """More lengths of a source, at which engines, `generate` and `ctranslate2` are timed to the first token and on."""
    tokens: int = number(32, 2, LONG)
    """Tokens that are timed, after the first one; the end token does not end them."""
    cached: int = number(32, 1, LONG)
    """Positions that are cached before a verification pass."""
    repeats: int = number(7, 1, 10_000)
    warmup: int = number(2, 1, 10_000)
    assistant_tokens: int = number(5, 1, 1024)
    """Drafted tokens of assisted generation and of prompt lookup."""
    seed: int = number(0, 0, SEED)
    out: str = folder("bench")

    def __post_init__(self) -> None:
        check_fields("", self)
        if self.shape is not None and self.model is not None:
            raise BildError("shape=... and model=... are two things to measure: name one of them.")
        if self.shape is None and self.model is None:
            self.model = ModelConfig(large="embedded", small="embedded", fits=["translation-de-en"], task="embedded")
        self.engines, self.peers = list(dict.fromkeys(self.engines)), list(dict.fromkeys(self.peers))
        if not self.engines and not self.peers:
            raise BildError("There is nothing to measure: name at least one of engine=[...] and peers=[...].")
        self.widths, self.long_sources = sorted(set(self.widths)), sorted(set(self.long_sources))

    @property
    def name(self) -> str:
        """Return the name of what is measured, as files have it."""
        named = self.shape or self.model
        assert named is not None
        return named.name.replace("/", "-")
