"""Colours and marks: themes in light and dark, the look of each method, and settings that fix a figure's bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Theme:
    """Colours as #rrggbb: the background, text from strong to quiet, and lines from the axes to the grid."""

    name: str
    paper: str
    strong: str
    ink: str
    soft: str
    quiet: str
    edge: str
    hair: str
    grid: str
    lift: float
    """How far a method's colour goes towards white, to be seen on this background."""
    shade: float
    """How far it goes towards black (below 0) or white (above 0) where it is the colour of text."""

    def mark(self, color: str) -> str:
        """Return a colour for marks, lines and bars on this background."""
        return _mix(color, self.lift)

    def text(self, color: str) -> str:
        """Return a colour for text that can be read on this background."""
        return _mix(color, self.shade)


def _mix(color: str, share: float) -> str:
    end = 255 if share > 0 else 0
    parts = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (end - part) * abs(share)):02x}" for part in parts)


# No colour is pure black: matplotlib leaves that one out of an SVG, so it could not be told apart from none.
LIGHT = Theme(
    "light", "#ffffff", "#010101", "#1a1a1a", "#444445", "#6b6b6b", "#444444", "#bbbbbb", "#eeeeee", 0.0, -0.28
)
DARK = Theme("dark", "#14171a", "#fefefe", "#e6e6e6", "#c4c4c5", "#9a9a9a", "#8f8f8f", "#5c6166", "#262b30", 0.18, 0.4)
THEMES = {"light": LIGHT, "dark": DARK}


def style(theme: Theme) -> dict[Any, Any]:
    """Return settings for matplotlib's `rc_context`; Any, since its own type lists every setting it knows."""
    return {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
        "font.size": 8.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "axes.edgecolor": theme.edge,
        "axes.facecolor": theme.paper,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "xtick.color": theme.edge,
        "ytick.color": theme.edge,
        "xtick.labelcolor": theme.soft,
        "ytick.labelcolor": theme.soft,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "hatch.linewidth": 0.5,
        "svg.hashsalt": "bild",
        "text.parse_math": False,  # a name may have dollar signs
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }


SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, safe for the colour-blind, for points side by side."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2)), (0, (3, 3)))
"""A line of its own for each, so that a black-and-white print tells them apart too."""


class Look(NamedTuple):
    """Colour, mark and its size, name in the legend, colour of text."""

    color: str
    marker: str
    size: float
    name: str
    ink: str


_KNOWN = {
    "vanilla": ("", "*", 11, "vanilla (large model)"),
    "small model": ("#E69F00", "s", 6, "small model"),
    "BiLD": ("#0072B2", "o", 5.5, "BiLD fb/rb"),
    "speculative": ("#009E73", "D", 5.5, "speculative"),
    "CALM": ("#D55E00", "^", 6, "CALM (exit)"),
}
_SPARE = (("#CC79A7", "v"), ("#56B4E9", "P"), ("#7F6A00", "X"), ("#8C8C8D", "h"), ("#D55E00", "<"))
PALETTE = tuple(dict.fromkeys((*SERIES, *(look[0] for look in _KNOWN.values() if look[0]), *(s[0] for s in _SPARE))))
"""Every colour that a mark, a line or a bar may have before a theme adapts it."""
FRONT_COLOR = _KNOWN["BiLD"][0]


def looks(legends: Iterable[str], theme: Theme = LIGHT) -> dict[str, Look]:
    """Return the look of every legend, the well-known first; unknown methods share the spare looks in turn."""
    wanted = set(legends)
    found = {
        name: Look(theme.mark(color), marker, size, title, theme.text(color))
        if color
        else Look(theme.strong, marker, size, title, theme.strong)
        for name, (color, marker, size, title) in _KNOWN.items()
        if name in wanted
    }
    for index, name in enumerate(sorted(wanted - set(_KNOWN))):
        color, marker = _SPARE[index % len(_SPARE)]
        found[name] = Look(theme.mark(color), marker, 5.5, name, theme.text(color))
    return found
