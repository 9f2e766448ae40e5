"""Sections of a report on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bild.report.record_table import WIDTH, table
from bild.report.sections import Section

if TYPE_CHECKING:
    from rich.console import Console


def wide_console() -> Console:
    """A console at least as wide as the tables: a pipe has no width, and wrapped lines are better than cut ones."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.width >= WIDTH else Console(highlight=False, width=WIDTH)


def show(sections: Iterable[Section], notes: Iterable[str] = ()) -> None:
    """Print sections, then notes line by line."""
    console = wide_console()
    for section in sections:
        console.print(table(section))
        console.print()
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
