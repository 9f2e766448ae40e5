"""How the methods look in a figure: colours, marks, names, and the text beside a point."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from bild.results import Record
from bild.results.hashing import number

# Any, since matplotlib's own type for this is a list of every setting that some version knows.
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#444444",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.color": "#1a1a1a",
    "axes.labelcolor": "#1a1a1a",
    "svg.hashsalt": "bild",
    "svg.fonttype": "path",
}
QUIET = "#6b6b6b"
HAIR = "#bbbbbb"


class Look(NamedTuple):
    """Colour (Okabe and Ito's palette, safe for the colour-blind), mark and its size, name in the legend."""

    color: str
    marker: str
    size: float
    name: str

    @property
    def ink(self) -> str:
        """The colour for text, dark enough to read on white."""
        red, green, blue = (int(int(self.color[i : i + 2], 16) * 0.72) for i in (1, 3, 5))
        return f"#{red:02x}{green:02x}{blue:02x}"


_KNOWN = {
    "vanilla": Look("#000000", "*", 11, "vanilla (large model)"),
    "small": Look("#E69F00", "s", 6, "small model"),
    "bild": Look("#0072B2", "o", 5.5, "BiLD (fb, rb)"),
    "speculative": Look("#009E73", "D", 5.5, "speculative"),
}
_SPARE = (("#D55E00", "^"), ("#CC79A7", "v"), ("#56B4E9", "P"), ("#7F6A00", "X"), ("#555555", "h"))
FRONT_COLOR = _KNOWN["bild"].color


def key(record: Record) -> str:
    """What shares one look: the method, and for BiLD the rules that it followed."""
    if record.method.name == "bild" and record.method.rules not in (None, "paper"):
        return f"bild-{record.method.rules}"
    return record.method.name


def looks(records: Iterable[Record]) -> dict[str, Look]:
    """The look of every key among the records, the well-known first; unknown methods share the spare looks in turn."""
    keys = {key(record) for record in records}
    found = {name: look for name, look in _KNOWN.items() if name in keys}
    for index, name in enumerate(sorted(keys - set(_KNOWN))):
        color, marker = _SPARE[index % len(_SPARE)]
        rules = name.removeprefix("bild-")
        found[name] = Look(color, marker, 5.5, name if rules == name else f"BiLD, {rules}' rules (fb, rb)")
    return found


def caption(record: Record, usual_draft: int | None) -> str:
    """The text beside a point: the thresholds of a BiLD point (and its draft limit where unusual), else a name."""
    fb, rb, draft = record.threshold.fb, record.threshold.rb, record.method.max_draft
    if record.method.name == "bild" and fb is not None and rb is not None:
        tail = f", k={draft}" if draft != usual_draft else ""
        return f"({number(fb)}, {number(rb).replace('inf', '∞')}{tail})"
    if record.method.name == "speculative" and draft is not None:
        return f"speculative, k={draft}"
    return record.label
