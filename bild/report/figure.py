"""A figure of a report before it is drawn: what it shows, and how to draw it in any colours, at any width.

Below it the colours and marks: themes in light and dark, the look of each method, and settings that fix its bytes.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from bild.report.table import escape_markdown, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
VARIANTS = (
    ("", "light", "print", ("svg", "pdf", "png")),
    ("-dark", "dark", "print", ("svg",)),
    ("-phone", "light", "phone", ("svg",)),
    ("-phone-dark", "dark", "phone", ("svg",)),
)
"""The files of a figure: the end of the name, theme, width, formats."""
_COLOR = re.compile(r"#[0-9a-f]{6}\b")
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Sheet:
    """One figure: the stem of its files, its title and what it says in words, and the function that draws it."""

    stem: str
    title: str
    caption: str
    make: Callable[[Theme, str], Figure]
    _svgs: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def draw(self, theme: str = "light", width: str = "print") -> Figure:
        """Draw the figure in a theme (`light`, `dark`) at a width (`print`, `phone`)."""
        import matplotlib  # takes most of a second: only where a figure is drawn

        with matplotlib.rc_context(style(THEMES[theme])):
            figure = self.make(THEMES[theme], width)
            _keep_labels(figure)
        return figure

    def svg(self, theme: str = "light", width: str = "print") -> str:
        """Return the figure as the text of an SVG: the same bytes from the same records."""
        return recolor(self._light_svg(width), theme)

    def css_svg(self, width: str = "print") -> str:
        """Return one SVG for light and dark: colours that differ are CSS variables, which `css_colors` defines."""
        return _COLOR.sub(lambda found: _variable(found[0], _dark().get(found[0], found[0])), self._light_svg(width))

    def save(self, out: Path, variants: Iterable[tuple[str, str, str, Sequence[str]]] = VARIANTS) -> list[Path]:
        """Write the figure's files to the folder `out`, and return them. BildError where that cannot be done."""
        paths = []
        figure = cache(self.draw)
        for end, theme, width, formats in variants:
            for kind in formats:
                if kind == "svg":
                    content = recolor(self._light_svg(width, figure), theme).encode()
                else:
                    buffer = io.BytesIO()
                    write(figure(theme, width), buffer, kind, THEMES[theme])
                    content = buffer.getvalue()
                paths.append(write_text(out / f"{self.stem}{end}.{kind}", content))
        return paths

    def markdown(self, folder: str) -> str:
        """Write heading, picture and caption as Markdown; the files lie in `folder`."""
        return (
            f"### {escape_markdown(self.title)}\n\n<picture>\n"
            f'  <source media="(prefers-color-scheme: dark)" srcset="{folder}/{self.stem}-dark.svg">\n'
            f'  <img src="{folder}/{self.stem}.svg" alt="{html.escape(self.caption)}">\n</picture>\n\n'
            f"{escape_markdown(self.caption)}"
        )

    def _light_svg(self, width: str, draw: Callable[[str, str], Figure] | None = None) -> str:
        """Draw once a width, for files and page alike: dark is light with other colours."""
        if width not in self._svgs:
            buffer = io.BytesIO()
            write((draw or self.draw)("light", width), buffer, "svg", THEMES["light"])
            self._svgs[width] = buffer.getvalue().decode("utf-8")
        return self._svgs[width]


@dataclass(frozen=True)
class Missing:
    """A figure or table that the data does not allow: what is missing, and the command that makes it."""

    title: str
    why: str
    command: str

    def markdown(self) -> str:
        """Write a line of a list."""
        return f"- {escape_markdown(self.title)}: {escape_markdown(self.why)}. Command: `{self.command}`"

    def html(self) -> str:
        """Write safe markup."""
        title, why, command = map(html.escape, (self.title, self.why, self.command))
        return f'<p class="note"><strong>{title}</strong> is not here: {why}. Make it: <code>{command}</code></p>'


def _keep_labels(figure: Figure) -> None:
    """Narrow panels whose labels at the left or right would leave the figure: how wide numbers are shows only now."""
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    wide, free = figure.bbox.width, 0.03 * figure.dpi
    for axes in figure.axes:
        sides = [axes, *axes.child_axes]
        for each in sides:  # the scores at the right take their place only when they are drawn
            locator: Any = each.get_axes_locator()
            each.apply_aspect(locator and locator(each, renderer))
        boxes = [box for each in sides if (box := each.yaxis.get_tightbbox(renderer)) is not None]
        left = max([0.0, *(free - box.x0 for box in boxes)]) / wide
        right = max([0.0, *(box.x1 - wide + free for box in boxes)]) / wide
        if left or right:
            x, y, width, height = axes.get_position().bounds
            axes.set_position((x + left, y, width - left - right, height))


def write(figure: Figure, file: IO[bytes], kind: str, theme: Theme) -> None:
    """Write a drawn figure as `svg`, `pdf` or `png`, without a date or a version in it."""
    import matplotlib

    with matplotlib.rc_context(style(theme)):
        figure.savefig(file, format=kind, dpi=DPI, metadata=_METADATA[kind])


def css_colors(svgs: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the CSS variables that `css_svg` used, with their values in light and in dark."""
    names = sorted({name for svg in svgs for name in re.findall(r"var\((--bild-[0-9a-f]{6}-[0-9a-f]{6}),", svg)})
    return {name: f"#{name[7:13]}" for name in names}, {name: f"#{name[14:20]}" for name in names}


def recolor(svg: str, theme: str) -> str:
    """Return a light SVG in another theme."""
    return svg if theme == "light" else _COLOR.sub(lambda found: _dark().get(found[0], found[0]), svg)


@cache
def _dark() -> dict[str, str]:
    """Return for each colour of a light figure that of a dark one; a colour of the data, such as a cell's, stays."""
    plain = {getattr(LIGHT, field.name): getattr(DARK, field.name) for field in fields(Theme) if field.name != "name"}
    pairs = {str(light): str(dark) for light, dark in plain.items() if isinstance(light, str)}
    for color in PALETTE:
        pairs[LIGHT.mark(color)] = DARK.mark(color)
        pairs[LIGHT.text(color)] = DARK.text(color)
    return pairs


def _variable(light: str, dark: str) -> str:
    return light if light == dark else f"var(--bild-{light[1:]}-{dark[1:]}, {light})"


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
