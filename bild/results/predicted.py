"""What a sweep leaves beside its points: predictions, and the ledger of confirmations.

`predicted.json` has the points as they follow from decision trees and prices, and which were measured. Quality and
counts are exact (decoding is deterministic); seconds and speedups are predictions, whose intervals hold both the choice
of the examples and the error of the prices. Those of before the measurement are kept, and judged; the settled ones go
by prices that were taken beside it. Measured points are folders of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import fsum, sqrt
from pathlib import Path
from typing import Any

from bild.errors import BildError
from bild.results.codec import read_json, read_lines
from bild.results.interval import Difference, Interval
from bild.results.parts import Counts, Decode, EngineRecord, Method, Threshold
from bild.results.prices import PriceError
from bild.results.reading import Skipped
from bild.results.record import upgrade_settings, with_ends

PREDICTED = "predicted.json"
PREDICTED_SCHEMA = 3


@dataclass(frozen=True)
class Metric:
    """The headline metric, and the signature that says how it was computed."""

    name: str
    signature: str


@dataclass(frozen=True)
class PredictedScore:
    """The headline score over all examples, with its interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class PredictedSeconds:
    """Mean seconds per example, end to end at batch size 1."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """The seconds and the speedup of a point as they were predicted before anything was measured."""

    seconds: PredictedSeconds
    speedup: Interval


@dataclass(frozen=True)
class Agreement:
    """The prediction of before the measurement and the measurement, on the same examples."""

    examples: int
    predicted: float
    """Speedup."""
    measured: Interval
    predicted_seconds: float
    """Per example."""
    measured_seconds: float
    inside: bool
    """True where the measured interval and the prediction's overlap, whose width was known before, too."""
    settled: float | None = None
    """The speedup by prices that were taken beside the measurement."""
    settled_seconds: float | None = None


@dataclass(frozen=True)
class Judgement:
    """Predicted over measured speedup, less one, over measured points: its mean, which all share, and what is left."""

    points: int
    bias: float
    scatter: float
    """Standard deviation; 0 for a single point."""

    @staticmethod
    def of(found: Iterable[Agreement], *, settled: bool = False) -> Judgement | None:
        """Judge the predictions of before the measurement, or the settled ones; None where nothing was measured."""
        told = [(a.settled if settled else a.predicted, a.measured.value) for a in found]
        off = [own / measured - 1 for own, measured in told if own is not None]
        if not off:
            return None
        bias = fsum(off) / len(off)
        scatter = sqrt(fsum((each - bias) ** 2 for each in off) / (len(off) - 1)) if len(off) > 1 else 0.0
        return Judgement(len(off), bias, scatter)


@dataclass(frozen=True)
class PredictedPoint:
    """One point of a sweep."""

    label: str
    method: Method
    threshold: Threshold
    quality: PredictedScore
    counts: Counts
    seconds: PredictedSeconds
    speedup: Interval
    """Over vanilla decoding by the large model on the same engine, ratio of totals."""
    front: bool
    """True where no other point is predicted to be as good and faster, or as fast and better."""
    difference: Difference | None = None
    """Quality less that of vanilla, paired."""
    chosen: str | None = None
    """The reason to measure it: "baseline", "published", "front" or, where all are, "grid"; null: it is not."""
    measured: str | None = None
    """The point's folder, beside the sweep's own."""
    dropped: str | None = None
    """The reason for which its measurement was given up or failed."""
    agreement: Agreement | None = None
    before: Forecast | None = None
    """Null in older files, which kept the settled predictions alone."""


