"""A figure of a report before it is drawn: what it shows, and how to draw it in any colours, at any width."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bild.report.layout import DPI
from bild.report.style import DARK, LIGHT, PALETTE, THEMES, Theme, style
from bild.report.table import escape_markdown, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
            return self.make(THEMES[theme], width)

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
