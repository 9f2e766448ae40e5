"""`python -m bild.report results/xsum --out report/`: the tables on the terminal, figures and tables as files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bild.errors import guard
from bild.report.check import show_check
from bild.report.points import show
from bild.report.report import write_report


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
    given = parser.parse_args(argv)
    if given.results.suffix == ".json" and given.results.is_file():  # of bild gpu-check
        return guard(partial(show_check, given.results))
    return guard(lambda: _report(given.results, given.out, given.compare))


def _report(results: Path, out: Path, compare: Path | None) -> None:
    files = write_report(results, out, compare)
    notes = [f"Left out: {line}" for line in files.left_out]
    notes += [f"Not shown: {each.title}: {each.why}. Make it: {each.command}" for each in files.missing]
    pictures, tables = len(files.figures), len(files.tables)
    notes.append(f"Written: {files.page}, {files.text}, {pictures} figures and {tables} tables in {out}")
    show(files.sections, notes)


if __name__ == "__main__":
    sys.exit(main())
