"""The hash that names a point for machines."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from bild.errors import BildError

SHORT = 10


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
