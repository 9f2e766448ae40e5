"""What a user typed: read into overrides, and mistakes in it told in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from bild.errors import BildError

_WRONG_TYPE = re.compile(
    r"Value '(?P<value>.*?)'.*could not be converted to (?P<wanted>\w+).*full_key: (?P<key>\S+)", re.S
)
_NEITHER = re.compile(
    r"Value '(?P<value>.*?)'.*incompatible with type hint.*Union\[int, str\].*full_key: (?P<key>\S+)", re.S
)


def to_fields(arguments: Sequence[str], schema: type) -> list[str]:
    """Arguments as typed, with what the schema's `ALIASES` name turned into its fields, which are lists.

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
    """A sentence that names fields, with the words that users type for them."""
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
    """The values of an override, as they were typed."""
    if override.value_type in (ValueType.GLOB_CHOICE_SWEEP, ValueType.INTERVAL_SWEEP):
        raise BildError(f"{override.input_line} does not list its values: write them as in threshold.fb=0.3,0.6.")
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    value = override.value()
    return [value.text if isinstance(value, QuotedString) else str(value)]


def sentence(error: Exception) -> str:
    """One sentence from a message of Hydra or OmegaConf: its cause comes first, the key on a line of its own."""
    cause = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    found = _WRONG_TYPE.search(str(cause))
    if found and found["key"]:
        what = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}.get(found["wanted"])
        return f"{found['key']}={found['value']} is not {what or 'a ' + found['wanted']}: give {what or 'that'}."
    found = _NEITHER.search(str(cause))
    if found:
        return f"{found['key']}={found['value']} is not a whole number: give a whole number, or the word auto."
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), None)
    head = lines[0] if lines else type(error).__name__
    return f"{key}: {head[0].lower()}{head[1:].rstrip('.')}." if key else f"{head.rstrip('.')}."
