"""The ledger of confirmations of a pair: settings that were looked at on examples that had no say in their choice.

Every further look at the same examples makes it likelier that one of them passes by luck, so looks are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

LEDGER = "confirmations.jsonl"
"""A line a look."""


@dataclass(frozen=True)
class LedgerEntry:
    """One confirmation: which settings were looked at, on which examples, when."""

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
