"""A table of a report: rounded text for people as Markdown and LaTeX, and the same as CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from bild.report.files import write_text

FORMATS = ("md", "tex", "csv")
_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "∞": r"$\infty$",
    "−": r"$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "·": r"$\cdot$",
    "µ": r"$\mu$",
    "\u00a0": "~",
}


@dataclass(frozen=True)
class Table:
    """A table: every cell is text, rounded for people.

    `data` are the same rows for machines, with unrounded numbers; empty where the text is all there is. The first
    `names` columns are words, the others numbers.
    """

    stem: str
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    names: int = 1
    data: tuple[dict[str, object], ...] = ()

    def markdown(self) -> str:
        """Title, table and notes as Markdown."""
        align = [":--" if column < self.names else "--:" for column in range(len(self.headings))]
        lines = [list(map(escape_markdown, self.headings)), align]
        lines += [list(map(escape_markdown, row)) for row in self.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        notes = "".join(f"\n- {escape_markdown(note)}" for note in self.notes)
        return f"### {escape_markdown(self.title)}\n\n{body}\n" + (f"{notes}\n" if notes else "")

    def latex(self) -> str:
        """A `table` with booktabs rules; it needs `\\usepackage{booktabs}` and `\\usepackage{textcomp}`."""
        columns = "l" * self.names + "r" * (len(self.headings) - self.names)
        rows = [" & ".join(map(escape_latex, row)) + r" \\" for row in self.rows]
        notes = [rf"\par\smallskip\footnotesize {escape_latex(' '.join(self.notes))}"] if self.notes else []
        lines = [
            "% \\usepackage{booktabs,textcomp}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(self.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(escape_latex, self.headings)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """The rows as CSV (RFC 4180, UTF-8, a line feed after each): unrounded where the table has numbers."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if self.data:
            names = list(dict.fromkeys(name for row in self.data for name in row))
            writer.writerow(names)
            writer.writerows([["" if row.get(name) is None else row[name] for name in names] for row in self.data])
        else:
            writer.writerow(self.headings)
            writer.writerows(self.rows)
        return buffer.getvalue()

    def save(self, out: Path) -> list[Path]:
        """Write `<stem>.md`, `.tex` and `.csv` to the folder `out`. BildError where that cannot be done."""
        texts = (self.markdown(), self.latex(), self.csv())
        return [write_text(out / f"{self.stem}.{kind}", text) for kind, text in zip(FORMATS, texts, strict=True)]


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a table's cell or out of it."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text).replace("\n", " ")


def escape_latex(text: str) -> str:
    """Text that compiles as it is; letters beyond Latin, for which a plain document has no font, become `?`."""
    return "".join(
        _TEX.get(sign) or (sign if sign.isprintable() and ord(sign) < 0x250 else "?")
        for sign in text.replace("\n", " ")
    )
