"""The folder of a training: locked while it is written, left alone once it is finished."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bild.errors import BildError
from bild.progress import say
from bild.results.locking import taken
from bild.training.checkpoint import STATE
from bild.training.export import RECORD
from bild.training.targets import HEAD, LINES

_MADE = (RECORD, STATE, HEAD, LINES, "tokenizer.json")


@contextmanager
def training_folder(path: Path, resume: bool) -> Iterator[bool]:
    """Make the folder and keep a second process out of it; yields whether there is something left to do."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BildError(f"out={path} cannot be written ({error.strerror}): choose another folder.") from error
    try:
        _take(lock, path)
        if not resume:
            for name in _MADE:
                (path / name).unlink(missing_ok=True)
        finished = (path / RECORD).exists()
        if finished:
            say(f"{path} is finished (resume=false trains it again)")
        yield not finished
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    if not taken(lock):
        raise BildError(f"Another process is training in {path}: wait until it ends, or stop it.")
