"""The workload of a bench, a shape's random weights or a pair, with its sources; and the backends built on it."""

from __future__ import annotations

import dataclasses
import random
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any

import torch

from bild.bench import backends
from bild.bench.config import BenchConfig
from bild.config import GRAPH_TRITON, Checkpoints, EngineConfig, ModelConfig, ShapeConfig, TaskConfig
from bild.engines import DTYPES, Engine, FusedEngine, build_engine
from bild.engines.graph import GraphEngine
from bild.errors import BildError, told
from bild.models import Pair, PairSpec, load
from bild.models.shapes import free_bytes, random_model
from bild.results.bench import ABSENT, FAILED, SKIPPED
from bild.tasks import load_task

_CAPTIONS = TaskConfig(id_column="id")
_NEWS = TaskConfig(name="embedded-news", kind="summarisation", path="news", id_column="id", split="test")


@dataclass
class Workload:
    """A large model, perhaps a small one, and the sources of the repeats."""

    name: str
    title: str
    large: Any
    small: Any | None
    start: int
    vocabulary: int
    sources: dict[int | None, list[list[int]]]
    """One per repeat, all of one length: of the usual one (None), and by other lengths."""
    words: str
    """A name of the sources for people."""
    details: dict[str, Any]
    engine: Callable[[str, str], Engine]
    """Builds the engine of a role ("large" or "small") by its name; its end token is none that a model writes."""

    @property
    def model_bytes(self) -> int:
        """Return the bytes of the large model's weights, each counted once."""
        return sum(weight.numel() * weight.element_size() for weight in self.large.parameters())


def make_workload(config: BenchConfig, device: torch.device) -> Workload:
    """Build the shape, or load the pair."""
    if config.shape is not None:
        return _from_shape(config, config.shape, device)
    assert config.model is not None
    return _from_pair(config, config.model)


def _from_shape(config: BenchConfig, shape: ShapeConfig, device: torch.device) -> Workload:
    module = random_model(shape, DTYPES[config.dtype], device, config.seed)
    options: dict[str, Any] = {"dtype": config.dtype, "eos": _NO_ID, "vocabulary": shape.rows}
    return Workload(
        name=config.name,
        title=f"{shape.name} (random weights)",
        large=module,
        small=None,
        start=0,
        vocabulary=shape.rows,
        sources={at: _random_sources(config, length, shape.rows) for at, length in _lengths(config)},
        words="random tokens",
        details={"is": "shape", "parameters": _parameters(module), **dataclasses.asdict(shape)},
        engine=lambda _, name: build_engine(name, module, **options),
    )


def _from_pair(config: BenchConfig, model: ModelConfig) -> Workload:
    made = model.checkpoints.get(model.task or "", Checkpoints(""))
    large, small = model.large or made.large, model.small or made.small
    if not large or not (small or model.exit):
        raise BildError(
            f"model={model.name} needs two checkpoints: give model.large=... and model.small=..., each a folder or a "
            "hub id."
        )
    spec = PairSpec.of(model, Checkpoints(large, small), EngineConfig(dtype=config.dtype, device=config.device))
    pair = load(dataclasses.replace(spec, name=model.name, triton=GRAPH_TRITON in config.engines))
    found = {at: _pair_sources(config, length, model, pair) for at, length in _lengths(config)}
    return Workload(
        name=config.name,
        title=f"{model.name} pair, large model",
        large=pair.large.module,
        # The first layers of an early exit share the large model's buffers: not a model to be timed beside it.
        small=None if model.exit else pair.small.module,
        start=pair.start,
        vocabulary=pair.vocabulary,
        sources={at: sources for at, (sources, _) in found.items()},
        words=found[None][1],
        details={
            "is": "pair",
            "name": model.name,
            "parameters": pair.large.parameters,
            "large": pair.large.describe(),
            "small": pair.small.describe(),
        },
        engine=dataclasses.replace(pair, eos=_NO_ID).engine,
    )


def _lengths(config: BenchConfig) -> list[tuple[int | None, int]]:
    return [(None, config.source_length), *((length, length) for length in config.long_sources)]


def _pair_sources(config: BenchConfig, length: int, model: ModelConfig, pair: Pair) -> tuple[list[list[int]], str]:
    """Return texts that come with the package, joined until they are long enough."""
    if pair.tokenizer is None:
        return _random_sources(config, length, pair.vocabulary), "random tokens"
    news = "summarisation" in model.fits
    texts = [example.source for example in load_task(_NEWS if news else _CAPTIONS).examples]
    random.Random(config.seed).shuffle(texts)
    sources: list[list[int]] = []
    at = 0
    while len(sources) < config.repeats:
        ids: list[int] = pair.encode("summarize: ")[0][:-1] if news else []
        while len(ids) < length - 1:
            ids += pair.encode(texts[at % len(texts)])[0][:-1]
            at += 1
        sources.append([*ids[: length - 1], pair.eos])
    return sources, "embedded news" if news else "embedded captions, joined"


