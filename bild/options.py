"""An option of a configuration: its type, and the numbers or words that it takes, said where its field is declared.

Config dataclasses check themselves by it when they are made, and the command lines before anything is composed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
import re
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bild.errors import BildError, did_you_mean, one_of, plain, shown

SEED = 2**32 - 1
"""The largest seed that all generators of random numbers take."""
MANY = 10**9
"""A number of examples or steps that nobody reaches."""
LONG = 2**16
"""Tokens of a text that no T5 was made for."""
_WORDS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
    list: "a list, as in [a,b]",
    dict: "a mapping, as in {a: b}",
}
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,2})?")
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Bounds(NamedTuple):
    """The numbers that an option takes, both ends included but those left out; `what` says what it is."""

    least: float
    most: float
    what: str
    above: bool
    """`least` is left out."""
    below: bool
    """`most` is left out."""

    def hold(self, value: float) -> bool:
        """Return whether a number lies within; NaN lies nowhere."""
        low = value > self.least if self.above else value >= self.least
        return low and (value < self.most if self.below else value <= self.most)

    def __str__(self) -> str:
        if self.most == math.inf:
            words = f"above {_short(self.least)}" if self.above else f"{_short(self.least)} or more"
            return f"{self.what} {words}{', and finite' if self.below else ''}"
        begin = f"above {_short(self.least)}, at most" if self.above else f"from {_short(self.least)} to"
        return f"{self.what} {begin}{' below' if self.below else ''} {_short(self.most)}"


def number(
    default: Any, least: float, most: float, *, what: str = "it must be", above: bool = False, below: bool = False
) -> Any:
    """Return a field, of a number or a list of them, that takes those from `least` to `most`.

    `above` leaves out `least`, `below` leaves out `most`; a list is given as the function that makes it.
    """
    return _field(default, {"bounds": Bounds(least, most, what, above, below)})


def word(default: Any, choices: Collection[str]) -> Any:
    """Return a field, of a word or a list of them, that takes these words."""
    return _field(default, {"choices": choices})


def device() -> Any:
    """Return a field of a device by its name in torch."""
    return _field("auto", {"pattern": _DEVICE})


def folder(default: str | None) -> Any:
    """Return a field of a folder that is written to, `~` being the user's home."""
    return _field(default, {"folder": True})


def text(default: str) -> Any:
    """Return a field of a text that may be empty."""
    return _field(default, {"empty": True})


def _field(default: Any, metadata: Mapping[str, Any]) -> Any:
    made = dataclasses.field(default_factory=default) if callable(default) else dataclasses.field(default=default)
    made.metadata = types.MappingProxyType(dict(metadata))
    return made


def _short(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:g}"


def folder_of(name: Any) -> Path:
    """Read the name of a folder. BildError for one that is none, or empty, which stands for the working folder."""
    if not isinstance(name, str | os.PathLike) or isinstance(os.fspath(name), bytes):
        raise BildError(f"{shown(name)} is not the name of a folder: give its path.")
    if not os.fspath(name).strip():
        raise BildError("The name of a folder is empty: give one, or . for this folder.")
    return Path(os.path.expanduser(name))  # noqa: PTH111 - a home that is not known stays as it is


def key_values(words: Sequence[str]) -> dict[str, str]:
    """Read options that are written key=value. BildError for a key that has two values."""
    found: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if (other := found.setdefault(key, value)) != value:
            raise BildError(f"{key} is given twice, as {shown(other)} and {shown(value)}: leave one of them out.")
    return found


