"""How the methods look in a figure: colours, marks, names, and the text beside a point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bild.decoding.names import number
from bild.report.themes import LIGHT, Theme, style
from bild.results import Record
from bild.results.predicted import PredictedPoint

STYLE = style(LIGHT)
QUIET = LIGHT.quiet
HAIR = LIGHT.hair
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours for points of one method side by side."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2)), (0, (3, 3)))
"""A line of its own for each, so that a black-and-white print tells them apart too."""


class Look(NamedTuple):
    """Colour (Okabe and Ito's palette, safe for the colour-blind), mark and its size, name in the legend."""

    color: str
    marker: str
    size: float
    name: str
    ink: str


_KNOWN = {
    "vanilla": ("", "*", 11, "vanilla (large model)"),
    "small": ("#E69F00", "s", 6, "small model"),
    "bild": ("#0072B2", "o", 5.5, "BiLD (fb, rb)"),
    "speculative": ("#009E73", "D", 5.5, "speculative"),
    "calm": ("#D55E00", "^", 6, "CALM (exit)"),
}
_SPARE = (("#CC79A7", "v"), ("#56B4E9", "P"), ("#7F6A00", "X"), ("#8C8C8D", "h"), ("#D55E00", "<"))
PALETTE = tuple(
    dict.fromkeys((*SERIES, *(look[0] for look in _KNOWN.values() if look[0]), *(spare[0] for spare in _SPARE)))
)
"""Every colour that a mark, a line or a bar may have before a theme adapts it."""
FRONT_COLOR = _KNOWN["bild"][0]


def key(point: Record | PredictedPoint) -> str:
    """What shares one look: the method, and for BiLD the rules that it followed."""
    method = point.method
    return f"bild-{method.rules}" if method.name == "bild" and method.rules not in (None, "paper") else method.name


def looks(keys: Iterable[str], theme: Theme = LIGHT) -> dict[str, Look]:
    """The look of every key, the well-known first; unknown methods share the spare looks in turn."""
    keys = set(keys)
    found: dict[str, Look] = {}
    for name, (color, marker, size, title) in _KNOWN.items():
        if name in keys:
            found[name] = _look(color or theme.strong, marker, size, title, theme, ink=None if color else theme.strong)
    for index, name in enumerate(sorted(keys - set(_KNOWN))):
        color, marker = _SPARE[index % len(_SPARE)]
        rules = name.removeprefix("bild-")
        title = name if rules == name else f"BiLD, {rules}' rules (fb, rb)"
        found[name] = _look(color, marker, 5.5, title, theme)
    return found


def _look(color: str, marker: str, size: float, title: str, theme: Theme, ink: str | None = None) -> Look:
    return Look(color if ink else theme.mark(color), marker, size, title, ink or theme.text(color))


def usual_draft(records: Iterable[Record]) -> int | str | None:
    """The draft limit that most BiLD points have, which a caption need not name."""
    drafts = Counter(record.method.max_draft for record in records if record.method.name == "bild")
    return drafts.most_common(1)[0][0] if drafts else None


def caption(record: Record, usual: int | str | None) -> str:
    """The text beside a point: the thresholds of a BiLD point (and its draft limit where unusual), else a name."""
    fb, rb, draft = record.threshold.fb, record.threshold.rb, record.method.max_draft
    if record.method.name == "bild" and fb is not None and rb is not None:
        return thresholds(fb, rb, draft if draft != usual else None)
    if record.method.name == "speculative" and draft is not None:
        return f"speculative, k={draft}"
    return record.label


def thresholds(fb: float, rb: float, draft: int | str | None = None) -> str:
    """`(0.6, 2)`, or `(0.6, ∞, k=4)`."""
    tail = f", k={draft}" if draft is not None else ""
    return f"({number(fb)}, {number(rb).replace('inf', '∞')}{tail})"


def long_names(records: Sequence[Record]) -> list[str]:
    """Names for a legend or an axis: `BiLD (0.6, 2)`, `vanilla`; the hash tells those apart that share one."""
    usual = usual_draft(records)
    names = []
    for record in records:
        name = caption(record, usual)
        if record.method.name == "bild" and name.startswith("("):
            rules = record.method.rules
            name = f"BiLD {name}" if rules in (None, "paper") else f"BiLD, {rules}' rules {name}"
        names.append(name)
    return [
        f"{name} #{record.hash[:6]}" if names.count(name) > 1 else name
        for name, record in zip(names, records, strict=True)
    ]
