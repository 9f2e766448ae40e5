"""Locks between processes: wait for another one's work, and never time two things on one device at once."""

from __future__ import annotations

import fcntl
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bild.errors import BildError

_held: Counter[str] = Counter()
"""This process's own locks: taking one again within itself must not wait for itself."""


def taken(file: int) -> bool:
    """Lock an open file without waiting; whether it worked. The lock ends when the file is closed."""
    try:
        # flock and not lockf: it also keeps out a second opening of the file by this very process.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def waiting_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while inside; where another process holds it, say so and wait for it.

    The lock ends with the process, however that ends. BildError where the file cannot be made.
    """
    key = str(path.absolute())
    if _held[key]:
        _held[key] += 1
        try:
            yield
        finally:
            _held[key] -= 1
        return
    lock = _open(path)
    try:
        _take(lock, what)
        _held[key] += 1
        try:
            yield
        finally:
            _held[key] -= 1
    finally:
        os.close(lock)


@contextmanager
def device_lock(device: str) -> Iterator[None]:
    """Hold a device of this machine while something is timed on it; processes of all users take turns."""
    folder = Path(os.environ.get("BILD_LOCKS") or tempfile.gettempdir())
    name = re.sub(r"[^\w.-]+", "-", device)
    with waiting_lock(folder / f"bild-device-{name}.lock", f"times something on the device {device}"):
        yield


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # another user's: a reader may lock it too
            lock = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise BildError(
            f"The lock file {path} cannot be made ({error.strerror}): make its folder writable, or set BILD_LOCKS to "
            "another folder for the locks of devices."
        ) from None
    return lock


def _take(lock: int, what: str) -> None:
    if not taken(lock):
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        who = f"process {holder}" if holder.isdigit() else "another process"
        print(f"waiting: {who} {what}", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        pass  # opened for reading only
