"""The JSON of a bench and of a GPU check: a dataclass for each thing looked at. No torch: a report draws them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bild.results.codec import read_json

BENCH_VERSION = 2

MEASURED, FAILED, SKIPPED, ABSENT = "measured", "failed", "skipped", "absent"


@dataclass(frozen=True)
class Spread:
    """The median over the repeats, the least and the most."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """Return the spread of at least one value."""
        found = sorted(values)
        return Spread(statistics.median(found), found[0], found[-1])


@dataclass(frozen=True)
class Roofline:
    """The least that a pass can cost on this machine: what it reads and computes over the machine's best rates."""

    bytes: int
    flops: int
    ms: float
    bound: str
    """"read" or "multiply": which of the two takes longer."""


@dataclass(frozen=True)
class Verification:
    """A pass over several new positions."""

    ms: Spread
    relative: Spread
    """Its time over that of width 1, repeat by repeat (over the narrowest width, where 1 was not measured)."""
    over_roofline: float


@dataclass(frozen=True)
class SameTokens:
    """The tokens compared with those of the reference: how often they are equal, where they first part."""

    reference: str
    equal: int
    """Repeats with equal tokens."""
    repeats: int
    position: int | None = None
    """The place of the first difference, counted from the first written token."""
    gap: float | None = None
    """There, in nats: how much more probable the reference's token is to the large model than the other one."""


@dataclass(frozen=True)
class LongSource:
    """A decoding behind a source of another length."""

    ttft_ms: Spread
    ttft_speedup: Spread | None
    """Over `generate`, repeat by repeat."""
    ms_per_token: Spread


@dataclass(frozen=True)
class BackendRow:
    """One engine or peer."""

    kind: str
    """"engine", "small" (an engine with the pair's small model) or "peer"."""
    status: str
    note: str | None = None
    precision: str | None = None
    """The dtype of the weights: "fp32", "fp16", "bf16" or "int8"."""
    ms_per_token: Spread | None = None
    ttft_ms: Spread | None = None
    """From the source to the first token: encoder, the source's keys and values, one step."""
    speedup: Spread | None = None
    """Over `generate`, repeat by repeat."""
    gb_per_s: float | None = None
    gflop_per_s: float | None = None
    roofline: Roofline | None = None
    over_roofline: float | None = None
    """Median ms per token over the roofline's."""
    agreement: SameTokens | None = None
    verification: dict[int, Verification] | None = None
    repeats_ms: dict[int, float] | None = None
    """ms per token of each repeat."""
    by_source: dict[int, LongSource] | None = None
    """By the length of the source, where more than one was asked for."""


@dataclass(frozen=True)
class Rates:
    """The machine's best, seen anywhere in the run."""

    gb_per_s: float
    read_mb: float
    """Size of the buffer that was read."""
    gflop_per_s: float
    matrix: int
    """Rows and columns of the matrices that were multiplied."""
    gb_per_s_in_loop: Spread | None
    gflop_per_s_in_loop: Spread | None
    """Beside the backends; far below the best on a busy machine."""


@dataclass(frozen=True)
class Overhead:
    """The Python between two forward passes, by BiLD's policy and the live driver over engines that answer at once."""

    us_per_pass: Spread
    passes_per_round: float
    round_ms: float | None
    """The forward passes of such a round, as measured in this run; None where no engine was."""
    share: float | None
    """The Python of a round over its passes."""
    engine: str | None


@dataclass(frozen=True)
class BenchResult:
    """One run of `python -m bild.bench`."""

    schema: int
    name: str
    title: str
    created: str
    command: str
    dtype: str
    device: str
    threads: int
    settings: dict[str, Any] = field(metadata={"shape": {"source_length": int, "tokens": int}})
    model: dict[str, Any]
    environment: dict[str, Any] = field(
        metadata={
            "shape": {
                "machine": {"name": str},
                "state": {"load_1min": float},
                "state_after": {"load_1min": float},
                "packages": {"torch": str},
                "git": {"sha": str | None, "dirty": bool | None},
            }
        }
    )
    rates: Rates
    rooflines: dict[int, Roofline]
    """The least that verification passes can cost, by width."""
    rows: dict[str, BackendRow]
    overhead: Overhead
    repeats: int
    interrupted: bool = False

    @property
    def machine(self) -> str:
        """Return the machine's name for people."""
        return str(self.environment["machine"]["name"])


def read_bench(path: Path) -> BenchResult:
    """Read one back; one of version 1 comes back as version 2. BildError where it is no such file."""
    mend = "measure again, or give the JSON that it wrote"
    return read_json(BenchResult, path, "is not a result of python -m bild.bench", mend, BENCH_VERSION, _upgrade)


_RENAMED = {"first_ms": "ttft_ms", "faster": "speedup", "floor": "roofline", "over_floor": "over_roofline"}
_RENAMED |= {"wide": "verification", "floors": "rooflines"}


def _upgrade(plain: Any) -> Any:
    """Return a result of version 1 in the words of version 2; all else is left to the reader of fields."""
    if not isinstance(plain, dict) or plain.get("schema") != 1:
        return plain
    return _renamed({**plain, "rows": _renamed(plain.get("rows"), 3), "schema": BENCH_VERSION})


def _renamed(plain: Any, depth: int = 0) -> Any:
    if not isinstance(plain, dict):
        return plain
    return {_RENAMED.get(key, key): _renamed(value, depth - 1) if depth else value for key, value in plain.items()}


CHECK_VERSION = 1
OK, WRONG, SLOW = "ok", "wrong", "slow"


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at."""

    step: str
    what: str
    verdict: str
    """"ok", "wrong" (a defect, or not to be trusted), "slow" (right, and slower than it should be) or "skipped"."""
    seen: str
    """One line."""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckResult:
    """One run of `bild gpu-check`."""

    schema: int
    created: str
    command: str
    device: str
    minutes: float
    environment: dict[str, Any] = field(metadata={"shape": {"machine": {"name": str}}})
    seconds: dict[str, float]
    """By step."""
    peak_gb: dict[str, float]
    """By step: the most memory that tensors took on the device."""
    findings: list[Checked]

    @property
    def worst(self) -> str:
        """Return the gravest verdict."""
        found = {each.verdict for each in self.findings}
        return next((verdict for verdict in (WRONG, SLOW, OK) if verdict in found), SKIPPED)


def read_check(path: Path) -> CheckResult:
    """Read one back. BildError where it is no such file."""
    return read_json(CheckResult, path, "is not a result of bild gpu-check", "run it again", CHECK_VERSION)
