"""Sessions: the examples of some points spread over fresh processes, one after another.

What a process happens to get (the places of its memory, the state of the machine) shifts every time it takes, and more
examples in one process do not average that away. So each session is a process of its own that loads the pair and times
a part of the examples that chance chose, and none is timed twice. It appends to the folders that the caller holds the
locks of; it holds these locks too, so nobody takes the folders while it lives, and it ends when its caller does.

The caller talks to it through two pipes: the job in pickle on its stdin, which stays open as a sign of life, and what
happens as JSON, a line each, on its stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

import bild
from bild.config import DecodeConfig, EngineConfig, MeasureConfig, MethodConfig, TaskConfig, ThresholdConfig
from bild.engines import t5
from bild.errors import HELPS, BildError, explain
from bild.measure.environment import wait_for_calm, watch
from bild.measure.interleave import Measurement, OpenPoint, PlacedExample, placed
from bild.models import Pair, PairSpec, load, resolve_device
from bild.results import PointFolder
from bild.results.codec import decode, encode
from bild.results.parts import ModelRecord, PairRecord
from bild.results.work import Sizes
from bild.tasks import Example
from bild.tasks.dataset import place


@dataclass(frozen=True)
class Conditions:
    """What all points of a measurement share."""

    task: TaskConfig
    spec: PairSpec
    engine: EngineConfig
    measure: MeasureConfig
    decode: DecodeConfig


@dataclass(frozen=True)
class _Job:
    """The work of one process."""

    setting: Conditions
    points: list[tuple[MethodConfig, ThresholdConfig, Path, str]]
    """Each with its folder and the hash of its configuration."""
    examples: list[PlacedExample]
    session: int
    keep_going: bool
    beside: Beside | None
    idle: int
    """Processes above this one that hold the GPU and do nothing meanwhile."""


class Beside(Protocol):
    """Something else that a session decodes after each example, untimed; it goes to the session's process in pickle."""

    def begin(self, pair: Pair) -> Callable[[list[int]], list[dict[str, Any]]]:
        """Return what takes the ids of a source when its example is done, and returns plain data."""


class Done(NamedTuple):
    """An example whose lines are in the folders, and what was found beside it."""

    example: Example
    beside: list[dict[str, Any]]


