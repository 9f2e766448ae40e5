"""The two growing files of a point: `samples.jsonl` and `trace.jsonl.gz`, which agree after a kill at any moment.

The trace of an example is written first, as one gzip member, then its line in `samples.jsonl`, which also holds where
that member ends. A line counts only when it is whole, so a line that counts always has its trace.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bild.errors import BildError
from bild.results.codec import FieldError, decode, dumps, encode
from bild.results.sample import Sample

SAMPLES = "samples.jsonl"
TRACE = "trace.jsonl.gz"
_END = "trace_end"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Line(NamedTuple):
    sample: Sample
    trace_end: int  # byte offset after its member in the trace
    end: int  # byte offset after its newline


class _Ends(NamedTuple):
    samples: int
    trace: int


def write_error(path: Path, error: OSError, kept: str) -> BildError:
    """Return the sentence for a file that could not be written; `kept` says what is safe."""
    if error.errno in _FULL:
        return BildError(f"{path} could not grow because the disk is full; {kept}: free some space and run again.")
    return BildError(f"{path} could not be written ({error.strerror}); {kept}: mend that and run again.")


def read_samples(folder: Path) -> list[Sample]:
    """Read the finished examples of a point, in order, without its lock; a torn last line is passed over."""
    return [line.sample for line in _scan(folder / SAMPLES)]


def read_traces(folder: Path) -> dict[Any, list[dict[str, Any]]]:
    """Read the rounds of each finished example by its id, in order. BildError where the trace is damaged."""
    lines = _scan(folder / SAMPLES)
    path = folder / TRACE
    try:
        with path.open("rb") as file:
            packed = file.read(lines[-1].trace_end if lines else 0)
        entries = [json.loads(text) for text in gzip.decompress(packed).splitlines()]
        traces = {entry["id"]: _restore(entry["rounds"]) for entry in entries}
    except FileNotFoundError:
        traces = {}
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise BildError(
            f"{path} is damaged ({error}): restore it, or delete the point's folder and run it again."
        ) from None
    if list(traces) != [line.sample.id for line in lines]:
        raise BildError(f"{path} does not hold the examples of {SAMPLES}: delete the point's folder and run it again.")
    return traces


def _scan(path: Path) -> list[_Line]:
    """Read the whole lines of `samples.jsonl`. BildError naming the number of a malformed one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BildError(f"{path} could not be read ({error.strerror}): make it readable and run again.") from None
    lines: list[_Line] = []
    rows = data.split(b"\n")
    rows.pop()  # empty, or torn: what follows the last newline
    end = 0
    for number, row in enumerate(rows, start=1):
        end += len(row) + 1
        try:
            plain = json.loads(row)
        except (ValueError, RecursionError):
            if number == len(rows) and end == len(data):
                break  # the disk may have kept the newline of a line and lost its beginning
            plain = None
        try:
            lines.append(_line_of(plain, end))
        except FieldError as error:
            raise BildError(
                f"{path}, line {number}, is not a finished example ({error}): restore the file, or delete the point's "
                "folder and run it again."
            ) from None
    return lines


def _line_of(plain: Any, end: int) -> _Line:
    if not isinstance(plain, dict) or not isinstance(plain.get(_END), int):
        raise FieldError(f"it is no JSON object with {_END}")
    trace_end = plain.pop(_END)
    return _Line(decode(Sample, plain), trace_end, end)


class SampleLog:
    """Appends to the two files of one point; the caller holds the lock."""

    def __init__(self, folder: Path, fsync: bool = False) -> None:
        """Open or make the files, and cut off what a kill left behind."""
        self._folder = folder
        self._fsync = fsync
        self._samples = self._trace = -1
        lines = _scan(folder / SAMPLES)
        if lines and not (folder / TRACE).exists():
            raise BildError(
                f"{folder / TRACE} is missing beside {len(lines)} finished examples: restore it, or delete the point's "
                "folder and run it again."
            )
        try:
            self._samples = os.open(folder / SAMPLES, os.O_RDWR | os.O_CREAT, 0o644)
            self._trace = os.open(folder / TRACE, os.O_RDWR | os.O_CREAT, 0o644)
            size = os.fstat(self._trace).st_size
            while lines and lines[-1].trace_end > size:  # the power went, and the disk kept less of the trace
                lines.pop()
            self._ends = _Ends(lines[-1].end, lines[-1].trace_end) if lines else _Ends(0, 0)
            self._cut()
        except OSError as error:
            self.close()
            raise write_error(folder, error, "what is in it is kept") from None
        self._ids = {line.sample.id for line in lines}

    def append(self, sample: Sample, rounds: Sequence[Mapping[str, Any]]) -> None:
        """Add one finished example (with an `id` of its own) and its rounds. BildError on NaN or a full disk."""
        name = sample.id
        if name in self._ids:
            raise ValueError(f"the example {name!r} is there already")
        try:
            trace = encode({"id": name, "rounds": rounds}, infinite=True)
            member = gzip.compress((dumps(trace) + "\n").encode(), mtime=0)
            after_trace = self._ends.trace + len(member)
            line = (dumps(encode(sample) | {_END: after_trace}) + "\n").encode()
        except FieldError as error:
            raise BildError(
                f"The example {name} was not written: {error}; mend what computed it and run again."
            ) from None
        try:
            self._write(self._trace, member, self._ends.trace)
            self._write(self._samples, line, self._ends.samples)
            self._ends = _Ends(self._ends.samples + len(line), after_trace)
        except BaseException as error:  # an interrupt, too, must not leave half an example
            with contextlib.suppress(OSError):
                self._cut()
            if isinstance(error, OSError):
                kept = f"the {len(self._ids)} examples finished before are kept"
                raise write_error(self._folder, error, kept) from None
            raise
        self._ids.add(name)

    def clear(self) -> None:
        """Forget every example."""
        self._ends = _Ends(0, 0)
        self._ids = set()
        self._cut()

    def sync(self) -> None:
        """Wait until both files are on the disk."""
        os.fsync(self._trace)
        os.fsync(self._samples)

    def close(self) -> None:
        """Close both files; closing twice does no harm."""
        for file in (self._samples, self._trace):
            if file >= 0:
                os.close(file)
        self._samples = self._trace = -1

    def _write(self, file: int, data: bytes, at: int) -> None:
        while data:
            written = os.pwrite(file, data, at)
            data, at = data[written:], at + written
        if self._fsync:
            os.fsync(file)

    def _cut(self) -> None:
        # The samples first: a kill between the two leaves a trace that is too long, which the next start cuts.
        os.ftruncate(self._samples, self._ends.samples)
        os.ftruncate(self._trace, self._ends.trace)


def _restore(value: Any) -> Any:
    """Return rounds with their infinities: they hold numbers and fixed words, so no text is "inf" by chance."""
    if isinstance(value, dict):
        return {key: _restore(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item) for item in value]
    return math.inf if value == "inf" else value