class Option(NamedTuple):
    """The type of an option, and what its field says that it takes."""

    hint: Any
    metadata: Mapping[str, Any]

    @property
    def kinds(self) -> list[Any]:
        """Return its types but None: [int, str] of `int | str | None`, [list[int]] of `list[int]`."""
        union = isinstance(self.hint, types.UnionType) or typing.get_origin(self.hint) is typing.Union
        return [kind for kind in (typing.get_args(self.hint) if union else [self.hint]) if kind is not type(None)]

    @property
    def free(self) -> bool:
        """Return whether it takes any word, as a path or a prompt is one."""
        return self.kinds == [str] and "choices" not in self.metadata

    @property
    def schema(self) -> type | None:
        """Return the config dataclass that it holds, if it does."""
        return typing.cast(type, self.kinds[0]) if dataclasses.is_dataclass(self.kinds[0]) else None

    @property
    def inner(self) -> Option:
        """Return what each value of its list or mapping is."""
        return Option((typing.get_args(self.kinds[0]) or (Any,))[-1], self.metadata)

    def holds(self, kind: type) -> bool:
        """Return whether it is a `list` or a `dict` of something."""
        return kind in (self.kinds[0], typing.get_origin(self.kinds[0]))

    def __str__(self) -> str:
        if self.schema is not None:
            names = [f"{name}: ..." for name in options_of(self.schema)]
            return f"a mapping, as in {{{', '.join([*names[:2], *(['...'] if names[2:] else [])])}}}"
        return " or ".join(_WORDS.get(typing.get_origin(kind) or kind, "a value") for kind in self.kinds)

    def part(self, key: str, name: str, whole: str | None = None) -> Option:
        """Return an option of the config dataclass that it holds. BildError where there is none of this name.

        `key` is its own, and `whole` what was typed.
        """
        known = options_of(self.schema)
        if name not in known:
            where = f"{key} has" if key else "there are"
            hint = did_you_mean(name, known, f"{key}." if key else "")
            raise BildError(f"{whole or f'{key}.{name}'} is not an option{hint}: {where} {', '.join(known)}.")
        return known[name]

    def checked(self, key: str, value: Any, typed: str | None = None) -> Any:
        """Return a value as this type. BildError for one of another type, out of range, or not a word that is known.

        `typed` is the value as the user wrote it.
        """
        if self.hint is Any or (value is None and type(None) in typing.get_args(self.hint)):
            return value
        if self.holds(list) and isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return [self.inner.checked(key, each) for each in value]
        if self.holds(dict) and isinstance(value, Mapping):
            return {name: self.inner.checked(f"{key}.{name}", each) for name, each in value.items()}
        if self.schema is not None and isinstance(value, Mapping) and value:
            return {name: self.part(key, name).checked(f"{key}.{name}", each) for name, each in value.items()}
        told = f"{key}={shown(value if typed is None else typed)}"
        made = next((made for kind in self.kinds if (made := _as(kind, value)) is not None), None)
        if made is None:
            raise BildError(f"{told} is not {self}: give {self}.")
        if isinstance(made, str):
            one_of(key, made, self.metadata.get("choices"))
            if "folder" in self.metadata:
                made = str(folder_of(made))
                if os.path.exists(made) and not os.path.isdir(made):  # noqa: PTH110, PTH112 - what may not be looked into is told later
                    raise BildError(f"{told} is there, and no folder: name a folder, or a new one.")
            if self.kinds == [str] and "empty" not in self.metadata and (plain(made) != made or "\n" in made):
                raise BildError(f"{told} has a line break, or a sign that cannot be shown: leave that out.")
            if (pattern := self.metadata.get("pattern")) is not None and not pattern.fullmatch(made):
                raise BildError(f"{told} is not known: give auto, cpu, cuda, or one GPU of several, such as cuda:1.")
        elif (bounds := self.metadata.get("bounds")) is not None and not bounds.hold(made):
            raise BildError(f"{told} is out of range: {bounds}.")
        return made


def _as(kind: Any, value: Any) -> Any:
    """Return a value as a type, or None where it is of another. A word that reads as a number is one."""
    if dataclasses.is_dataclass(kind):
        return value if isinstance(value, typing.cast(type, kind)) else None
    if kind is str:
        return os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if kind is bool:
        word = _FLAGS.get(value.lower()) if isinstance(value, str) else None
        return bool(value) if isinstance(value, int) and value in (0, 1) else word
    if kind not in (int, float):
        return None
    try:
        if isinstance(value, str):
            return kind(re.sub(r"^([+-]?)\.(inf|nan)$", r"\1\2", value, flags=re.IGNORECASE))
        right = isinstance(value, numbers.Integral if kind is int else numbers.Real) and not isinstance(value, bool)
        return kind(value) if right else None
    except (ValueError, OverflowError):
        return None


@functools.cache
def options_of(schema: Any) -> dict[str, Option]:
    """Return the options of a config dataclass, by name."""
    hints = typing.get_type_hints(schema)
    return {each.name: Option(hints[each.name], each.metadata) for each in dataclasses.fields(schema)}


def check_fields(group: str, config: Any) -> None:
    """Make the values of a config dataclass those of its types; BildError for one that is none or is out of range."""
    schema: Any = type(config)
    for name, option in options_of(schema).items():
        value = option.checked(f"{group}.{name}" if group else name, getattr(config, name))
        object.__setattr__(config, name, value)  # frozen ones as well
