"""The finished examples of a point: what one says, and the two growing files that hold them and agree after any kill.

Times are in nanoseconds, at batch size 1; a token list begins with the start token. The trace of an example is written
first, to `trace.jsonl.gz` as one gzip member; then its line to `samples.jsonl`, which also holds where that member
ends, and its own checksum. A line counts only when it is whole, so a line that counts always has its trace.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bild.errors import BildError, refusing
from bild.options import folder_of
from bild.results.codec import FieldError, decode, dumps, encode
from bild.results.files import GrowingFile, parse, read_file, unpack_lines, writing
from bild.results.record import Seal
from bild.results.work import Passes


@dataclass(frozen=True)
class PhaseTimes:
    """Nanoseconds of one decoding from source ids to finished text, in all and by phase (0: a model was not asked)."""

    total: int
    encode_large: int
    encode_small: int
    small: int
    large: int
    rest: int


@dataclass(frozen=True)
class BaselineRun:
    """The example by the library's own greedy `generate()`."""

    tokens: list[int]
    ns: int

    @property
    def written(self) -> int:
        """Return how many tokens were generated: the end token counts, the start token never does."""
        return len(self.tokens) - 1


@dataclass(frozen=True)
class VanillaRun(BaselineRun):
    """The example by same-engine vanilla decoding."""

    text: str
    passes_run: int | None = None
    captures: int | None = None


@dataclass(frozen=True)
class Sample:
    """One example decoded by one point, beside its baselines.

    `index` is the example's place in its task, `session` the number of the process that decoded it, `source_tokens`
    the length of its source and `truncated` whether that was cut to the source limit. `large_widths` counts large
    passes by their new positions; the other counts are those of `Counts`. For CALM, `layers` has the decoder layers
    that each token took, of `depth`. `library` is null where it was not asked. `*_passes_run` count the passes that an
    engine ran for those that were asked for, `captures` what it compiled or captured meanwhile. The work of the passes
    follows from `small_sums` and `large_sums`; where both models share an engine's first layers, `exit_sums` has the
    passes through these, whichever asked. `gap` is by how many nats the large model prefers vanilla's token where the
    text of an exact method first differs (null: nowhere), `library_gap` the same of the library's text.
    """

    id: str
    index: int
    session: int
    source_tokens: int
    truncated: bool
    tokens: list[int]
    text: str
    ns: PhaseTimes
    reached_limit: bool
    small_passes: int
    small_positions: int
    large_passes: int
    large_positions: int
    large_widths: dict[int, int]
    rounds: int
    drafted: int
    kept: int
    rejected: int
    fallbacks: int
    full_drafts: int
    rollbacks: int
    baseline: VanillaRun
    library: BaselineRun | None
    layers: list[int] | None = None
    depth: int | None = None
    small_passes_run: int | None = None
    large_passes_run: int | None = None
    captures: int | None = None
    gap: float | None = None
    library_gap: float | None = None
    small_sums: Passes | None = None
    large_sums: Passes | None = None
    exit_sums: Passes | None = None

    @property
    def written(self) -> int:
        """Return how many tokens were generated: the end token counts, the start token never does."""
        return len(self.tokens) - 1

    @property
    def seconds(self) -> float:
        """Return the seconds of the method."""
        return self.ns.total / 1e9

    @property
    def baseline_seconds(self) -> float:
        """Return the seconds of vanilla."""
        return self.baseline.ns / 1e9

    @property
    def baselines_ns(self) -> int:
        """Return the nanoseconds of what was decoded beside the method: vanilla, and the library where it was asked."""
        return self.baseline.ns + (self.library.ns if self.library is not None else 0)


SAMPLES = "samples.jsonl"
TRACE = "trace.jsonl.gz"
_END = "trace_end"
_CHECK = b',"check":'
"""The last field of a line: the checksum of what stands before it. Older lines have none."""


@dataclass(frozen=True)
class _Entry:
    id: str
    rounds: list[dict[str, Any]]


class _Line(NamedTuple):
    sample: Sample
    trace_end: int  # byte offset after its member in the trace
    end: int  # byte offset after its newline


def read_samples(folder: Path | str) -> list[Sample]:
    """Read the finished examples of a point, in order, without its lock; a torn last line is passed over."""
    return [line.sample for line in _scan(folder_of(folder) / SAMPLES)]


def read_traces(folder: Path | str) -> dict[Any, list[dict[str, Any]]]:
    """Read the rounds of each finished example by its id, in order. BildError where the trace is damaged."""
    folder = folder_of(folder)
    lines = _scan(folder / SAMPLES)
    path = folder / TRACE
    try:
        packed = read_file(path)[: lines[-1].trace_end] if lines and path.exists() else b""
        entries = [decode(_Entry, plain) for plain in unpack_lines(packed)]
        traces = {entry.id: _restore(entry.rounds) for entry in entries}
    except ValueError as error:
        raise _damaged(f"{path} is damaged ({error})") from None
    if list(traces) != [line.sample.id for line in lines]:
        raise BildError(f"{path} does not hold the examples of {SAMPLES}: delete the point's folder and run it again.")
    return traces