class Sessions:
    """Measures points in the sessions that a setting asks for."""

    def __init__(self, setting: Conditions, load: Callable[[], Pair]) -> None:
        """`load` gives this process the pair; with several sessions it is not called by `measure`."""
        self.setting = setting
        self.load = load
        self.warnings: list[str] = []
        """Sentences about the GPU of each session that was throttled or shared."""
        self._pair: PairRecord | None = None
        self._gpus: list[dict[str, Any]] = []
        self._own: int | None = None
        """The number of this process, where it is the one session: a later call is no other."""

    def describe(self) -> PairRecord:
        """Describe the pair for a record, as the sessions found it."""
        return self._pair or describe_pair(self.load())

    def disturbed(self, busy: str | None) -> dict[str, Any]:
        """Return what disturbed the measurement, for its record: a busy machine, a GPU that was throttled or shared."""
        told = " ".join(filter(None, (busy, *dict.fromkeys(self.warnings)))) or None
        gpus = self._gpus if len(self._gpus) != 1 else self._gpus[0]
        return {"busy": told} | ({"gpu": gpus} if gpus else {})

    def measure(
        self,
        examples: Sequence[Example],
        points: Sequence[OpenPoint],
        *,
        keep_going: bool = False,
        beside: Callable[[], Beside | None] = lambda: None,
    ) -> Iterator[Done]:
        """Measure what the points still lack; yield each example when its lines are in the folders.

        Examples go to `measure.sessions` fresh processes by chance, by a queue that does not depend on how many there
        are: a later call with more of them, or one after a kill, adds sessions and measures nothing again. One session
        is this process itself. With `keep_going` the error of a point ends the measurement of that point alone, whose
        `failed` then says why. When a session begins, `beside` says what it does after each example. BildError where a
        session fails.
        """
        count, seed = self.setting.measure.sessions, self.setting.task.seed
        asked = placed(examples, self.setting.measure, seed)
        done = [{sample.id for sample in point.folder.samples()} for point in points]
        idle = int(count > 1 and torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
        queue = sorted(asked, key=lambda each: place(each.example.id, seed))
        for turn in range(count):
            going = [(p, ids) for p, ids in zip(points, done, strict=True) if p.failed is None]
            block = [each for each in queue[turn::count] if any(each.example.id not in ids for _, ids in going)]
            block.sort(key=lambda each: each.index)
            if block:
                told = [(p.method, p.threshold, p.folder.path, p.folder.digest) for p, _ in going]
                those = [point for point, _ in going]
                job = _Job(self.setting, told, block, self._begin(those), keep_going, beside(), idle)
                known = {each.index: each.example for each in block}
                for event in self._events(job, those):
                    if "done" in event:
                        yield Done(known[event["done"]], event["beside"])
                        continue
                    self._pair = decode(PairRecord, event["pair"])
                    self._gpus += filter(None, [event["gpu"]])
                    self.warnings += filter(None, [event["warning"]])
                    for i, why in event["failed"]:
                        those[i].failed = why

    def _begin(self, points: Sequence[OpenPoint]) -> int:
        """Wait for a calm machine, note in the folders how it was found, and return the number of the session."""
        setting = self.setting
        device = resolve_device(setting.engine.device)
        found = wait_for_calm(device, setting.engine.threads, setting.measure.calm_minutes)
        number = self._own or next_session(points)
        self._own = number if setting.measure.sessions == 1 else None
        for point in points:
            point.folder.note_session(number, found)
        return number

    def _events(self, job: _Job, points: Sequence[OpenPoint]) -> Iterator[dict[str, Any]]:
        """Do a job, here where there is one session, else in a process of its own; yield what it tells."""
        if self.setting.measure.sessions == 1:
            yield from _work(job, self.load(), points)
            return
        try:
            with _process([point.folder.lock for point in points]) as process:
                yield from _told(process, job)
        finally:
            for point in points:
                point.folder.reopen()


def _told(process: subprocess.Popen[bytes], job: _Job) -> Iterator[dict[str, Any]]:
    """Give a process its job, and yield what it tells. BildError where it cannot do it."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it ended already, and its exit code says so
        process.stdin.write(pickle.dumps(job))
        process.stdin.flush()
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        if "error" in event:
            raise BildError(event["error"])
        yield event
    code = process.wait()
    if code:
        raise BildError(
            f"Session {job.session} ended with exit code {code}: its measurements are kept; free memory or fix what it "
            "reports above, and run the same command again."
        )


def next_session(points: Sequence[OpenPoint]) -> int:
    """Return the number of the next process among those that measure these points: 1 where nothing is measured yet."""
    told = (number for point in points for number in point.folder.sessions())
    measured = (sample.session for point in points for sample in point.folder.samples())
    return 1 + max([*told, *measured], default=0)


def describe_pair(pair: Pair) -> PairRecord:
    """Describe a pair for a record."""
    wide = not t5.narrow_wo(pair.device)
    large, small = (
        ModelRecord(**model.describe(), sizes=Sizes.of(model.config, pair.vocabulary, wide_wo=wide))
        for model in (pair.large, pair.small)
    )
    return PairRecord(pair.name, large, small, pair.tokenizer_name or "")


@contextlib.contextmanager
def _process(locks: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process of a session, which inherits the locks of its folders; it is gone when this ends."""
    path = os.pathsep.join([str(Path(bild.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "bild.measure.processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        pass_fds=() if os.name == "nt" else tuple(lock for lock in locks if lock >= 0),
        start_new_session=True,  # Ctrl-C reaches the caller alone, which then ends it
    )
    try:
        yield process
    finally:
        process.kill()  # at any moment: what is half written is cut off
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _main() -> int:
    """Do the job that comes on stdin."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no event
    job: _Job = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    try:
        torch.set_num_threads(job.setting.engine.threads)
        points = [OpenPoint(m, t, PointFolder.joined(path, digest)) for m, t, path, digest in job.points]
        for event in _work(job, load(job.setting.spec), points):
            events.write(json.dumps(event) + "\n")
    except Exception as error:
        events.write(json.dumps({"error": explain(error, helps=HELPS)[1].removeprefix("error: ")}) + "\n")
    return 0


def _end_with_the_caller() -> None:
    """Wait for the end of stdin, which comes when the caller ends, however that is."""
    while os.read(0, 1024):
        pass
    os._exit(3)


def _work(job: _Job, pair: Pair, points: Sequence[OpenPoint]) -> Iterator[dict[str, Any]]:
    """Do a job, and tell of each example, then of all."""
    setting = job.setting
    seen = watch(pair.device, anew=True, idle=job.idle)
    measurement = Measurement(pair, setting.engine.name, setting.task, setting.measure, setting.decode)
    after = job.beside.begin(pair) if job.beside is not None else None
    for each in measurement.measure(job.examples, points, job.session, job.keep_going):
        yield {"done": each.index, "beside": [] if after is None else after(measurement.source(each.example)[0])}
    yield {
        "failed": [(i, point.failed) for i, point in enumerate(points) if point.failed is not None],
        "pair": encode(describe_pair(pair)),
        "gpu": seen.told(),
        "warning": seen.warning(),
    }


if __name__ == "__main__":
    sys.exit(_main())
