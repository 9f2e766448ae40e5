"""Finding records again: all points under a folder, which of them may be compared, all of them as a table, the front
and the paper's picks among them; and where results lie when nobody says."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args

from bild.errors import BildError, plain
from bild.options import folder_of
from bild.results.codec import hints
from bild.results.folder import CONFIG, RECORD, read_record
from bild.results.record import Record
from bild.results.sample import SAMPLES

if TYPE_CHECKING:
    import pandas as pd

# Packages that a run may record but that can change neither its tokens nor its times.
_BYSTANDERS = frozenset(
    ("hydra-core", "omegaconf", "matplotlib", "pandas", "rich", "psutil", "pytest", "hypothesis", "ruff", "mypy")
)
_ENDS = {"": "value", "_low": "low", "_high": "high"}
_CLAIM = _ENDS | {"_lower": "lower", "_upper": "upper", "_sd": "sd"}
_TEXTS = {"_equal": "equal", "": "examples", "_gap": "gap"}
_PLAIN = {str, int, float, bool, type(None)}


@dataclass(frozen=True)
class Point:
    """A record, and the folder it was found in."""

    path: Path
    record: Record


@dataclass(frozen=True)
class Skipped:
    """A folder that looks like a point but gave no record, or another file that could not be read, and why."""

    path: Path
    why: str


def find_records(root: Path | str) -> tuple[list[Point], list[Skipped]]:
    """Read all points under `root` by path, and name what was passed over. BildError where there is no folder."""
    root = folder_of(root)
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise BildError(f"The results folder {root} {what}: give the folder that a run wrote to.")
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
    """Return the fields that must be equal for two speedups, or two scores, to be compared."""
    environment = record.environment
    fields = {
        "task.name": record.task.name,
        "task.split": record.task.split,
        "task.prompt": record.task.prompt,
        "task.source_limit": record.task.source_limit,
        "task.target_limit": record.task.target_limit,
        "quality.data": record.quality.data,
        "quality.examples": record.quality.examples,
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
    if record.decode is not None:
        fields |= {f"decode.{name}": value for name, value in asdict(record.decode).items()}
    versions = {f"environment.packages.{name}": version for name, version in sorted(environment["packages"].items())}
    return fields | {name: version for name, version in versions.items() if name.rsplit(".", 1)[1] not in _BYSTANDERS}


def comparable(a: Record, b: Record) -> list[str]:
    """Return the fields that differ and forbid comparing the two; empty when they may be compared."""
    left, right = identity(a), identity(b)
    return [name for name in left | right if left.get(name) != right.get(name)]


def frame(root: Path | str) -> pd.DataFrame:
    """Return all finished points under a results folder as a table: one row a point, in the order of their paths.

    `bild.results.frame("results/")`. Every switch of the method and every threshold is a column (empty where the method
    has none such), and every interval three: `speedup`, `speedup_low`, `speedup_high`; differences have one-sided ends
    too (`_lower`, `_upper`). Quality is of the `judged` examples, in the metric's points; times are of the `examples`,
    in the unit of their name; rates are per generated token. `command` makes the point again, `hash` and `path` find
    it. BildError where there is no such folder.
    """
    return to_frame(find_records(root)[0])


def to_frame(records: Iterable[Record | Point]) -> pd.DataFrame:
    """Return the table of `frame` for records at hand; `path` is empty where only a record is."""
    import pandas as pd  # takes most of a second, and few readers need it

    rows = [to_row(record).items() for record in records]
    return pd.DataFrame([{k: plain(v) if isinstance(v, str) else v for k, v in row} for row in rows])


def to_row(item: Record | Point) -> dict[str, Any]:
    """Return one row of `frame`, as plain values."""
    record = item.record if isinstance(item, Point) else item
    latency, quality, library, work = record.latency, record.quality, record.latency.library, record.work
    row: dict[str, Any] = {"task": record.task.name, "split": record.task.split, "pair": record.pair.name}
    row |= {"label": record.label, "method": record.method.name}
    row |= _plain(record.method) | _plain(record.threshold)
    row |= {"engine": record.engine.name} | _plain(record.engine)
    row |= _fields(record.decode, {"top_p": "top_p", "temperature": "temperature", "decode_seed": "seed"})
    row |= {"machine": record.environment["machine"]["name"], "metric": quality.headline}
    row |= {"judged": quality.examples, "judged_from": quality.origin, "settled": quality.settled}
    row |= ends("quality", record.headline) | ends("quality_difference", record.headline_difference, _CLAIM)
    for name, score in quality.scores.items():
        row |= ends(f"score_{name}", score)
        row |= ends(f"difference_{name}", (quality.difference or {}).get(name), _CLAIM)
    row |= ends("speedup", record.speedup) | ends("speedup_geometric", latency.speedup.geometric)
    row |= ends("speedup_over_library", library and library.speedup)
    row |= ends("library_texts", library and library.texts, _TEXTS) | ends("vanilla_texts", record.texts, _TEXTS)
    row |= _plain(latency) | ends("ms_per_example", latency.ms_per_example)
    percentiles = latency.percentiles.method if latency.percentiles else {}
    for name in ("p50", "p90", "p99"):
        row |= ends(f"{name}_ms", percentiles.get(name))
    row |= {"baseline_ms_per_token": latency.baseline.ms_per_token}
    row |= {"library_ms_per_token": library and library.ms_per_token}
    row |= {f"{name}_seconds": value for name, value in _plain(latency.phases).items()}
    for name, texts in (("", work and work.method), ("vanilla_", work and work.vanilla)):
        row |= _fields(texts and texts.total, {f"{name}{unit}": unit for unit in ("flops", "bytes")})
    row |= _plain(record.counts) | {"drift": latency.stationarity.drift, "sessions": record.sessions}
    row |= {"command": record.command, "hash": record.hash, "created": record.created}
    return row | {"path": str(item.path) if isinstance(item, Point) else None}


def _plain(part: Any) -> dict[str, Any]:
    """Return the fields of a part that are plain values, but for its name: new ones become columns by themselves."""
    kind: type = type(part)
    options = {name: get_args(hint) if isinstance(hint, UnionType) else (hint,) for name, hint in hints(kind).items()}
    return {name: getattr(part, name) for name, kinds in options.items() if name != "name" and {*kinds} <= _PLAIN}


def _fields(part: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return fields of a part by the columns that they stand in, all None without one."""
    return {column: part and getattr(part, name) for column, name in columns.items()}


