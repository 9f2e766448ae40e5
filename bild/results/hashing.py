"""The hash that names a point for machines, and the label that names it for people."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

from bild.errors import BildError

USUAL_DRAFT = 10
USUAL_DECAY = 4.0
SHORT = 10
_WINDOWED = ("speculative", "dynamic", "cumulative", "heuristic", "cascade", "oracle")


class MethodLike(Protocol):
    """What a label needs to know of a method, configured or recorded."""

    @property
    def name(self) -> str:
        """The method's name."""

    @property
    def rules(self) -> str | None:
        """The rules that its switches follow."""

    @property
    def max_draft(self) -> int | str | None:
        """The most tokens of one draft, or "auto"."""

    @property
    def first(self) -> str | None:
        """Who writes the first token."""

    @property
    def confidence(self) -> str | None:
        """CALM's measure of confidence."""

    @property
    def decay(self) -> float | None:
        """Of CALM's threshold."""

    @property
    def rule(self) -> str | None:
        """A cascade's token rule."""


class ThresholdLike(Protocol):
    """What a label needs to know of the thresholds."""

    @property
    def fb(self) -> float | None:
        """Fallback threshold."""

    @property
    def rb(self) -> float | None:
        """Rollback threshold."""

    @property
    def exit(self) -> float | None:
        """CALM's threshold."""

    @property
    def alpha(self) -> float | None:
        """A cascade's threshold."""


def config_hash(payload: Mapping[str, Any]) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `payload`; folder names carry the first 10.

    The order of keys does not matter, 2 and 2.0 are equal, an infinity is the string "inf". BildError on NaN.
    """
    text = json.dumps(
        _canonical(payload, ""), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _canonical(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where or 'the payload'} has the key {key!r}: keys must be strings")
        return {key: _canonical(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float):
        if math.isnan(value):
            raise BildError(f"{where} is NaN: give it a number.")
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return int(value) if value.is_integer() else float(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}, which has no canonical JSON")


def number(value: float) -> str:
    """A threshold as people write it: 0.6, 2, inf."""
    if math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    return str(float(value))


def label(method: MethodLike, threshold: ThresholdLike) -> str:
    """A short name for people, such as `bild-fb0.6-rb2`. It does not tell all settings apart: the hash does."""
    parts = [method.name]
    if method.name == "bild":
        if method.rules not in (None, "paper"):
            parts.append(str(method.rules))
        parts += ["smallfirst"] if method.first == "small" else []
        parts += [
            f"{name}{number(value)}"
            for name, value in (("fb", threshold.fb), ("rb", threshold.rb))
            if value is not None
        ]
    if method.name == "calm":
        parts += [str(method.confidence)] if method.confidence != "state" else []
        parts += [f"exit{number(threshold.exit)}"] if threshold.exit is not None else []
        if method.decay != USUAL_DECAY:
            parts.append("constant" if method.decay is None else f"decay{number(method.decay)}")
    if method.name in ("dynamic", "cumulative", "oracle"):
        name = "rb" if method.name == "oracle" else "fb"
        parts += [f"{name}{number(value)}" for value in (getattr(threshold, name),) if value is not None]
    if method.name == "cascade":
        parts += [str(method.rule)] + ([f"alpha{number(threshold.alpha)}"] if threshold.alpha is not None else [])
    drafts = method.name in _WINDOWED or (method.name == "bild" and method.max_draft != USUAL_DRAFT)
    if drafts and method.max_draft is not None:
        parts.append(f"k{method.max_draft}")
    return "-".join(parts)
