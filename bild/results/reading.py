"""Finding records again: all points under a folder, which of them may be compared, and all of them as a table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.errors import BildError
from bild.results.folder import CONFIG, RECORD, read_record
from bild.results.parts import Interval, Score
from bild.results.record import Record
from bild.results.samples_log import SAMPLES

if TYPE_CHECKING:
    import pandas as pd

# Packages that a run may record but that can change neither its tokens nor its times.
_BYSTANDERS = frozenset(
    ("hydra-core", "omegaconf", "matplotlib", "pandas", "rich", "psutil", "pytest", "hypothesis", "ruff", "mypy")
)


@dataclass(frozen=True)
class Point:
    """A record, and the folder it was found in."""

    path: Path
    record: Record


@dataclass(frozen=True)
class Skipped:
    """A folder that looks like a point but gave no record, and why."""

    path: Path
    why: str


def find_records(root: Path) -> tuple[list[Point], list[Skipped]]:
    """All points under `root` in the order of their paths, and what was passed over. BildError where `root` is none."""
    root = Path(root)
    if not root.is_dir():
        raise BildError(f"The results folder {root} does not exist: give the folder that a run wrote to.")
    points: list[Point] = []
    skipped: list[Skipped] = []
    for place, folders, files in os.walk(root):
        folders.sort()
        path = Path(place)
        if RECORD in files:
            try:
                points.append(Point(path, read_record(path / RECORD)))
            except BildError as error:
                skipped.append(Skipped(path, str(error)))
        elif SAMPLES in files or CONFIG in files:
            skipped.append(Skipped(path, "unfinished: it has no record.json yet"))
    return points, skipped


def identity(record: Record) -> dict[str, Any]:
    """The fields that must be equal for two speedups, or two scores, to be compared."""
    environment = record.environment
    fields = {
        "task.name": record.task.name,
        "task.split": record.task.split,
        "task.prompt": record.task.prompt,
        "task.source_limit": record.task.source_limit,
        "task.target_limit": record.task.target_limit,
        "task.data.hash": record.task.data["hash"],
        "latency.examples": record.latency.examples,
        "pair.large.fingerprint": record.pair.large.fingerprint,
        "pair.small.fingerprint": record.pair.small.fingerprint,
        "engine.name": record.engine.name,
        "engine.dtype": record.engine.dtype,
        "engine.device": record.engine.device,
        "engine.threads": record.engine.threads,
        "quality.headline": record.quality.headline,
        "quality.signature": record.headline.signature,
        "intervals.confidence": record.intervals.confidence,
        "environment.machine": environment["machine"]["fingerprint"],
        "environment.python": environment.get("python"),
    }
    versions = {f"environment.packages.{name}": version for name, version in sorted(environment["packages"].items())}
    return fields | {name: version for name, version in versions.items() if name.rsplit(".", 1)[1] not in _BYSTANDERS}


def comparable(a: Record, b: Record) -> list[str]:
    """The fields that differ and forbid comparing the two; empty when they may be compared."""
    left, right = identity(a), identity(b)
    return [name for name in left | right if left.get(name) != right.get(name)]


def to_frame(records: Iterable[Record | Point]) -> pd.DataFrame:
    """One row a point. Times are in the unit of their name, rates per generated token, quality in points."""
    import pandas as pd  # takes most of a second, and few readers need it

    return pd.DataFrame([to_row(record) for record in records])


def to_row(item: Record | Point) -> dict[str, Any]:
    """One row of `to_frame`, as plain values."""
    record = item.record if isinstance(item, Point) else item
    latency, counts, engine = record.latency, record.counts, record.engine
    library = latency.library
    return {
        "task": record.task.name,
        "pair": record.pair.name,
        "label": record.label,
        "method": record.method.name,
        "rules": record.method.rules,
        "max_draft": record.method.max_draft,
        "confidence": record.method.confidence,
        "stop": record.method.stop,
        "keep": record.method.keep,
        "fb": record.threshold.fb,
        "rb": record.threshold.rb,
        "exit": record.threshold.exit,
        "alpha": record.threshold.alpha,
        "engine": engine.name,
        "dtype": engine.dtype,
        "device": engine.device,
        "threads": engine.threads,
        "machine": record.environment["machine"]["name"],
        "examples": latency.examples,
        "tokens": latency.tokens,
        "metric": record.quality.headline,
        **_spread("quality", record.headline),
        **_spread("quality_difference", record.headline_difference),
        **{f"score_{name}": score.value for name, score in record.quality.scores.items()},
        **_spread("speedup", latency.speedup.total),
        **_spread("speedup_geometric", latency.speedup.geometric),
        **_spread("speedup_over_library", library.speedup if library else None),
        "seconds": latency.seconds,
        **_spread("ms_per_example", latency.ms_per_example),
        "ms_per_token": latency.ms_per_token,
        "baseline_ms_per_token": latency.baseline.ms_per_token,
        "library_ms_per_token": library.ms_per_token if library else None,
        "encode_large_seconds": latency.phases.encode_large,
        "encode_small_seconds": latency.phases.encode_small,
        "small_seconds": latency.phases.small,
        "large_seconds": latency.phases.large,
        "rest_seconds": latency.phases.rest,
        "drift": latency.stationarity.drift,
        "small_passes": counts.small_passes,
        "large_passes": counts.large_passes,
        "tokens_per_large_pass": counts.tokens_per_large_pass,
        "fallback_rate": counts.fallback_rate,
        "rollback_rate": counts.rollback_rate,
        "drafted": counts.drafted,
        "kept": counts.kept,
        "rejected": counts.rejected,
        "layer_share": counts.layer_share,
        "hash": record.hash,
        "created": record.created,
        "path": str(item.path) if isinstance(item, Point) else None,
    }


def _spread(name: str, interval: Interval | Score | None) -> dict[str, float | None]:
    ends = (interval.value, interval.low, interval.high) if interval is not None else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
