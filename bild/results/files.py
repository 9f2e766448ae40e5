"""The files of a run: opened through no link, written whole or not at all, read with a limit to what they unpack to."""

from __future__ import annotations

import contextlib
import errno
import glob
import gzip
import io
import json
import os
import re
import secrets
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from filelock import lock_descriptor

from bild.errors import FULL, BildError

MOST = 1 << 32
"""Bytes that a file of ours may hold, unpacked if it is compressed: more than any has, less than fills a machine."""
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_PART = 1 << 20
_POINTER = b"version https://git-lfs"


def write_error(path: Path, error: OSError, kept: str) -> BildError:
    """Return the sentence for a file that could not be written; `kept` says what is safe."""
    if error.errno in FULL:
        return BildError(f"{path} could not grow because the disk is full; {kept}: free some space and run again.")
    return BildError(f"{path} could not be written ({error.strerror}); {kept}: fix that and run again.")


@contextlib.contextmanager
def writing(path: Path, kept: str) -> Iterator[None]:
    """Turn an OSError inside into the BildError of a file that could not be written; `kept` says what is safe."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error, kept) from None


class MadeFolder:
    """A folder that is made, with those above it that are missing, and removed again where nothing comes of it."""

    def __init__(self, path: Path) -> None:
        """Make it. OSError where that fails."""
        self.path = path
        self.missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
        self.before = {*path.iterdir()}

    def tidy(self, *worthless: str) -> None:
        """Remove what came since, and the folders that were made, if no more than files of these names came."""
        with contextlib.suppress(OSError):
            if (came := {*self.path.iterdir()} - self.before) <= {self.path / name for name in worthless}:
                for each in came:
                    each.unlink()
                for folder in self.missing:
                    folder.rmdir()


def open_plain(path: Path, mode: int = 0o644, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open or make a file. OSError where that fails, and where it is a link or no plain file: others may plant them."""
    return _plain(os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | _NO_WAIT, mode))


def open_readable(path: Path) -> int:
    """Open a file to read it, through links too. OSError where it is no plain file: a pipe waits, a device never ends.

    `os.fdopen` takes it.
    """
    return _plain(os.open(path, os.O_RDONLY | _NO_WAIT | getattr(os, "O_BINARY", 0)))


def _plain(file: int) -> int:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no plain file")
    return file


def write_atomically(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all, whatever happens; BildError where it cannot be.

    The content is text, bytes, or a function that writes into the open file.
    """
    draft: Path | None = None
    try:
        draft, opened = _draft(path)
        with os.fdopen(opened, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
            if os.name == "nt":  # there no open file is renamed
                file.close()
            draft.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        for cause in (error, error.__context__):  # torch hides the disk's error behind one of its own
            if isinstance(cause, OSError):
                raise write_error(path, cause, "what was written before is kept") from None
        raise


def _draft(path: Path) -> tuple[Path, int]:
    """Make the file that is to become `path`, locked while it is written; those that kills left behind are removed.

    Its name cannot be guessed, so nothing lies there to be written through, and two processes have one each.
    """
    clear_drafts(path.parent, path.name)
    if os.path.lexists(path) and not (path.is_file() or path.is_symlink()):  # root could rename over it
        raise OSError(errno.EINVAL, "it exists and is not a plain file")
    while True:
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        file = open_plain(draft, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL)
        if lock_descriptor(file, blocking=False) and os.fstat(file).st_nlink:
            return draft, file
        os.close(file)  # another process took it for one that a kill left behind


def clear_drafts(folder: Path, name: str = "*") -> None:
    """Remove what kills left half written of the file of this name, or of all; what is being written stays."""
    for left in folder.glob(f".{glob.escape(name) if name != '*' else name}.*tmp"):
        with contextlib.suppress(OSError):
            file = open_plain(left, flags=os.O_RDWR)
            if lock_descriptor(file, blocking=False):
                left.unlink()
            os.close(file)


def _sync_folder(path: Path) -> None:
    if os.name != "nt":  # Windows opens no folders
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class GrowingFile:
    """A file that only grows, held open: what is appended is there whole, or not at all."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. OSError as `open_plain`."""
        self.path = path
        self.file = open_plain(path)
        self.end = os.fstat(self.file).st_size
        """Bytes that count."""

    def cut(self, end: int) -> None:
        """Drop what follows the first `end` bytes."""
        self.end = end
        os.ftruncate(self.file, end)

    def append(self, data: bytes, fsync: bool = False) -> None:
        """Add some bytes, on a full disk or after an interrupt none of them; OSError where they cannot be written."""
        at = self.end
        try:
            while data:
                written = os.pwrite(self.file, data, at)
                data, at = data[written:], at + written
            if fsync:
                self.sync()
        except BaseException:
            with contextlib.suppress(OSError):
                self.cut(self.end)
            raise
        self.end = at

    def sync(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self.file)

    def close(self) -> None:
        """Let go of the file; closing twice does no harm."""
        if self.file >= 0:
            os.close(self.file)
        self.file = -1


def read_file(path: Path) -> bytes:
    """Read a file whole. BildError where it cannot be read, is no plain file, or holds more than `MOST` bytes."""
    try:
        with os.fdopen(open_readable(path), "rb") as file:
            if os.fstat(file.fileno()).st_size > MOST:
                raise OSError(errno.EFBIG, f"it holds more than {MOST:,} bytes")
            return file.read()
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or "it does not fit into memory"
        raise BildError(f"{path} could not be read ({why}): make it readable and run again.") from None


def refuse_pointer(path: Path) -> None:
    """Raise BildError where a file is what git leaves in the place of a large one that it did not fetch."""
    with contextlib.suppress(OSError), os.fdopen(open_readable(path), "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise BildError(f"{path} is a pointer of Git LFS and not the file itself: fetch it with `git lfs pull`.")


def parse(text: str | bytes, **options: Any) -> Any:
    """Read JSON. ValueError for all that is none, bytes that are not UTF-8 and what nests too deep included.

    A key that stands twice in an object is refused with its lines: readers disagree on which of the two counts.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(_twice(Counter(key for key, _ in pairs).most_common(1)[0][0], text))
        return found

    try:
        return json.loads(text, object_pairs_hook=distinct, **options)
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"it holds more than can be read: {type(error).__name__}") from None


def _twice(key: str, text: str | bytes) -> str:
    text = text if isinstance(text, str) else text.decode(errors="replace")
    sought = re.compile(rf'"{re.escape(key)}"\s*:')
    lines = [number for number, line in enumerate(text.split("\n"), start=1) if sought.search(line)]
    where = f", on lines {', '.join(map(str, lines))}" if 1 < len(lines) < 5 else ""  # more are of other objects, too
    return f"the key {key!r} stands twice in one object{where}"


def unpack(data: bytes, most: int = MOST) -> bytes:
    """Decompress gzip members. ValueError where they are damaged, or hold more than `most` bytes."""
    found = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while len(found) <= most and (part := file.read(_PART)):
                found += part
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    if len(found) > most:
        raise ValueError(f"it holds more than {most} bytes")
    return bytes(found)


def unpack_lines(data: bytes) -> Sequence[Any]:
    """Read gzip members of JSON lines. ValueError where they are damaged, naming the line that is no JSON."""
    found = []
    for number, line in enumerate(unpack(data).splitlines(), start=1):
        try:
            found.append(parse(line))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return found
