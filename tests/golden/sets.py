"""The golden sets: ours, and the reference set made by the authors' own code where it lies beside the checkout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from bild.models import Pair, load_pair

OWN = Path(__file__).parent
REFERENCE = Path(__file__).parents[2].parent / "shared" / "golden"


@dataclass(frozen=True)
class Golden:
    """One pair of one set."""

    folder: Path
    name: str

    @property
    def _traces(self) -> dict[str, list[dict[str, Any]]]:
        traces: dict[str, list[dict[str, Any]]] = _read(self.folder)[self.name]
        return traces

    @property
    def cases(self) -> list[dict[str, Any]]:
        """Settings, `output` and `calls` under the authors' rules."""
        return self._traces["bild"]

    @property
    def greedy(self) -> list[dict[str, Any]]:
        """`input`, and what the `large` and the `small` model write alone."""
        return self._traces["greedy"]

    def pair(self) -> Pair:
        """The two models in fp32 on the CPU."""
        return _load(self.folder, self.name)


@cache
def _read(folder: Path) -> Any:
    return json.loads((folder / "traces.json").read_text())


@cache
def _load(folder: Path, name: str) -> Pair:
    torch.set_num_threads(1)
    return load_pair(str(folder / f"{name}-large"), str(folder / f"{name}-small"), device="cpu")


def _sets() -> list[Any]:
    reference = (REFERENCE / "traces.json").is_file()
    absent = pytest.mark.skipif(not reference, reason="the reference set is not beside this checkout")
    own = [pytest.param(Golden(OWN, name), id=f"own-{name}") for name in ("t5", "mt5")]
    return own + [pytest.param(Golden(REFERENCE, n), id=f"reference-{n}", marks=absent) for n in ("t5", "mt5u")]


every_golden = pytest.mark.parametrize("golden", _sets())
"""Runs a test on each pair, the reference ones only where they are."""
