"""Options checked against the typed schema before Hydra sees them: its own messages speak of structs and operators."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, QuotedString

from bild.cli.overrides import GROUPS, all_options, groups, load, option_at, options, values
from bild.decoding.methods import METHODS, MethodConfig, ThresholdConfig, heeds
from bild.errors import BildError, shown
from bild.options import Option, options_of

_LOOKED_UP = re.compile(r"\$\{[^}]*[:$]")
"""A resolver of OmegaConf (`${oc.env:HOME}`), but no reference to another key (`${train.epochs}`)."""


def check_options(overrides: Sequence[Override], schema: type) -> None:
    """Refuse an option of a group, a key or a value that there is not, and what is looked up outside the configuration.

    BildError names what there is.
    """
    for override in overrides:
        key = override.get_key_element().lstrip("+")
        if key.partition(".")[0].partition("/")[0] == "hydra":
            if key != "hydra/launcher" and not key.startswith("hydra.launcher."):
                raise BildError(
                    f"{key} is not an option: of Hydra's there are hydra/launcher and hydra.launcher alone."
                )
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
                    raise BildError(f"{key}={shown(value)} is not known: choose one of {_listed(value, known)}.")
        else:
            _check_key(key, schema, {each.key_or_group for each in overrides})
            option, _ = option_at(key, schema)
            assert option is not None
            for value, typed in _given(override):
                if value == "" and option.free and "empty" not in option.metadata:
                    raise BildError(f"{key} is empty: give {option}, or leave it out.")
                option.checked(key, value, typed)
                if key in ("results", "out") and (path := Path(str(value))).exists() and not path.is_dir():
                    raise BildError(f"{key}={shown(value)} is there, and no folder: name a folder, or a new one.")


def _given(override: Override) -> Iterator[tuple[Any, str]]:
    """Yield the values of an override, each with how it was typed."""
    if override.is_sweep_override():
        for value, typed in zip(override.sweep_iterator(), values(override), strict=True):
            yield value.text if isinstance(value, QuotedString) else value, typed
    else:
        value = override.value()
        yield value, value if isinstance(value, str) else (override.input_line or "").partition("=")[2]


def _check_key(key: str, schema: type, chosen: set[str]) -> None:
    kind, path = Option(schema, {}), ""
    for part in key.split("."):
        if kind.holds(dict):
            kind = kind.inner
        elif kind.schema is None:
            raise BildError(f"{key} is not an option: {path} is a single value.")
        elif not path and part not in (*options_of(schema), *GROUPS) and (same := _ending(key, schema)):
            raise BildError(f"{key} is not an option (did you mean {same}?): {same.rpartition('.')[0]} has it.")
        else:
            kind = kind.part(path, part, key)
            if kind.schema is not None and type(None) in typing.get_args(kind.hint) and not path and part not in chosen:
                raise BildError(f"{key} has no effect here: name {part}=... first, such as {part}={options(part)[0]}.")
        path = f"{path}.{part}".lstrip(".")


def _ending(key: str, schema: type) -> str:
    return next((each for each in all_options(schema) if each.endswith(f".{key}")), "")


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
