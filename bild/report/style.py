"""The colours of a figure in light and in dark, and the settings that make its bytes the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
        """A colour for marks, lines and bars on this background."""
        return _mix(color, self.lift)

    def text(self, color: str) -> str:
        """A colour for text that can be read on this background."""
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
    """Settings for matplotlib's `rc_context`; Any, since its own type for this is a list of every setting it knows."""
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
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
