"""Writing the files of a report that are text."""

from __future__ import annotations

from pathlib import Path

from bild.errors import BildError


def write_text(path: Path, text: str) -> Path:
    """Write a file and the folders above it, and return its path. BildError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BildError(f"{path} cannot be written ({error.strerror}): choose another --out.") from None
    return path
