"""`python -m bild.report results/demo --out demo/`: the table on the terminal, table and figures as files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bild.errors import BildError
from bild.report.terminal import show
from bild.report.write import left_out, write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Report on a results folder. Returns 0, or 2 after one sentence on stderr where nothing could be reported."""
    parser = argparse.ArgumentParser(
        prog="python -m bild.report", description="Tables and figures of the points in a results folder."
    )
    parser.add_argument("results", type=Path, help="a results folder, or any folder within")
    parser.add_argument("--out", type=Path, default=Path("report"), help="where table.md and pareto.* go (report/)")
    given = parser.parse_args(argv)
    try:
        files = write_report(given.results, given.out)
    except BildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    notes = [f"Left out: {line}" for line in left_out(given.results, files.skipped)]
    show(files.sections, [*notes, f"Written: {', '.join(map(str, (files.table, *files.figures)))}"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
