"""One kind of table for everything that is printed or written: text for people, unrounded numbers as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bild.errors import plain, refusing
from bild.progress import folded
from bild.report.format import DASH
from bild.results import Interval
from bild.results.files import write_atomically
from bild.results.reading import ends

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType

WIDTH = 100
"""Columns of a terminal that are enough for every table."""
FORMATS = ("md", "tex", "csv")
_NUMBER = re.compile(r"[~+\-−]?\d")
_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"${name}$" for sign, name in {"±": r"\pm", "×": r"\times", "Δ": r"\Delta", "∞": r"\infty"}.items()},
    **{sign: f"${name}$" for sign, name in {"−": "-", "≤": r"\le", "≥": r"\ge", "·": r"\cdot", "µ": r"\mu"}.items()},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "\u00a0": "~",
}


class Column(NamedTuple):
    """A column of `Table.of`: its heading, its name in the CSV, and how a value that is not None is written.

    `of` takes the value from a row. A column without a heading (None) is in the CSV alone. On a narrow terminal the
    columns of the highest rank go first; one of rank 0 stays. `style` is one of rich's, such as "dim italic".
    """

    heading: str | None
    name: str
    write: Callable[[Any], str] = str
    in_csv: bool = True
    rank: int = 0
    style: str = ""
    of: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Table:
    """A table: every cell is text, rounded for people.

    The first `names` columns are words and may wrap on a terminal; a line feed in a heading breaks it there alone.
    `data` are the same rows for machines, with unrounded numbers; empty where the text is all there is. `styles` and
    `ranks` are those of the columns, empty where none has one; `subtitle` stands below the title.
    """

    stem: str
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    names: int = 1
    data: tuple[dict[str, object], ...] = ()
    styles: tuple[str, ...] = ()
    subtitle: str = ""
    ranks: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        stem: str,
        title: str,
        columns: Sequence[Column],
        values: Iterable[Any],
        notes: Iterable[str] = (),
        names: int = 1,
        subtitle: str = "",
    ) -> Table:
        """Build a table from rows of which each column takes its value, or which have them by the columns' names.

        What no column shows of the latter is in the CSV alone, where an interval is three numbers and None is empty.
        """
        values = [row if isinstance(row, Mapping) else {c.name: c.of(row) for c in columns if c.of} for row in values]
        shown = [each for each in columns if each.heading is not None]
        rows = tuple(
            tuple(DASH if row[each.name] is None else each.write(row[each.name]) for each in shown) for row in values
        )
        hidden = {each.name for each in columns if not each.in_csv}
        spans = {name for row in values for name, value in row.items() if isinstance(value, Interval)}
        data: list[dict[str, object]] = []
        for row in values:
            data.append({})
            for name in (name for name in row if name not in hidden):
                data[-1] |= ends(name, row[name]) if name in spans else {name: row[name]}
        headings, styles, ranks = zip(*((each.heading, each.style, each.rank) for each in shown), strict=True)
        return cls(stem, title, headings, rows, tuple(notes), names, tuple(data), styles, subtitle, ranks)

    @property
    def width(self) -> int:
        """Return how many columns of a terminal hold the table with a line a row."""
        columns = zip(self.headings, *self.rows, strict=True)
        return sum(max(map(len, (*heading.split("\n"), *cells))) + 2 for heading, *cells in columns) - 2

    def within(self, width: int) -> Table:
        """Return the table without the columns that a terminal of this width has no room for, and a note on these."""
        shown, gone = self, []
        while shown.width > width and any(shown.ranks):
            last = max(range(len(shown.ranks)), key=lambda index: (shown.ranks[index], index))
            gone.append(_one_line(shown.headings[last]))
            shown = shown._without(last)
        if not gone:
            return self
        note = f"No room for: {', '.join(reversed(gone))}. A wider terminal shows them, and so does a pipe (| cat)."
        return dataclasses.replace(shown, notes=(*shown.notes, note))

    def _without(self, index: int) -> Table:
        def cut(cells: tuple[Any, ...]) -> tuple[Any, ...]:
            return cells[:index] + cells[index + 1 :]

        return dataclasses.replace(
            self,
            headings=cut(self.headings),
            rows=tuple(map(cut, self.rows)),
            names=self.names - (index < self.names),
            styles=cut(self.styles),
            ranks=cut(self.ranks),
        )

    def rich(self) -> Group:
        """Render the table for a terminal: title, rows and notes."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as Shown
        from rich.text import Text

        shown = Shown(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True, show_edge=False)
        styles = (*self.styles, *[""] * (len(self.headings) - len(self.styles)))
        for index, (heading, style) in enumerate(zip(self.headings, styles, strict=True)):
            wraps = index < self.names and heading != ""
            side: Literal["left", "right"] = "left" if self._is_words(index) else "right"
            shown.add_column(Text(heading), style=style, justify=side, no_wrap=not wraps, overflow="fold")
        for row in self.rows:
            shown.add_row(*(Text(plain(cell)) for cell in row))
        parts: list[RenderableType] = [Text(plain(self.title), style="bold")] if self.title else []
        parts += [Text(plain(self.subtitle))] if self.subtitle else []
        return Group(*parts, shown, *(Text(plain(note), style="dim") for note in self.notes))

    def markdown(self, level: int = 3) -> str:
        """Write title, table and notes as Markdown."""
        align = [":--" if self._is_words(index) else "--:" for index in range(len(self.headings))]
        lines = [[escape_markdown(_one_line(heading)) for heading in self.headings], align]
        lines += [list(map(escape_markdown, row)) for row in self.rows]
        blocks = [f"{'#' * level} {escape_markdown(self.title)}", escape_markdown(self.subtitle)]
        blocks += ["\n".join("| " + " | ".join(line) + " |" for line in lines)]
        blocks += ["\n".join(f"- {escape_markdown(note)}" for note in self.notes)]
        return "\n\n".join(filter(None, blocks)) + "\n"

    def latex(self) -> str:
        """Write a `table` with booktabs rules; it needs `\\usepackage{booktabs}` and `\\usepackage{textcomp}`."""
        columns = "".join("l" if self._is_words(index) else "r" for index in range(len(self.headings)))
        rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in self.rows]
        notes = [rf"\par\smallskip\footnotesize {escape_latex(' '.join(self.notes))}"] if self.notes else []
        lines = [
            "% \\usepackage{booktabs,textcomp}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(self.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(escape_latex(_one_line(heading)) for heading in self.headings) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Write the rows as CSV (RFC 4180, UTF-8, line feeds): unrounded where the table has numbers."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if self.data:
            names = list(dict.fromkeys(name for row in self.data for name in row))
            writer.writerow(names)
            writer.writerows([[_cell(row.get(name)) for name in names] for row in self.data])
        else:
            writer.writerow(map(_one_line, self.headings))
            writer.writerows([list(map(_cell, row)) for row in self.rows])
        return buffer.getvalue()

    def html(self) -> str:
        """Write safe markup: title, a table that scrolls by itself, notes."""
        sides = [' class="words"' if self._is_words(index) else "" for index in range(len(self.headings))]
        lines: list[tuple[str, ...]] = [tuple(map(_one_line, self.headings)), *self.rows]
        if not self.headings[0]:  # a row is headed by its name, not by its sign
            sides, lines = sides[1:], [(f"{name} {sign}".strip(), *rest) for sign, name, *rest in lines]
        head = "".join(f'<th scope="col"{side}>{escape(text)}</th>' for side, text in zip(sides, lines[0], strict=True))
        rows = ""
        for first, *others in lines[1:]:
            cells = zip(sides[1:], others, strict=True)
            rows += f'<tr><th scope="row">{escape(first)}</th>'
            rows += "".join(f"<td{side}>{escape(text)}</td>" for side, text in cells) + "</tr>"
        notes = "".join(f'<p class="quiet">{escape(note)}</p>' for note in self.notes)
        return (
            f'<div class="table-block" data-stem="{escape(self.stem)}"><h3>{escape(self.title)}</h3>'
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(self.title)}">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{notes}</div>"
        )

    def save(self, out: Path) -> list[Path]:
        """Write `<stem>.md`, `.tex` and `.csv` to the folder `out`. BildError where that cannot be done."""
        texts = (self.markdown(), self.latex(), self.csv())
        return [write_text(out / f"{self.stem}.{kind}", text) for kind, text in zip(FORMATS, texts, strict=True)]

    def _is_words(self, index: int) -> bool:
        """Tell a column of words, which is aligned at its left, from one of numbers."""
        return index < self.names or not any(_NUMBER.match(row[index]) for row in self.rows)


