"""The folder of one point: locked while it is written, resumable after a kill, whole once `record.json` is there.

It is named by the point's label for people, and by the hash of the point's configuration for machines.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml

from bild.errors import BildError, refusing
from bild.options import folder_of
from bild.results.codec import read_json, write_json
from bild.results.files import read_file, write_atomically, writing
from bild.results.locking import let_go, take, waiting_lock
from bild.results.parts import SessionNote
from bild.results.prices import DraftCostsRecord
from bild.results.record import Record, from_json, to_json
from bild.results.sample import SAMPLES, TRACE, Sample, SampleLog, check_seal, read_samples

T = TypeVar("T")
CONFIG = "config.yaml"
RECORD = "record.json"
COSTS = "draft_costs.json"
KERNELS = "kernels.json"
SESSIONS = "sessions.json"
LOCK = ".lock"
PAIR_LOCK = ".sweep.lock"
SHORT = 10
"""Digits of a hash in the name of a folder."""


@dataclasses.dataclass(eq=False)
class PointFolder:
    """`<root>/<task>/<pair>/<label>-<digest>/`, held by this process until `close()` or the end of a `with`.

    Use `PointFolder.open`.
    """

    path: Path
    digest: str
    lock: int
    _log: SampleLog

    @classmethod
    def open(cls, root: Path, task: str, pair: str, label: str, digest: str, config: Mapping[str, Any]) -> PointFolder:
        """Make or reopen the folder of a point, lock it, and cut off what a kill left behind.

        `digest` is the config hash, `config` the resolved configuration (plain YAML types). Where another process
        writes the point, it is waited for. BildError when the place cannot be written, or a file in it is damaged.
        """
        path = pair_folder(root, task, pair) / f"{slug(label)}-{digest[:SHORT]}"
        elsewhere = "choose another place with results=..."
        with refusing(lambda why: f"The results folder {path} cannot be written ({why}): {elsewhere}", OSError):
            lock = take(path / LOCK, f"is writing the point {path}")
        try:
            if not (path / RECORD).exists():  # a finished point keeps the configuration that made it
                write_atomically(path / CONFIG, yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True))
            return cls(path, digest, lock, SampleLog(path))
        except BaseException:
            _close(path, lock)
            raise

    @classmethod
    def joined(cls, path: Path, digest: str) -> PointFolder:
        """Open a folder that the process above holds, to append to it in that process's place."""
        return cls(path, digest, -1, SampleLog(path))

    def reopen(self) -> None:
        """Take up what another process has appended meanwhile, and cut off what it left half done."""
        self._log.close()
        self._log = SampleLog(self.path)

    @property
    def finished(self) -> bool:
        """Tell whether its record is there, unread."""
        return (self.path / RECORD).exists()

    def record(self) -> Record | None:
        """Read the point's record, or None while it is unfinished. BildError as `read_record`, and for another's."""
        path = self.path / RECORD
        record = read_record(path) if self.finished else None
        if record is not None and record.hash != self.digest:
            raise BildError(f"{path} is the record of another point: restore it, or measure anew with resume=false.")
        return record

    def samples(self) -> list[Sample]:
        """Read the finished examples, in the order in which they were appended."""
        return read_samples(self.path)

    def draft_costs(self) -> DraftCostsRecord | None:
        """Read the costs that the point's drafts go by, or None before its first example.

        BildError where the file is damaged, or gone although there are examples.
        """
        found = self._kept(COSTS, DraftCostsRecord)
        if found is None and self.samples():
            path = self.path / COSTS
            raise BildError(f"{path} is gone, and its examples were decoded by it: start anew with resume=false.")
        return found

    def keep_draft_costs(self, costs: DraftCostsRecord) -> None:
        """Write the costs in one step, before the first example that is decoded by them."""
        write_json(self.path / COSTS, costs)

    def kernels(self) -> dict[str, Any] | None:
        """Read the choice of kernels that the point's passes go by, or None where none was kept."""
        return self._kept(KERNELS, dict[str, Any])

    def keep_kernels(self, kernels: Mapping[str, Any]) -> None:
        """Write the choice of kernels in one step, before the first example that is decoded by them."""
        write_json(self.path / KERNELS, kernels)

    def sessions(self) -> dict[int, SessionNote]:
        """Read how the machine was found before each session, by its number; empty in folders of before version 3."""
        return self._kept(SESSIONS, dict[int, SessionNote]) or {}

    def note_session(self, number: int, note: SessionNote) -> None:
        """Write how the machine was found, in one step, before the first example of a session."""
        write_json(self.path / SESSIONS, self.sessions() | {number: note})

    def _kept(self, name: str, kind: type[T]) -> T | None:
        path = self.path / name
        return read_json(kind, path, "is damaged", "start anew with resume=false") if path.exists() else None

    def append(self, sample: Sample, rounds: Sequence[Mapping[str, Any]]) -> None:
        """Add one finished example (with an `id` of its own) and its rounds; all or nothing stays in the files."""
        self._log.append(sample, rounds)

    def finish(self, record: Record) -> Path:
        """Write `record.json`, the last file of a point, in one step, and return its path."""
        if record.hash[:SHORT] != self.digest[:SHORT]:
            raise ValueError(f"the record's hash {record.hash} is not that of the folder, {self.digest}")
        with writing(self.path, "what is in it is kept"):
            text = to_json(dataclasses.replace(record, seal=self._log.seal()))
            self._log.sync()  # a record must not outlive the examples that it speaks of
        write_atomically(self.path / RECORD, text)
        return self.path / RECORD

    def clear(self) -> None:
        """Start anew: forget the record, then every example."""
        with writing(self.path, "it was not emptied"):
            (self.path / RECORD).unlink(missing_ok=True)
            self._log.clear()
            for name in (COSTS, KERNELS, SESSIONS):
                (self.path / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder; closing twice does no harm."""
        self._log.close()
        if self.lock >= 0:
            _close(self.path, self.lock)
            self.lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(path: Path, lock: int) -> None:
    """Let go of a point's lock; of a folder without an example nothing stays but what was there before."""
    samples = path / SAMPLES
    empty = not samples.exists() or samples.stat().st_size == 0
    let_go(lock, *((CONFIG, SESSIONS, SAMPLES, TRACE) if empty else ()))


def read_record(path: Path | str) -> Record:
    """Read the record in a file, or in a point's folder. BildError where there is none, or its point was changed."""
    path = folder_of(path)
    if path.is_dir():
        path = path / RECORD
    if not path.exists():
        raise BildError(f"There is no record {path}: give the folder of a finished point, such as `bild run` names it.")
    record = from_json(read_file(path), path)
    if record.seal is not None:
        check_seal(path.parent, record.seal)
    return record


def pair_folder(root: Path | str, task: str, pair: str) -> Path:
    """Return the folder of all points, sweeps and trees of a task and pair."""
    return Path(root) / slug(task) / slug(pair)


def pair_lock(folder: Path) -> AbstractContextManager[None]:
    """Hold a pair's folder while several of its points are taken: two who do that would wait for each other."""
    return waiting_lock(folder / PAIR_LOCK, f"measures several points in {folder}")


def slug(name: str) -> str:
    """Return a name as one folder name: no separators, no hidden or parent folders."""
    return re.sub(r"[^\w.+=-]+", "-", name).strip(".-") or "unnamed"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def config_hash(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256 (64 hex digits) of the canonical JSON of `payload`; folder names carry the first 10.

    The order of keys does not matter, 2 and 2.0 are equal, an infinity is the string "inf". BildError on NaN.
    """
    text = json.dumps(
        _canonical(payload, ""), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _canonical(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where or 'the payload'} has the key {key!r}: keys must be strings")
        return {key: _canonical(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float):
        if math.isnan(value):
            raise BildError(f"{where} is NaN: give it a number.")
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return int(value) if value.is_integer() else float(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}, which has no canonical JSON")
