"""The ledger of confirmations of a pair: settings that were looked at on examples that had no say in their choice.

Every further look at the same examples makes it likelier that one of them passes by luck, so looks are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LEDGER = "confirmations.jsonl"
"""A line a look."""


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
    choices: list[MethodChoice] = field(default_factory=list)
    """By method and margin, where the search was one of methods."""
