"""The verdicts of a GPU check as a table: one line for each thing that was looked at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bild.report.format import plural
from bild.report.table import Table, show_tables
from bild.results.bench import CheckResult, read_check


def check_table(result: CheckResult) -> Table:
    """Return the table, with what was run on below its title and the sums as a note."""
    rows = [(each.verdict, each.step, each.what, each.seen) for each in result.findings]
    counts = Counter(each.verdict for each in result.findings)
    sums = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    minutes = sum(result.seconds.values()) / 60
    peak = max(result.peak_gb.values(), default=0.0)
    memory = f", at most {peak:.1f} GB on the device" if peak else ""
    note = f"{plural(len(rows), 'check')}: {sums}; {minutes:.1f} minutes{memory}"
    name = f"{result.environment['machine']['name']}, {result.device}"
    headings = ("", "step", "what", "seen")
    return Table("gpu-check", f"GPU check: {name}", headings, tuple(rows), names=4, notes=(note,))


def show_check(path: Path) -> None:
    """Show a check that was written to a file."""
    show_tables([check_table(read_check(path))])
