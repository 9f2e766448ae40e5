"""`record.json`, which describes one finished point: one method, one setting, one task, pair, engine and machine.

Times are in seconds or milliseconds as named, rates are per generated token, quality is in the metric's points.
`python -m bild.results.record` writes the JSON Schema that the package ships.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, NoReturn, cast

from bild.errors import BildError, refusing
from bild.results import parts
from bild.results.codec import FieldError, decode, dumps, encode, json_schema
from bild.results.files import parse
from bild.results.interval import Difference, Interval, Score
from bild.results.prices import DraftCostsRecord
from bild.results.work import Work

SCHEMA_VERSION = 3
_OLDER = (1, 2)


@dataclass(frozen=True)
class Seal:
    """Digests (SHA-256) that tell whether a point was changed after it was measured.

    `figures` is that of the record's own JSON, `samples` and `trace` those of the first bytes of the two files, which
    may have grown since. There is no secret in them: they guard against slips and edits by hand, not against forgery.
    """

    figures: str
    samples: str
    samples_bytes: int
    trace: str
    trace_bytes: int


@dataclass(frozen=True)
class Record:
    """One finished point.

    `hash` is the config hash, `label` a name for people, `sessions` the number of processes that contributed, `created`
    an ISO time and `seconds` the wall time of the run. In `environment`, `machine` holds only what stays the same from
    run to run (hardware, driver, its `fingerprint`, a `name` for people), and `packages` the versions that can change
    a result; what changes by itself (clocks, load) goes beside them. `joint` and `command`, which makes the point
    again, are null in older records, `draft_costs` where the draft limit is a number. `texts` compares
    the texts of a method that is exact by its rules to vanilla's; null for others, and in older records. `work` counts
    FLOPs and bytes of the timed examples; null in older records. `seal` is null in records of before
    seals, `decode` where tokens were chosen greedily.
    """

    schema: int
    hash: str
    label: str
    task: parts.Task
    pair: parts.PairRecord
    method: parts.Method
    threshold: parts.Threshold
    engine: parts.EngineRecord
    intervals: parts.Intervals
    quality: parts.Quality
    latency: parts.Latency
    counts: parts.Counts
    environment: dict[str, Any] = field(
        metadata={
            "shape": {
                "machine": {"fingerprint": str, "name": str},
                "packages": dict[str, str],
                "git": {"sha": str | None, "dirty": bool | None},
            }
        }
    )
    sessions: int
    created: str
    seconds: float
    joint: parts.Joint | None = None
    draft_costs: DraftCostsRecord | None = None
    command: str | None = None
    texts: parts.EqualTexts | None = None
    work: Work | None = None
    seal: Seal | None = field(default=None, compare=False)
    decode: parts.Decode | None = None

    @property
    def warnings(self) -> list[str]:
        """Return a sentence for each thing that speaks against its times or its texts."""
        dtype, library = self.engine.dtype, self.latency.library
        found = [self.latency.stationarity.warning, overrun(self.counts)]
        if library is not None and library.texts is not None:
            whose = f"Beside engine={self.engine.name} the library's generate()"
            found.append(library.texts.warning(whose, dtype))
        if self.texts is not None:
            found.append(self.texts.warning(f"{self.label}, exact by its rules,", dtype))
        return [text for text in found if text]

    @property
    def speedup(self) -> Interval:
        """Return the speedup over same-engine vanilla: the ratio of total times."""
        return self.latency.speedup.total

    @property
    def headline(self) -> Score:
        """Return the main score."""
        return self.quality.scores[self.quality.headline]

    @property
    def headline_difference(self) -> Difference | None:
        """Return the main score's paired difference to same-engine vanilla, if the record has it."""
        return (self.quality.difference or {}).get(self.quality.headline)


def to_json(record: Record) -> str:
    """Return the record as strict JSON, its seal closed. BildError on NaN, stray infinities and wrong types."""
    mend = "fix what computed it and run the point again"
    with refusing(lambda why: f"The record {record.label} was not written: {why}; {mend}.", FieldError):
        plain = encode(record)
        _check(cast(Record, decode(Record, plain)))
        if record.seal is not None:
            plain["seal"]["figures"] = _figures(plain)
    return dumps(plain, indent=2) + "\n"


def from_json(text: str | bytes, source: str | Path = "record.json") -> Record:
    """Read the record in the text of `source`; one of an older version comes back as one of this.

    BildError naming file and field where it is not a record that can be read.
    """
    try:
        plain = parse(text, parse_constant=_refuse_constant)
    except FieldError as error:
        raise BildError(f"{source} is not valid JSON: {error}; run the point again.") from None
    except ValueError as error:
        raise BildError(f"{source} is not valid JSON ({error}): restore the file or run the point again.") from None
    version = plain.get("schema") if isinstance(plain, dict) else None
    version = version if type(version) is int else None  # true is no version, although it equals 1
    known = (None, *_OLDER, SCHEMA_VERSION)
    if version not in known and abs(version) < 1000:  # other numbers are no versions either
        raise BildError(
            f"{source} has schema version {version}, but this version of bild reads versions 1 to {SCHEMA_VERSION}: "
            "read it with the version of bild that wrote it, or run the point again."
        )
    try:
        sealed, plain = plain, _upgrade(plain) if version in _OLDER else plain
        record = cast(Record, decode(Record, _without_draws(plain)))
        _check(record)
    except FieldError as error:
        raise BildError(f"{source} is not a record: {error}; restore the file or run the point again.") from None
    if record.seal is not None and record.seal.figures != _figures(sealed):
        raise BildError(
            f"{source} was changed after it was written: its figures do not fit its seal; restore it, or measure the "
            "point again with resume=false."
        )
    return record


