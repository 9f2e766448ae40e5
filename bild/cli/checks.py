"""Options checked against the typed schema before Hydra sees them: its own messages speak of structs and operators."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from bild.cli.groups import groups, load, options
from bild.cli.overrides import values
from bild.decoding.methods import METHODS, MethodConfig, ThresholdConfig, heeds
from bild.errors import BildError, did_you_mean

_LOOKED_UP = re.compile(r"\$\{[^}]*[:$]")
"""A resolver of OmegaConf (`${oc.env:HOME}`), but no reference to another key (`${train.epochs}`)."""


def check_options(overrides: Sequence[Override], schema: type) -> None:
    """Refuse a group's option, or a key, that there is not, and what is looked up outside the configuration.

    BildError names what there is.
    """
    for override in overrides:
        key = override.key_or_group
        if key.partition(".")[0].partition("/")[0] == "hydra":
            continue
        if _LOOKED_UP.search(override.input_line or ""):
            raise BildError(
                f"{key} looks something up by ${{...:...}}, and records keep what options hold, secrets too: write the "
                f'value itself, or let the shell fill it in, as in {key}="$NAME".'
            )
        if key in groups(schema):
            known = options(key)
            for value in values(override):
                if value not in known:
                    raise BildError(f"{key}={value} is not known: choose one of {_listed(value, known)}.")
        else:
            _check_key(key, schema)


def _check_key(key: str, schema: type) -> None:
    kind: Any = schema
    path = ""
    for part in key.split("."):
        if not dataclasses.is_dataclass(kind):
            if typing.get_origin(kind) is dict:
                return
            raise BildError(f"{key} is not an option: {path[:-1]} is a single value.")
        known = option_types(kind)
        if part not in known:
            where = f"{path[:-1]} has" if path else "there are"
            raise BildError(f"{key} is not an option{did_you_mean(part, known, path)}: {where} {', '.join(known)}.")
        path, kind = f"{path}{part}.", known[part]


def option_types(schema: Any) -> dict[str, Any]:
    """Return the type of each option of a config dataclass, by name; None is left out of those that allow it."""
    hints = typing.get_type_hints(schema)
    return {option.name: _but_none(hints[option.name]) for option in dataclasses.fields(schema)}


def _but_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
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
            usual = ((name, heeds(MethodConfig(name), ThresholdConfig())) for name in ("bild", *METHODS))
            other = next((name for name, found in usual if sets & found), "bild")
            how = "".join(f" method.{name}={value}" for name in ("stop", "keep") if (value := getattr(method, name)))
            raise BildError(
                f"{key} has no effect with method={method.name}{how}: leave it out, or choose method={other}."
            )
