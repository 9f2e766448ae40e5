"""Files of JSON lines that are only appended to, an object each: a line that a kill tore is passed over, and the next
one begins a line of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from bild.files import open_plain, parse, read_file, write_error
from bild.progress import say
from bild.results.codec import decode, dumps, encode

T = TypeVar("T")


def append_lines(path: Path, items: Iterable[Any]) -> None:
    """Append dataclasses, on the disk when this returns. BildError where the disk does not take them."""
    data = "".join(dumps(encode(item)) + "\n" for item in items).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(open_plain(path, flags=os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                data = data if file.read(1) == b"\n" else b"\n" + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path.parent, error, "what is in it is kept") from None


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