@dataclass(frozen=True)
class Predicted:
    """All points of one sweep over one tree.

    `tree` is the hash of the tree, `prices` the error of the settled prices and `before` of those from before the
    measurement (null in older files), `marked` the ids of the examples on which some decision lies within rounding, so
    a live run may part from the tree there.
    """

    schema: int
    hash: str
    tree: str
    task: str
    pair: str
    machine: dict[str, Any] = field(metadata={"shape": {"fingerprint": str, "name": str}})
    packages: dict[str, str]
    engine: EngineRecord
    examples: int
    data_hash: str
    metric: Metric
    confidence: float
    prices: PriceError
    created: str
    finished: bool
    """True once everything that was chosen has been measured, dropped or has failed."""
    points: list[PredictedPoint]
    marked: list[str] = field(default_factory=list)
    asked: int = 0
    """The number of points of the front that were asked for when the ones to measure were chosen."""
    before: PriceError | None = None
    decode: Decode | None = None
    """How tokens were drawn; null where they were chosen greedily."""
    models: dict[str, str] = field(default_factory=dict)
    """The fingerprints of the `large` and the `small` model, whose pair keeps its name when it is trained anew."""

    def judgement(self, *, settled: bool = False) -> Judgement | None:
        """Judge the predictions of its measured points; see `Judgement`."""
        return Judgement.of((p.agreement for p in self.points if p.agreement is not None), settled=settled)


def read_predicted(path: Path) -> Predicted:
    """Read the predictions in a file. BildError where it cannot be read or is no such file."""
    mend = "delete it and run the sweep again"
    return read_json(Predicted, path, "does not hold predictions", mend, PREDICTED_SCHEMA, _upgrade)


def _upgrade(plain: Any) -> Any:
    """Return predictions of versions 1 and 2 as version 3; all else is left to the reader of fields.

    Their agreement is that of the settled predictions, the only ones that they kept.
    """
    if not isinstance(plain, dict) or plain.get("schema") not in (1, 2) or not isinstance(plain.get("points"), list):
        return plain
    points = [_newer(point, plain) if isinstance(point, dict) else point for point in plain["points"]]
    return plain | {"schema": PREDICTED_SCHEMA, "points": points}


def _newer(point: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    if plain["schema"] == 1:
        point = upgrade_settings(point)
    if isinstance(confidence := plain.get("confidence"), float) and "difference" in point:
        return point | {"difference": with_ends(point["difference"], confidence)}
    return point


def find_predicted(root: Path) -> tuple[list[tuple[Path, Predicted]], list[Skipped]]:
    """Read all predictions under a results folder, by path, and name the files that cannot be read."""
    found: list[tuple[Path, Predicted]] = []
    skipped: list[Skipped] = []
    for path in sorted(Path(root).rglob(PREDICTED)):
        try:
            found.append((path, read_predicted(path)))
        except BildError as error:
            skipped.append(Skipped(path, str(error)))
    return found, skipped


LEDGER = "confirmations.jsonl"


@dataclass(frozen=True)
class MethodChoice:
    """The setting of a method that a search chose at a margin, and what was known of it where it was chosen.

    All null where no setting of the method keeps the margin there.
    """

    method: str
    margin: float
    point: str | None = None
    """The key of the setting."""
    lower: float | None = None
    """The one-sided end of its difference to vanilla."""
    speedup: float | None = None
    """As predicted."""
    exact: bool = False
    """True for a method that writes vanilla's text by its rules: one setting stands for every margin."""


@dataclass(frozen=True)
class LedgerEntry:
    """One confirmation: which settings were looked at, when, on which examples that had no say in their choice.

    Every further look at the same examples makes it likelier that one of them passes by luck, so looks are counted.
    """

    data: str
    """The hash of the whole split: looks at parts of one split are looks at one set."""
    split: str
    points: list[str]
    """The keys of the settings."""
    labels: list[str]
    bound: float
    created: str
    judged: str = ""
    """The hash of the examples themselves, which the records of these settings have as `quality.data`."""
    choices: list[MethodChoice] = field(default_factory=list)
    """By method and margin, where the search was one of methods."""


def ledger_of(folders: Iterable[Path], data: str) -> list[LedgerEntry]:
    """Return the confirmations on the examples of this hash, from the ledgers beside the folders of some points."""
    ledgers = dict.fromkeys(folder.parent / LEDGER for folder in folders)
    return [entry for ledger in ledgers for entry in read_lines(LedgerEntry, ledger) if entry.judged == data]
