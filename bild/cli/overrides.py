"""Read a user's arguments as overrides, and tell mistakes in them in one sentence."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException, ValidationError

from bild.errors import BildError

_WORDS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
    list: "a list, as in [a,b]",
    dict: "a mapping, as in {a: b}",
}


def to_fields(arguments: Sequence[str], schema: type) -> list[str]:
    """Return arguments as typed, with what the schema's `ALIASES` name turned into its fields, which are lists.

    A word that is also a group would be taken by Hydra for a choice in it: `engine=hf,fused` becomes
    `engines=[hf,fused]`.
    """
    aliases: dict[str, str] = getattr(schema, "ALIASES", {})
    found = []
    for argument in arguments:
        typed, equals, value = argument.partition("=")
        if equals and typed in aliases:
            argument = f"{aliases[typed]}={value if value.startswith('[') else f'[{value}]'}"
        found.append(argument)
    return found


def as_typed(text: str, schema: type) -> str:
    """Put the words that users type into a sentence that names fields."""
    for typed, name in getattr(schema, "ALIASES", {}).items():
        text = re.sub(rf"\b{name}\b", typed, text)
    return text


def parse(overrides: Iterable[str]) -> list[Override]:
    """Read `group=option` and `key=value`. BildError for what is neither."""
    try:
        parsed: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise BildError(
            f"The option {error.override!r} cannot be read: write group=option or key=value, "
            "such as task=xsum or threshold.fb=0.6."
        ) from error
    return parsed


def values(override: Override) -> list[str]:
    """Return the values of an override, as they were typed."""
    if override.value_type in (ValueType.GLOB_CHOICE_SWEEP, ValueType.INTERVAL_SWEEP):
        raise BildError(f"{override.input_line} does not list its values: write them as in threshold.fb=0.3,0.6.")
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    value = override.value()
    return [value.text if isinstance(value, QuotedString) else str(value)]


def sentence(error: Exception) -> str:
    """Return one sentence from an error of Hydra or OmegaConf, which knows its cause, key, value and schema."""
    cause = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    if isinstance(cause, ValidationError) and key:
        inside = not dataclasses.is_dataclass(cause.object_type)  # a list or a dict, whose type says that of its values
        wanted = _expected(cause.ref_type if inside else typing.get_type_hints(cause.object_type)[cause.key], inside)
        return f"{key}={'null' if cause.value is None else cause.value} is not {wanted}: give {wanted}."
    head = next((line.strip().rstrip(".") for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return f"{key}: {head[0].lower()}{head[1:]}." if key else f"{head}."


def _expected(hint: Any, inside: bool = False) -> str:
    """Return the type of an option in words, or if `inside` the type of the values that a list or a dict holds."""
    if inside:
        hint = (typing.get_args(hint) or (str,))[-1]
    kinds = [typing.get_origin(kind) or kind for kind in typing.get_args(hint) or [hint] if kind is not type(None)]
    if typing.get_origin(hint) in _WORDS:
        kinds = [typing.get_origin(hint)]
    return " or ".join(_WORDS.get(kind, f"a {kind.__name__}") for kind in kinds)
