"""What a bench decodes with: a shape's random weights, or a pair; and the sources."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import Any

import torch

from bild.bench.config import BenchConfig
from bild.config import Checkpoints, EngineConfig, ModelConfig, ShapeConfig, TaskConfig
from bild.engines import DTYPES
from bild.errors import BildError
from bild.models import Pair, PairSpec, load
from bild.models.shapes import random_model
from bild.tasks import load_task

_CAPTIONS = TaskConfig(id_column="id")
_NEWS = TaskConfig(name="embedded-news", kind="summarisation", path="news", id_column="id")


@dataclass
class Subject:
    """A large model, perhaps a small one, and the sources of the repeats."""

    name: str
    title: str
    large: Any
    small: Any | None
    start: int
    vocabulary: int
    sources: list[list[int]]
    """One per repeat, all of one length."""
    words: str
    """What the sources are, for people."""
    details: dict[str, Any]

    @property
    def model_bytes(self) -> int:
        """Of the large model's weights, each counted once."""
        return sum(weight.numel() * weight.element_size() for weight in self.large.parameters())


def make_subject(config: BenchConfig, device: torch.device) -> Subject:
    """Build the shape, or load the pair."""
    if config.shape is not None:
        return _from_shape(config, config.shape, device)
    assert config.model is not None
    return _from_pair(config, config.model)


def _from_shape(config: BenchConfig, shape: ShapeConfig, device: torch.device) -> Subject:
    module = random_model(shape, DTYPES[config.dtype], device, config.seed)
    return Subject(
        name=config.subject,
        title=f"{shape.name} (random weights)",
        large=module,
        small=None,
        start=0,
        vocabulary=shape.rows,
        sources=_random_sources(config, shape.rows),
        words="random tokens",
        details={"is": "shape", "parameters": _parameters(module), **dataclasses.asdict(shape)},
    )


def _from_pair(config: BenchConfig, model: ModelConfig) -> Subject:
    found = model.checkpoints.get(model.task or "", Checkpoints(""))
    large, small = model.large or found.large, model.small or found.small
    if not large or not (small or model.exit):
        raise BildError(
            f"model={model.name} needs two checkpoints: give model.large=... and model.small=..., each a folder or a "
            "hub id."
        )
    engine = EngineConfig(dtype=config.dtype, device=config.device)
    pair = load(dataclasses.replace(PairSpec.of(model, Checkpoints(large, small), engine), name=model.name))
    sources, words = _pair_sources(config, model, pair)
    return Subject(
        name=config.subject,
        title=f"{model.name} pair, large model",
        large=pair.large.module,
        # The first layers of an early exit share the large model's buffers: not a model to be timed beside it.
        small=None if model.exit else pair.small.module,
        start=pair.start,
        vocabulary=pair.vocabulary,
        sources=sources,
        words=words,
        details={
            "is": "pair",
            "name": model.name,
            "parameters": pair.large.parameters,
            "large": pair.large.describe(),
            "small": pair.small.describe(),
        },
    )


def _pair_sources(config: BenchConfig, model: ModelConfig, pair: Pair) -> tuple[list[list[int]], str]:
    """Texts that come with the package, joined until they are long enough."""
    if pair.tokenizer is None:
        return _random_sources(config, pair.vocabulary), "random tokens"
    news = "summarisation" in model.fits
    texts = [example.source for example in load_task(_NEWS if news else _CAPTIONS).examples]
    random.Random(config.seed).shuffle(texts)
    sources: list[list[int]] = []
    at = 0
    while len(sources) < config.repeats:
        ids: list[int] = pair.encode("summarize: ")[0][:-1] if news else []
        while len(ids) < config.source_length - 1:
            ids += pair.encode(texts[at % len(texts)])[0][:-1]
            at += 1
        sources.append([*ids[: config.source_length - 1], pair.eos])
    return sources, "embedded news" if news else "embedded captions, joined"


def _random_sources(config: BenchConfig, rows: int) -> list[list[int]]:
    dice = random.Random(config.seed)
    return [[*(dice.randrange(3, rows) for _ in range(config.source_length - 1)), 1] for _ in range(config.repeats)]


def _parameters(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())