def _figures(plain: dict[str, Any]) -> str:
    """Return the digest of a record's plain JSON, the digest itself left out."""
    seal = {name: value for name, value in plain["seal"].items() if name != "figures"}
    return hashlib.sha256(json.dumps(plain | {"seal": seal}, sort_keys=True).encode()).hexdigest()


def _upgrade(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a record of version 1 or 2 as one of this version; what is damaged is left to the reader of fields."""
    if plain["schema"] == 1:
        plain = upgrade_settings(plain)
    quality, latency = _part(plain, "quality"), _part(plain, "latency")
    if quality and latency:
        judged = {"examples": latency.get("examples"), "origin": "live", "settled": 0}
        judged["data"] = _part(_part(plain, "task"), "data").get("hash")
        confidence = _part(plain, "intervals").get("confidence")
        if isinstance(quality.get("difference"), dict) and isinstance(confidence, float):
            _check_confidence(confidence)
            judged["difference"] = {name: with_ends(each, confidence) for name, each in quality["difference"].items()}
        latency = {"sessions": [], "between": None, "percentiles": None} | latency
        plain = plain | {"quality": quality | judged, "latency": latency}
    return plain | {"schema": SCHEMA_VERSION, "joint": None}  # it was of the score itself, not of the paired difference


def _part(plain: Any, name: str) -> dict[str, Any]:
    """Return a part of a record that may be damaged; an empty one where there is none."""
    found = plain.get(name) if isinstance(plain, dict) else None
    return found if isinstance(found, dict) else {}


def _without_draws(plain: Any) -> Any:
    """Return a record without how its bootstrap was drawn, which all told once."""
    kept = {name: value for name, value in _part(plain, "intervals").items() if name not in ("draws", "seed")}
    return plain | {"intervals": kept} if kept else plain


def with_ends(interval: Any, confidence: float) -> Any:
    """Return a two-sided interval with the one-sided ends that it had if each side were a normal one."""
    if not isinstance(interval, dict) or not all(isinstance(v, int | float) for v in interval.values()):
        return interval
    if not {"value", "low", "high"} <= set(interval):
        return interval
    value, low, high = interval["value"], interval["low"], interval["high"]
    two, one = NormalDist().inv_cdf((1 + confidence) / 2), NormalDist().inv_cdf(confidence)
    ends = {"lower": value - (value - low) * one / two, "upper": value + (high - value) * one / two}
    return interval | ends | {"sd": (high - low) / (2 * two)}


def upgrade_settings(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a point of version 1 with `method` and `threshold` as version 2 has them: the one place for both files.

    Version 1 named neither stop nor keep rule, and a cascade's keep rule by its token rule.
    """
    method = dict(_part(plain, "method"))
    rule = method.pop("rule", None)
    named = _NAMED.get(str(method.get("name")))
    if named is None:
        return plain | ({"method": method} if method else {})
    stop, keep = named[0], _TOKEN_RULES.get(str(rule), named[1])
    unsure = {} if stop in ("unsure", "likely") else {"unsure": None}  # of no effect, and so no longer told
    return plain | {"method": method | unsure | {"stop": stop, "keep": keep}}


def _refuse_constant(name: str) -> NoReturn:
    raise FieldError(f"it holds {name}, but numbers must be finite")


def _check(record: Record) -> None:
    if record.schema != SCHEMA_VERSION:
        raise FieldError(f"the field schema must be {SCHEMA_VERSION}, but it is {record.schema}")
    if record.quality.headline not in record.quality.scores:
        raise FieldError(
            f"the field quality.headline names {record.quality.headline}, but quality.scores has no such score"
        )
    _check_confidence(record.intervals.confidence)


def _check_confidence(confidence: float) -> None:
    if not 0.5 <= confidence < 1.0:
        raise FieldError(f"the field intervals.confidence must be from 0.5 to below 1, but it is {confidence:g}")


def overrun(counts: parts.Counts) -> str | None:
    """Return how the times hold more than the method, or None where they do not or nobody counted.

    A small model may run one step beyond the stop of each draft; a large one none, and nothing is captured.
    """
    ran_and_most = {
        "large": (counts.large_passes_run, counts.large_passes),
        "small": (counts.small_passes_run, counts.small_passes + counts.rounds),
        "vanilla": (counts.baseline_passes_run, counts.baseline_passes),
    }
    found = [
        f"the engine ran {ran:,} passes of {name} where {most:,} were needed"
        for name, (ran, most) in ran_and_most.items()
        if ran is not None and most is not None and ran > most
    ]
    if counts.captures:
        found.append(f"{counts.captures:,} programs were captured while the clock ran")
    return f"The times hold more than the method: {'; '.join(found)}." if found else None


_NAMED = {
    "bild": ("unsure", "nll"),
    "speculative": ("window", "exact"),
    "dynamic": ("unsure", "exact"),
    "cumulative": ("likely", "exact"),
    "heuristic": ("adaptive", "exact"),
    "cascade": ("window", "share"),
    "oracle": ("oracle", "nll"),
}
"""Stop and keep rules of the methods of version 1."""
_TOKEN_RULES = {"v1": "difference", "v2": "loss", "v3": "share", "chow": "doubt", "difference": "difference"}
SCHEMA_PATH = Path(__file__).with_name("record.schema.json")


def schema_text() -> str:
    """Return the schema as it follows from the dataclasses."""
    schema = json_schema(Record)
    schema["properties"]["schema"] = {"const": SCHEMA_VERSION}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")
