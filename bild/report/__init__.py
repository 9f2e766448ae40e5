"""Fronts, tables and figures of what runs left behind. No torch here; matplotlib only once a figure is drawn."""

from __future__ import annotations

from bild.report.figure import Missing, Sheet
from bild.report.figures.front import draw, save
from bild.report.points import points_table, show
from bild.report.report import Contents, Part, ReportFiles, contents, markdown, write_report, write_sections
from bild.report.sections import Section, find_sections, make_section
from bild.report.table import Table
from bild.results.reading import Picks, front, picks

__all__ = [
    "Contents",
    "Missing",
    "Part",
    "Picks",
    "ReportFiles",
    "Section",
    "Sheet",
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
    "write_sections",
]