def _random_sources(config: BenchConfig, length: int, rows: int) -> list[list[int]]:
    dice = random.Random(config.seed)
    return [[*(dice.randrange(3, rows) for _ in range(length - 1)), 1] for _ in range(config.repeats)]


def _parameters(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


SMALL = ", small model"
_NO_ID = -1
"""An end token that ends nothing."""
_MEANINGLESS = "random weights accept no draft: it needs a pair (model=...)"
_ROOM = {"hf": 0.0, "ctranslate2": 1.3, "ctranslate2-int8": 1.3}
"""Memory in sizes of the model while a backend is built, peaks included; other engines lay out their own weights."""
_ROOM_ENGINE = 2.3
_SPARE = 1.5 * 2**30
"""Bytes that are left to all others."""


@dataclass
class Backends:
    """The backends by name in the order of the table; and what is not there, with its status and reason."""

    built: dict[str, backends.Backend] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    precisions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    missing: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def kernels(self) -> dict[str, Any] | None:
        """Return the kinds of product of the large model's engines, None where they have none to choose."""
        engines = [backend.engine for backend in self.built.values() if isinstance(backend, backends.EngineBackend)]
        return next((asdict(e.weights.kernels) for e in engines if isinstance(e, FusedEngine | GraphEngine)), None)


def build_backends(config: BenchConfig, workload: Workload, device: torch.device) -> Backends:
    """Build what was asked for. A builder that fails becomes a missing row."""
    made = Backends()
    folder = tempfile.TemporaryDirectory(prefix="bild-ctranslate2-")
    converted = cache(partial(backends.convert, workload.large, workload.start, folder.name))

    def engine(role: str, name: str) -> backends.Backend:
        return backends.EngineBackend(workload.engine(role, name), workload.start, workload.vocabulary)

    def ctranslate(compute: str) -> backends.Backend:
        converted()
        return backends.CTranslateBackend(folder.name, compute, device, config.threads)

    def enter(name: str, kind: str, build: Callable[[], backends.Backend], precision: str = config.dtype) -> None:
        made.kinds[name], made.precisions[name] = kind, precision
        short = _lacking(_ROOM.get(name, _ROOM_ENGINE if kind == "engine" else 0.0) * workload.model_bytes, device)
        if short is not None:
            made.missing[name] = (SKIPPED, short)
            return
        try:
            made.built[name] = build()
        except Exception as error:  # whatever a library raises; the others go on
            made.missing[name] = (FAILED, told(error))

    with folder:  # what was loaded stays
        for name in config.engines:
            enter(name, "engine", partial(engine, "large", name))
        for name in config.peers:
            reason = _not_possible(name, workload)
            if reason is not None:
                made.kinds[name], made.precisions[name], made.missing[name] = "peer", config.dtype, reason
            elif name.startswith("ctranslate2"):
                compute = "int8" if name.endswith("int8") else backends.COMPUTE[config.dtype]
                enter(name, "peer", partial(ctranslate, compute), "int8" if compute == "int8" else config.dtype)
            else:
                enter(name, "peer", partial(_library, name, config, workload))
        if workload.small is not None:
            for name in config.engines:
                enter(f"{name}{SMALL}", "small", partial(engine, "small", name))
    for name, backend in made.built.items():
        if isinstance(backend, backends.CTranslateBackend):
            made.notes[name] = backend.name
    return made


def _library(name: str, config: BenchConfig, workload: Workload) -> backends.Backend:
    drafted = config.assistant_tokens
    return backends.LibraryBackend(
        workload.large,
        workload.start,
        static=name == "generate-static",
        compiled=name == "generate-compiled",
        assistant=backends.prepare_assistant(workload.small, drafted) if name == "assisted" else None,
        lookup=drafted if name == "prompt-lookup" else None,
    )


def _not_possible(name: str, workload: Workload) -> tuple[str, str] | None:
    if name.startswith("ctranslate2") and not backends.ctranslate_installed():
        return ABSENT, backends.CTRANSLATE_ABSENT
    random_weights = workload.details["is"] == "shape"
    if name == "generate-compiled" and workload.large.device.type != "cuda":
        return SKIPPED, "the library compiles on a GPU only"
    if name in ("assisted", "prompt-lookup") and random_weights:
        return SKIPPED, _MEANINGLESS
    if name == "assisted" and workload.small is None:
        return SKIPPED, "the library's early exit does not work with T5"
    return None


def _lacking(needed: float, device: torch.device) -> str | None:
    """Return a sentence where there is not enough memory, before the system ends the process for taking it."""
    free = free_bytes(device)
    if not needed or needed + _SPARE <= free:
        return None
    return f"needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free"
