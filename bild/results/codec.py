"""Dataclasses to strict JSON and back, in whole files or line by line, and their JSON Schema: one walk over the type
hints for all three.

Field metadata understood here: `infinite=True` (an infinite float is written as the string "inf") and
`shape={...}` (keys that an otherwise free mapping must have, with their types; a nested dict is a nested shape).
A field with a default may be absent in a file; a field that the dataclass does not know is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from bild.errors import BildError, shown
from bild.progress import say
from bild.results.files import open_plain, parse, read_file, write_atomically, writing

T = TypeVar("T")
INFINITE = {"infinite": True}
_HUGE = 1 << 63
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
_NAMES |= {dict: "an object", list: "a list"}
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


class FieldError(ValueError):
    """A field that cannot be written or read; the message names it."""


@cache
def hints(kind: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name."""
    return get_type_hints(kind)


def _inside(where: str, name: object) -> str:
    text = str(name)
    text = text if len(text) <= 80 else shown(text)  # a damaged file may have any
    return f"{where}.{text}" if where else text


def _options(union: Any) -> list[Any]:
    """Return the types of a union but for None."""
    return [option for option in get_args(union) if option is not type(None)]


def _is_dataclass(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def encode(value: Any, where: str = "", infinite: bool = False) -> Any:
    """Return a value as plain JSON types. FieldError on NaN, and on infinity where nothing allows it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(
                getattr(value, field.name), _inside(where, field.name), bool(field.metadata.get("infinite"))
            )
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): encode(item, _inside(where, key), infinite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if all(type(item) is int for item in value):  # token ids, by the thousand
            return list(value)
        return [encode(item, _inside(where, index), infinite) for index, item in enumerate(value)]
    if isinstance(value, float):
        if math.isnan(value):
            raise FieldError(f"the field {where} is NaN, but it must be a number")
        if math.isinf(value):
            if infinite and value > 0:
                return "inf"
            raise FieldError(f"the field {where} is infinite, but it must be a finite number")
        return float(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    raise FieldError(f"the field {where} is a {type(value).__name__}, which JSON cannot hold")


def dumps(plain: Any, indent: int | None = None) -> str:
    """Return strict JSON of plain types, which UTF-8 can always hold; on one line unless indented."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(plain, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False)
    if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return json.dumps(plain, indent=indent, separators=separators, allow_nan=False)  # lone surrogates must be escaped


def decode(kind: Any, value: Any, where: str = "", metadata: Mapping[str, Any] | None = None) -> Any:
    """Return the value of type `kind` that the plain JSON `value` stands for. FieldError where it does not fit."""
    metadata = metadata or {}
    if get_origin(kind) is UnionType:
        if value is None and type(None) in get_args(kind):
            return None
        kinds = _options(kind)
        # Of several plain types, the one that the value has; a value of none of them is told of the first.
        kind = next((option for option in kinds if type(value) is option), kinds[0])
    if _is_dataclass(kind):
        return _decode_fields(kind, value, where)
    if kind is Any:
        return value
    if get_origin(kind) is list:
        _expect(value, list, where)
        (item_kind,) = get_args(kind)
        if item_kind is int and all(type(item) is int for item in value):  # token ids, by the thousand
            for end in (min(value, default=0), max(value, default=0)):
                _expect(end, int, where)
            return value
        return [decode(item_kind, item, _inside(where, index)) for index, item in enumerate(value)]
    if get_origin(kind) is dict:
        _expect(value, dict, where)
        if "shape" in metadata:
            _check_shape(metadata["shape"], value, where)
        key_kind, item_kind = get_args(kind)
        return {_key(key_kind, key, where): decode(item_kind, item, _inside(where, key)) for key, item in value.items()}
    if kind is float:
        if metadata.get("infinite") and value == "inf":
            return math.inf
        _expect(value, float, where)
        return float(value)
    _expect(value, kind, where)
    return value


def _decode_fields(kind: type, value: Any, where: str) -> Any:
    _expect(value, dict, where)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise FieldError(f"the field {_inside(where, name)} is unknown")
    found = {}
    for name, field in fields.items():
        if name in value:
            found[name] = decode(hints(kind)[name], value[name], _inside(where, name), field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise FieldError(f"the field {_inside(where, name)} is missing")
    return kind(**found)


def _key(kind: type, key: str, where: str) -> str | int:
    if kind is str:
        return key
    # "+1", " 1" and "01" also pass int(): only the one way of writing a number is a key.
    if key.isascii() and key.isdigit() and str(int(key)) == key:
        return int(key)
    raise FieldError(f"the field {where} has the key {key!r}, but its keys must be integers")


def _expect(value: Any, kind: type, where: str) -> None:
    if kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, kind)
    place = f"the field {where}" if where else "the whole"
    if kind in (int, float) and type(value) is int and not -_HUGE <= value < _HUGE:
        raise FieldError(f"{place} has more digits than a machine's numbers")
    if kind is float and type(value) is float and not math.isfinite(value):
        raise FieldError(f"{place} is {value}, but it must be a finite number")
    if not fits:
        raise FieldError(f"{place} must be {_NAMES[kind]}, but it is {_short(value)}")


def _short(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _check_shape(shape: Mapping[str, Any], value: Mapping[str, Any], where: str) -> None:
    for name, kind in shape.items():
        if name not in value:
            raise FieldError(f"the field {_inside(where, name)} is missing")
        if isinstance(kind, Mapping):
            _expect(value[name], dict, _inside(where, name))
            _check_shape(kind, value[name], _inside(where, name))
        else:
            decode(kind, value[name], _inside(where, name))


def read_json(
    kind: type[T],
    path: Path,
    what: str,
    mend: str,
    version: int | None = None,
    upgrade: Callable[[Any], Any] | None = None,
) -> T:
    """Read the dataclass in a JSON file, whose `schema` must be `version`; `upgrade` takes older ones' plain JSON.

    BildError where it cannot be read or is something else: "<path> <what> (<why>): <mend>."
    """
    try:
        plain = parse(read_file(path))
        plain = upgrade(plain) if upgrade is not None else plain
        schema = plain.get("schema", "missing") if isinstance(plain, dict) else version
        if version is not None and schema != version:
            raise FieldError(f"the field schema must be {version}, but it is {_short(schema)}")
        return cast(T, decode(kind, plain))
    except ValueError as error:
        raise BildError(f"{path} {what} ({error}): {mend}.") from None


def write_json(path: Path, value: Any, indent: int = 2) -> None:
    """Write a dataclass, or what it holds, as strict JSON, whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, dumps(encode(value), indent=indent) + "\n")


def append_lines(path: Path, items: Iterable[Any]) -> None:
    """Append dataclasses, on the disk when this returns. BildError where the disk does not take them.

    A line that a kill tore is passed over, and the next one begins a line of its own.
    """
    data = "".join(dumps(encode(item)) + "\n" for item in items).encode()
    with writing(path.parent, "what is in it is kept"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(open_plain(path, flags=os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                data = data if file.read(1) == b"\n" else b"\n" + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def read_lines(kind: type[T], path: Path) -> list[T]:
    """Read what was appended, as dataclasses of this kind; none where there is no file. Damaged lines are told."""
    found, damaged = [], 0
    for line in read_file(path).splitlines(keepends=True) if path.is_file() else ():
        try:
            found.append(decode(kind, parse(line)))
        except ValueError:  # no JSON, or FieldError: other fields
            damaged += line.endswith(b"\n") and line.startswith(b"{")
    if damaged:
        say(f"{path}: {damaged} of {len(found) + damaged} lines are damaged and passed over")
    return found


def json_schema(kind: type) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a dataclass; the dataclasses within are its `$defs`."""
    definitions: dict[str, Any] = {}
    whole = _object_schema(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **whole,
        "$defs": dict(sorted(definitions.items())),
    }


def _object_schema(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    fields = dataclasses.fields(kind)
    return {
        "title": kind.__name__,
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": {field.name: _schema(hints(kind)[field.name], field.metadata, definitions) for field in fields},
        "required": [
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ],
        "additionalProperties": False,
    }


def _schema(kind: Any, metadata: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if get_origin(kind) is UnionType:
        null = [{"type": "null"}] if type(None) in get_args(kind) else []
        return {"anyOf": [*(_schema(option, metadata, definitions) for option in _options(kind)), *null]}
    if _is_dataclass(kind):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = _object_schema(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if kind is Any:
        return {}
    if get_origin(kind) is list:
        return {"type": "array", "items": _schema(get_args(kind)[0], {}, definitions)}
    if get_origin(kind) is dict:
        key_kind, item_kind = get_args(kind)
        keys = {"propertyNames": {"pattern": "^(0|[1-9][0-9]*)$"}} if key_kind is int else {}
        shape = _shape_schema(metadata["shape"]) if "shape" in metadata else {}
        return {"type": "object", **shape, **keys, "additionalProperties": _schema(item_kind, {}, definitions)}
    if metadata.get("infinite"):
        return {"anyOf": [{"type": "number"}, {"const": "inf"}]}
    return {"type": _JSON_TYPES[kind]}


def _shape_schema(shape: Mapping[str, Any]) -> dict[str, Any]:
    properties = {
        name: {"type": "object", **_shape_schema(kind)} if isinstance(kind, Mapping) else _schema(kind, {}, {})
        for name, kind in shape.items()
    }
    return {"properties": properties, "required": list(shape)}
