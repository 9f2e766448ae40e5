"""Fronts, tables and figures of what runs left behind. No torch here; matplotlib only once a figure is drawn."""

from __future__ import annotations

from bild.report.figures.front import draw, save
from bild.report.points import points_table, show
from bild.report.report import Contents, contents, markdown, write_report
from bild.report.sections import Section, find_sections, make_section
from bild.report.table import Table
from bild.results.reading import front, picks

__all__ = [
    "Contents",
    "Section",
    "Table",
    "contents",
    "draw",
    "find_sections",
    "front",
    "make_section",
    "markdown",
    "picks",
    "points_table",
    "save",
    "show",
    "write_report",
]
