"""The field of a contest: every engine and peer that was asked for, built, or a row that says why it is not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import torch

from bild.bench import ctranslate
from bild.bench.bench_config import BenchConfig
from bild.bench.bench_result import ABSENT, FAILED, SKIPPED
from bild.bench.entrants import EngineEntrant, Entrant, LibraryEntrant, prepare_assistant
from bild.bench.subjects import Subject
from bild.engines import build_engine

SMALL = ", small model"
_MEANINGLESS = "random weights accept no draft: it needs a pair (model=...)"
_ROOM = {"hf": 0.0, "ctranslate2": 1.3, "ctranslate2-int8": 1.3}
"""Memory in sizes of the model while an entrant is built, peaks included; other engines lay out their own weights."""
_ROOM_ENGINE = 2.3
_SPARE = 1.5 * 2**30
"""Bytes that are left to all others."""


@dataclass
class Field:
    """Entrants by name, in the order of the table; and what is not there, with its status and reason."""

    entrants: dict[str, Entrant] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    precisions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    missing: dict[str, tuple[str, str]] = field(default_factory=dict)


def build_field(config: BenchConfig, subject: Subject, device: torch.device) -> Field:
    """Build what was asked for. A builder that fails becomes a missing row."""
    made = Field()
    conversions = ctranslate.Conversions(subject.large, subject.start)

    def enter(name: str, kind: str, build: Callable[[], Entrant], precision: str = config.dtype) -> None:
        made.kinds[name], made.precisions[name] = kind, precision
        short = _lacking(_ROOM.get(name, _ROOM_ENGINE if kind == "engine" else 0.0) * subject.model_bytes, device)
        if short is not None:
            made.missing[name] = (SKIPPED, short)
            return
        try:
            made.entrants[name] = build()
        except Exception as error:  # whatever a library raises; the others go on
            made.missing[name] = (FAILED, " ".join(str(error).split())[:200] or type(error).__name__)

    try:
        for name in config.engines:
            enter(name, "engine", _engine(name, subject.large, config, subject))
        for name in config.peers:
            reason = _not_possible(name, subject)
            if reason is not None:
                made.kinds[name], made.precisions[name], made.missing[name] = "peer", config.dtype, reason
            elif name.startswith("ctranslate2"):
                compute = "int8" if name.endswith("int8") else ctranslate.COMPUTE[config.dtype]
                build = _ctranslate(conversions, compute, device, config.threads)
                enter(name, "peer", build, "int8" if compute == "int8" else config.dtype)
            else:
                enter(name, "peer", _library(name, config, subject))
        if subject.small is not None:
            for name in config.engines:
                enter(f"{name}{SMALL}", "small", _engine(name, subject.small, config, subject))
    finally:
        conversions.close()
    for name, entrant in made.entrants.items():
        if isinstance(entrant, ctranslate.CTranslateEntrant):
            made.notes[name] = entrant.name
    return made


def _engine(name: str, module: torch.nn.Module, config: BenchConfig, subject: Subject) -> Callable[[], Entrant]:
    def build() -> Entrant:
        # No id is -1, so the end token ends nothing.
        engine = build_engine(name, module, dtype=config.dtype, eos=-1, vocabulary=subject.vocabulary)
        return EngineEntrant(engine, subject.start, subject.vocabulary)

    return build


def _ctranslate(
    conversions: ctranslate.Conversions, compute: str, device: torch.device, threads: int
) -> Callable[[], Entrant]:
    return lambda: conversions.entrant(compute, device, threads)


def _library(name: str, config: BenchConfig, subject: Subject) -> Callable[[], Entrant]:
    def build() -> Entrant:
        drafted = config.assistant_tokens
        return LibraryEntrant(
            subject.large,
            subject.start,
            static=name == "generate-static",
            assistant=prepare_assistant(subject.small, drafted) if name == "assisted" else None,
            lookup=drafted if name == "prompt-lookup" else None,
        )

    return build


def _not_possible(name: str, subject: Subject) -> tuple[str, str] | None:
    if name.startswith("ctranslate2") and not ctranslate.installed():
        return ABSENT, ctranslate.ABSENT
    random_weights = subject.details["is"] == "shape"
    if name in ("assisted", "prompt-lookup") and random_weights:
        return SKIPPED, _MEANINGLESS
    if name == "assisted" and subject.small is None:
        return SKIPPED, "the library's early exit does not work with T5"
    return None


def _lacking(needed: float, device: torch.device) -> str | None:
    """A sentence where there is not enough memory, before the system ends the process for taking it."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    if not needed or needed + _SPARE <= free:
        return None
    return f"needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free"
