"""Locks between processes: wait for another one's work, and never write, train or time two things at once where one is.

A lock ends with the process that holds it, however that ends. Lock files are opened without following links, and
nothing but a lock file is ever written to: results folders and folders for temporary files may be somebody else's.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import lock_descriptor

from bild.errors import BildError, refusing
from bild.progress import clock, say
from bild.results.files import MadeFolder, open_plain

_POLL_SECONDS = 0.25
_SAY_SECONDS = 60.0
"""After which it is said again that something is waited for; then after twice as long, and so on."""
_held: Counter[str] = Counter()
"""This process's own locks: taking one again within itself must not wait for itself."""
_mine: dict[int, tuple[Path, MadeFolder]] = {}
"""Lock files that this process took, some of them closed since, and their folders."""


def holder(lock: int) -> str | None:
    """Return the id of the process that signed a lock file, or None where it does not say."""
    told = _written(lock).strip()
    return told if told.isdigit() else None


def sign(lock: int) -> None:
    """Write this process's id into a lock file that it holds, for whoever waits; other contents are left alone."""
    written = _written(lock)
    if written.strip() and holder(lock) is None:
        return
    try:
        os.ftruncate(lock, 0)
        os.lseek(lock, 0, os.SEEK_SET)
        os.write(lock, f"{os.getpid()}\n".encode())
    except OSError:
        pass  # opened for reading only


def _written(lock: int) -> str:
    try:
        os.lseek(lock, 0, os.SEEK_SET)
        return os.read(lock, 20).decode("ascii", "replace")
    except OSError:  # where a lock keeps out readers, too
        return ""


def take(path: Path, what: str, mode: int = 0o644) -> int:
    """Return a lock file open and locked; while another process holds it, wait, and say for what and how long.

    Its folder is made; `let_go` closes it. `what` says what a holder does. OSError where it cannot be opened; BildError
    where this process holds it already.
    """
    folder = MadeFolder(path.parent)
    try:
        lock = open_plain(path, mode)
    except PermissionError:  # another user's: a reader may lock it too
        lock = open_plain(path, mode, os.O_RDONLY)
    except OSError:
        if not folder.path.exists():  # removed meanwhile, as one that came to nothing
            return take(path, what, mode)
        folder.tidy()
        raise
    _mine.pop(lock, None)  # the number of a file that was closed
    try:
        began, again = time.monotonic(), 0.0
        while not lock_descriptor(lock, blocking=False):
            who, waited = holder(lock), time.monotonic() - began
            if any(_same(mine, lock) for mine in _mine):
                raise BildError(f"This process {what} already: let that end first.")
            if waited >= again:
                so_long = f" for {clock(waited)}" if again else ""
                other, stop = (f"process {who}", f", kill {who} the other") if who else ("another process", "")
                say(f"waiting{so_long}: {other} {what}; this goes on when that ends (Ctrl-C stops the waiting{stop})")
                again = 2 * waited + _SAY_SECONDS
            time.sleep(_POLL_SECONDS)
        there = os.fstat(lock).st_nlink
        sign(lock)
    except BaseException:
        os.close(lock)
        raise
    if not there:  # its last holder came to nothing, and removed it
        os.close(lock)
        return take(path, what, mode)
    _mine[lock] = path, folder
    return lock


def let_go(lock: int, *worthless: str) -> None:
    """Close a lock file that `take` returned; where only files of these names came meanwhile, nothing of it stays."""
    path, folder = _mine.pop(lock)
    folder.tidy(path.name, *worthless)
    os.close(lock)


def _same(mine: int, lock: int) -> bool:
    try:
        return os.path.sameopenfile(mine, lock)
    except OSError:  # closed since
        return False


@contextmanager
def waiting_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while inside; where another process holds it, say so and wait for it.

    BildError where the file cannot be made.
    """
    key = str(path.absolute())
    with ExitStack() as stack:
        if not _held[key]:
            with refusing(lambda why: _refusal(path, why), OSError):
                stack.callback(let_go, take(path, what, 0o666))
        _held[key] += 1
        stack.callback(_held.subtract, [key])
        yield


@contextmanager
def device_lock(device: str) -> Iterator[None]:
    """Hold a device of this machine while something is timed on it: a GPU by its UUID, whatever its number here.

    All processes of a user take turns; those of several users do where BILD_LOCKS names a folder that they share.
    """
    named = os.environ.get("BILD_LOCKS")
    folder = Path(named) if named else _own_folder()
    name = re.sub(r"[^\w.-]+", "-", device)
    with waiting_lock(folder / f"bild-device-{name}.lock", f"times something on the device {device}"):
        yield


def _own_folder() -> Path:
    """Return this user's folder of device locks, which nobody else can write to. BildError where it is another's."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"bild-locks-{user}"
    with refusing(lambda why: _refusal(folder, why), OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and (found.st_uid != user or found.st_mode & 0o022)):
        raise BildError(_refusal(folder, "others can write to it"))
    return folder


def _refusal(path: Path, why: str) -> str:
    return (
        f"The lock file {path} cannot be made ({why}): make its folder writable, or set BILD_LOCKS to another folder "
        "for the locks of devices."
    )
