"""The JSON of a GPU check: one finding per thing that was looked at. No torch, so that a report can draw it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bild.files import write_atomically
from bild.results.codec import dumps, encode, read_json

CHECK_VERSION = 1
OK, WRONG, SLOW, SKIPPED = "ok", "wrong", "slow", "skipped"


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
    environment: dict[str, Any]
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


def write_check(result: CheckResult, path: Path) -> None:
    """Write it as strict JSON, whole or not at all."""
    write_atomically(path, dumps(encode(result), indent=1) + "\n")


def read_check(path: Path) -> CheckResult:
    """Read one back. BildError where it is no such file."""
    return read_json(CheckResult, path, "is not a result of bild gpu-check", "run it again", CHECK_VERSION)