def wide_console(width: int = WIDTH) -> Console:
    """Return a console for a terminal as wide as it is, for a pipe at least so wide: wrapped lines beat cut ones."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal or found.width >= width else Console(highlight=False, width=width)


def show_tables(tables: Iterable[Table | RenderableType], notes: Iterable[str] = (), wide: bool = False) -> None:
    """Print tables, or anything that rich can print, then notes line by line.

    A terminal has as many columns of a table as fit, unless `wide` asks for all of them; a pipe has all.
    """
    from rich.console import Console

    out = wide_console()
    for table in tables:
        if isinstance(table, Table):
            shown = table if wide or not out.is_terminal else table.within(out.width)
            room = Console(highlight=False, width=max(out.width, shown.width)) if shown is table else out
            room.print(shown.rich())
        else:
            out.print(table)
        out.print()
    for note in map(plain, notes):
        out.print(folded(note, out.width - 1) if out.is_terminal else note, markup=False, soft_wrap=True)


def write_text(path: Path, text: str | bytes) -> Path:
    """Write a file and the folders above it, and return its path. BildError where that cannot be done."""
    with refusing(lambda why: f"{path} cannot be written ({why}): choose another folder for the report.", OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace"))
    return path


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, in a table's cell or out of it."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", plain(text)).replace("\n", " ")


def escape_latex(text: str) -> str:
    """Return text that compiles as it is; letters beyond Latin, for which a plain document has no font, become `?`."""
    return "".join(
        _TEX.get(sign) or (sign if sign.isprintable() and ord(sign) < 0x250 else "?")
        for sign in text.replace("\n", " ")
    )


def _cell(value: object) -> object:
    """Return a cell of a CSV, None an empty one; a word that a spreadsheet would take for a formula is quoted."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = plain(value).replace("\n", " ")
    return f"'{text}" if text[:1] in ("=", "@", "+", "-") and not _NUMBER.match(text) and len(text) > 1 else text


def _one_line(heading: str) -> str:
    return heading.replace("-\n", "").replace("\n", " ")
