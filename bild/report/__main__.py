"""`python -m bild.report results/xsum --out report/`: the tables on the terminal, figures and tables as files."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bild.errors import BildError, guard
from bild.report.check import show_check
from bild.report.format import plural
from bild.report.points import show
from bild.report.report import write_report
from bild.report.sections import MARGIN


def main(argv: Sequence[str] | None = None) -> int:
    """Report on a results folder. Returns 0, or 2 after one sentence on stderr where nothing could be reported."""
    parser = argparse.ArgumentParser(
        prog="python -m bild.report", description="Figures and tables of the points in a results folder."
    )
    parser.add_argument(
        "results", type=Path, help="a results folder, or any folder within; or the file of bild gpu-check"
    )
    parser.add_argument("--out", type=Path, default=Path("report"), help="where report.md and the files go (report/)")
    parser.add_argument(
        "--compare", type=Path, metavar="OTHER", help="another results folder (another machine), shown side by side"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        metavar="POINTS",
        help=f"the loss of quality that verdicts are told at ({MARGIN:g})",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="write this figure or table alone, or the page"
    )
    parser.add_argument("--wide", action="store_true", help="print all columns, however narrow the terminal is")
    given = parser.parse_args(argv)
    if given.results.suffix == ".json" and given.results.is_file():  # of bild gpu-check
        return guard(partial(show_check, given.results))
    return guard(lambda: _report(given))


def _report(given: argparse.Namespace) -> None:
    if not 0 <= given.margin < math.inf:
        raise BildError(
            f"--margin {given.margin:g} is out of range: it is a number of points of the metric, 0 or more."
        )
    files = write_report(given.results, given.out, given.compare, given.margin, given.only)
    notes = [f"Left out: {line}" for line in files.left_out]
    notes += [f"Not shown: {each.title}: {each.why}. Make it: {each.command}" for each in files.missing]
    counts = f"{plural(len(files.figures), 'figure file')} and {plural(len(files.tables), 'table file')}"
    whole = ", ".join(str(path) for path in (files.page, files.text) if path)
    notes.append(f"Written: {', '.join(filter(None, (whole, counts)))} in {given.out}")
    show(files.sections, notes, given.wide)


if __name__ == "__main__":
    sys.exit(main())