def check_seal(folder: Path, seal: Seal) -> None:
    """Raise BildError where a file of a point was changed since its record was made; it may have grown, or be gone."""
    for name, size, digest in ((SAMPLES, seal.samples_bytes, seal.samples), (TRACE, seal.trace_bytes, seal.trace)):
        path = folder / name
        if path.exists() and hashlib.sha256(read_file(path)[:size]).hexdigest() != digest:
            raise BildError(
                f"{path} was changed after its point was measured: it does not fit the seal of the record; restore it, "
                "or measure the point again with resume=false."
            )


def _scan(path: Path) -> list[_Line]:
    """Read the whole lines of `samples.jsonl`. BildError naming the number of a malformed one."""
    if not path.exists():
        return []
    data = read_file(path)
    lines: list[_Line] = []
    rows = data.split(b"\n")
    rows.pop()  # empty, or torn: what follows the last newline
    end = 0
    for number, row in enumerate(rows, start=1):
        end += len(row) + 1
        try:
            plain = parse(row)
        except ValueError:
            if number == len(rows) and end == len(data):
                break  # the disk may have kept the newline of a line and lost its beginning
            plain = None
        try:
            if not isinstance(plain, dict) or not isinstance(plain.get(_END), int):
                raise FieldError(f"it is no JSON object with {_END}")
            if plain.pop("check", None) not in (None, zlib.crc32(row[: row.rfind(_CHECK)])):
                raise FieldError("it was changed after it was written")
            trace_end = plain.pop(_END)
            sample = decode(Sample, plain)
            if min(sample.ns.total, sample.baseline.ns, sample.library.ns if sample.library else 1) < 1:
                raise FieldError("it took no time")
            lines.append(_Line(sample, trace_end, end))
        except FieldError as error:
            raise _damaged(f"{path}, line {number}, is not a finished example ({error})") from None
    return lines


def _damaged(what: str) -> BildError:
    return BildError(f"{what}: restore the file, or delete the point's folder and run it again.")


class SampleLog:
    """Appends to the two files of one point; the caller holds the lock."""

    def __init__(self, folder: Path) -> None:
        """Open or make the files, and cut off what a kill left behind."""
        self._folder = folder
        self._files: list[GrowingFile] = []
        lines = _scan(folder / SAMPLES)
        if lines and not (folder / TRACE).exists():
            raise _damaged(f"{folder / TRACE} is missing beside {len(lines)} finished examples")
        with writing(folder, "what is in it is kept"):
            try:
                for name in (SAMPLES, TRACE):
                    self._files.append(GrowingFile(folder / name))
                while lines and lines[-1].trace_end > self._files[1].end:  # the power went; the disk kept less of it
                    lines.pop()
                self._cut(*((lines[-1].end, lines[-1].trace_end) if lines else (0, 0)))
            except OSError:
                self.close()
                raise
        self._ids = {line.sample.id for line in lines}

    def append(self, sample: Sample, rounds: Sequence[Mapping[str, Any]]) -> None:
        """Add one finished example (with an `id` of its own) and its rounds. BildError on NaN or a full disk."""
        if sample.id in self._ids:
            raise ValueError(f"the example {sample.id!r} is there already")
        samples, trace = self._files
        ends = samples.end, trace.end
        mend = "fix what computed it and run again"
        with refusing(lambda why: f"The example {sample.id} was not written: {why}; {mend}.", FieldError):
            rows = encode({"id": sample.id, "rounds": rounds}, infinite=True)
            member = gzip.compress((dumps(rows) + "\n").encode(), mtime=0)
            line = dumps(encode(sample) | {_END: trace.end + len(member)}).encode()[:-1]
            line += b"%b%d}\n" % (_CHECK, zlib.crc32(line))
        with writing(self._folder, f"the {len(self._ids)} examples finished before are kept"):
            try:
                trace.append(member)
                samples.append(line)
            except BaseException:  # an interrupt, too, must not leave half an example
                with contextlib.suppress(OSError):
                    self._cut(*ends)
                raise
        self._ids.add(sample.id)

    def seal(self) -> Seal:
        """Return the digests of both files as they are now; a record adds that of its figures."""
        told: dict[str, Any] = {}
        for name, file in zip(("samples", "trace"), self._files, strict=True):
            data = read_file(file.path)[: file.end]
            told |= {name: hashlib.sha256(data).hexdigest(), f"{name}_bytes": len(data)}
        return Seal(figures="", **told)

    def clear(self) -> None:
        """Forget every example."""
        self._ids = set()
        self._cut(0, 0)

    def sync(self) -> None:
        """Wait until both files are on the disk."""
        for file in reversed(self._files):
            file.sync()

    def close(self) -> None:
        """Close both files; closing twice does no harm."""
        for file in self._files:
            file.close()

    def _cut(self, samples: int, trace: int) -> None:
        # The samples first: a kill between the two leaves a trace that is too long, which the next start cuts.
        self._files[0].cut(samples)
        self._files[1].cut(trace)


def _restore(value: Any) -> Any:
    """Return rounds with their infinities: they hold numbers and fixed words, so no text is "inf" by chance."""
    if isinstance(value, dict):
        return {key: _restore(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item) for item in value]
    return math.inf if value == "inf" else value
