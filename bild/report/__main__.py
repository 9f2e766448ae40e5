"""`python -m bild.report results/xsum --out report/`: the tables on the terminal, figures and tables as files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bild.config import margin_of
from bild.errors import Arguments, guard
from bild.options import folder_of
from bild.report.bench import check_table
from bild.report.format import plural
from bild.report.points import show
from bild.report.report import write_report
from bild.report.sections import MARGIN
from bild.report.table import show_tables
from bild.results.bench import read_check


def main(argv: Sequence[str] | None = None) -> int:
    """Report on a results folder. Returns 0, or 2 after one sentence on stderr where nothing could be reported."""
    parser = Arguments(prog="bild report", description="Figures and tables of the points in a results folder.")
    parser.add_argument(
        "results", type=folder_of, help="a results folder, or any folder within; or the file of bild gpu-check"
    )
    parser.add_argument(
        "--out", type=folder_of, default=Path("report"), help="where report.md and the files go (report/)"
    )
    parser.add_argument(
        "--compare",
        type=folder_of,
        metavar="OTHER",
        help="another results folder (another machine), shown side by side",
    )
    parser.add_argument(
        "--margin",
        type=margin_of,
        default=MARGIN,
        metavar="POINTS",
        help=f"the loss of quality that verdicts allow ({MARGIN:g})",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="write this figure or table alone, or the page"
    )
    parser.add_argument("--wide", action="store_true", help="print all columns, however narrow the terminal is")

    def report() -> None:
        given = parser.parse_args(argv)
        if given.results.suffix == ".json" and given.results.is_file():  # of bild gpu-check
            show_tables([check_table(read_check(given.results))])
        else:
            _report(given)

    return guard(report)


def _report(given: argparse.Namespace) -> None:
    files = write_report(given.results, given.out, given.compare, given.margin, given.only)
    notes = [f"Left out: {line}" for line in files.shown.left_out]
    missing = (*files.shown.missing, *(each for part in files.shown.parts for each in part.missing))
    notes += [f"Not shown: {each.title}: {each.why}. Make it: {each.command}" for each in missing]
    counts = f"{plural(len(files.figures), 'figure file')} and {plural(len(files.tables), 'table file')}"
    whole = ", ".join(str(path) for path in (files.page, files.text) if path)
    notes.append(f"Written: {', '.join(filter(None, (whole, counts)))} in {given.out}")
    show(files.shown.sections, notes, given.wide)


if __name__ == "__main__":
    sys.exit(main())
