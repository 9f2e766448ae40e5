"""Fronts, tables and figures of what runs left behind. No torch here; matplotlib only once a figure is drawn."""

from __future__ import annotations

from bild.report.contents import Contents, Part, contents
from bild.report.figure import Missing, Sheet
from bild.report.figures.front import draw, save
from bild.report.record_table import markdown, table
from bild.report.sections import Section, find_sections, make_section
from bild.report.table import Table
from bild.report.write import ReportFiles, write_report
from bild.results.pareto import Picks, front, picks

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
    "save",
    "table",
    "write_report",
]
