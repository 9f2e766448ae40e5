"""Options checked against the typed schema before Hydra sees them: its own messages speak of structs and operators."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from bild.cli.groups import groups, load, options
from bild.cli.overrides import values
from bild.decoding.methods import METHODS, MethodConfig, ThresholdConfig, heeds
from bild.errors import BildError


def check_options(overrides: Sequence[Override], schema: type) -> None:
    """Refuse a group's option, or a key, that there is not. BildError names what there is."""
    for override in overrides:
        key = override.key_or_group
        if key.partition(".")[0].partition("/")[0] == "hydra":
            continue
        if key in groups(schema):
            known = options(key)
            for value in values(override):
                if value not in known:
                    raise BildError(f"{key}={value} is not known: choose one of {_listed(value, known)}.")
        else:
            _check_key(key, schema)


def _check_key(key: str, schema: type) -> None:
    kind: Any = schema
    path: list[str] = []
    for part in key.split("."):
        if not dataclasses.is_dataclass(kind):
            if typing.get_origin(kind) is dict:
                return
            raise BildError(f"{key} is not an option: {'.'.join(path)} is a single value.")
        told = typing.get_type_hints(kind)
        hints = {field.name: told[field.name] for field in dataclasses.fields(kind)}
        if part not in hints:
            where = f"{'.'.join(path)} has" if path else "there are"
            close = difflib.get_close_matches(part, hints, n=1)
            hint = f" (did you mean {'.'.join([*path, close[0]])}?)" if close else ""
            raise BildError(f"{key} is not an option{hint}: {where} {', '.join(hints)}.")
        path.append(part)
        kind = _plain_type(hints[part])


def _plain_type(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def _listed(value: str, known: list[str]) -> str:
    if len(known) <= 12:
        return ", ".join(known)
    close = difflib.get_close_matches(value, known, n=4, cutoff=0.5) or known[:4]
    return f"{', '.join(close)} ... ({len(known)} in all, see --help)"


def check_heeded(overrides: Sequence[Override], config: Any) -> None:
    """Refuse a named option that the chosen method does not heed: a threshold without effect misleads.

    A schema of several points names as `OWN` the options that each of them has for itself, and what to set instead.
    """
    method, threshold = config.method, config.threshold
    heeded = heeds(method, threshold)
    own: dict[str, str] = getattr(config, "OWN", {})
    for override in overrides:
        key = override.key_or_group
        group, _, option = key.partition(".")
        if (instead := own.get(key, own.get(f"{group}.*"))) is not None:
            raise BildError(f"{key} has no effect here: each of the points has its own, so set {instead} instead.")
        if key == "threshold":
            loaded = (load("threshold", value) for value in values(override))
            sets = {str(name) for one in loaded for name, given in one.items() if given is not None}
        elif group in ("method", "threshold") and option not in ("", "name"):
            sets = {option}
        else:
            continue
        if sets and not sets & heeded:
            usual = {name: heeds(MethodConfig(name), ThresholdConfig()) for name in METHODS}
            other = next((name for name in ("bild", *usual) if sets & usual[name]), "bild")
            how = "".join(f" method.{name}={value}" for name in ("stop", "keep") if (value := getattr(method, name)))
            raise BildError(
                f"{key} has no effect with method={method.name}{how}: leave it out, or choose method={other}."
            )