def ends(name: str, part: Any, columns: Mapping[str, str] = _ENDS) -> dict[str, Any]:
    """Return value and ends of an interval, or other fields of a part, by what their columns add to a name."""
    return _fields(part, {f"{name}{added}": own for added, own in columns.items()})


ANCHORS = ("vanilla", "small")
ONE_POINT = 1.0
_ROUNDING = 1e-9  # a quality stored as 40.33 - 0.33 is still 40


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (speedup, quality) that no other point beats, from slow to fast.

    One point beats another when it is as good in both and better in one; so of equal points all stay.
    """
    if any(math.isnan(value) for point in points for value in point):
        raise ValueError("a point of the front is NaN")
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], -points[index][1], index))
    kept: list[int] = []
    best = -math.inf
    last: tuple[float, float] | None = None
    for index in order:
        if points[index][1] > best or points[index] == last:
            kept.append(index)
            best, last = points[index][1], points[index]
    return sorted(kept, key=lambda index: (points[index][0], -points[index][1], index))


@dataclass(frozen=True)
class Picks:
    """The fastest BiLD point at no loss of quality, and at a loss of one point at most; None where there is none."""

    no_loss: Record | None
    one_point: Record | None


def picks(records: Sequence[Record]) -> Picks:
    """Return the paper's two picks among the BiLD points, judged by their quality less that of same-engine vanilla."""
    return Picks(_fastest(records, 0.0), _fastest(records, ONE_POINT))


def loss(record: Record, records: Sequence[Record]) -> float | None:
    """Return how many points of quality the record lost against same-engine vanilla; None where nothing tells."""
    if record.headline_difference is not None:
        return -record.headline_difference.value
    vanilla = next((other for other in records if other.method.name == "vanilla"), None)
    return None if vanilla is None else vanilla.headline.value - record.headline.value


def _fastest(records: Sequence[Record], allowed: float) -> Record | None:
    candidates = []
    for record in records:
        lost = loss(record, records) if record.method.name == "bild" else None
        if lost is not None and lost <= allowed + _ROUNDING:
            candidates.append(record)
    return max(candidates, key=lambda record: (record.speedup.value, record.headline.value), default=None)


EXAMPLE = "example"
HOW = "run one first, such as `make sweep`, or `make example` for the small one that this project shows"


def find_results(start: Path | str | None = None) -> Path:
    """Return the folder of results/ to report on, in `start` or a folder above it: one's own runs, else the example.

    `start` is the working folder, or what the environment names as BILD_RESULTS. BildError where neither has a
    finished point.
    """
    begin = folder_of(start or os.environ.get("BILD_RESULTS") or ".").resolve()
    for folder in (begin, *begin.parents):
        results = folder / "results"
        if not results.is_dir():
            continue
        own = [path for path in sorted(results.iterdir()) if path.is_dir() and path.name != EXAMPLE]
        if any(_has_points(path) for path in own):
            return results if not (results / EXAMPLE).is_dir() else _newest(own)
        if _has_points(results / EXAMPLE):
            return results / EXAMPLE
    raise BildError(f"There are no results to show: {HOW}.")


def find_tree(start: Path | str | None = None) -> Path:
    """Return the folder of the decision tree that was grown last, among the results that `find_results` finds.

    Where one's own runs have none, that of the example. BildError where it has none either.
    """
    shown = find_results(start)
    results = shown if shown.name == "results" else shown.parent
    for place in (shown, results / EXAMPLE):
        found = sorted(place.rglob("tree/*/tree.json"), key=lambda path: (path.stat().st_mtime, path))
        if found:
            return found[-1].parent
    raise BildError(f"There is no decision tree among the results: {HOW}.")


def _has_points(folder: Path) -> bool:
    return folder.is_dir() and any(folder.rglob("record.json")) and bool(find_records(folder)[0])


def _newest(folders: list[Path]) -> Path:
    """Return the task that was run last, of several beside an example: they are not to be mixed with the example."""
    return max((path for path in folders if _has_points(path)), key=lambda path: path.stat().st_mtime)
