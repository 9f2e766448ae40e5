"""The table of a bench on the terminal; 100 columns are enough."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bild.report.wording import DASH, significant
from bild.results.bench import BenchResult, Row, Spread

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

HEADINGS = ("ms per token", "× generate()", "GB/s", "GFLOP\n/s", "×\nroofline", "TTFT\nms", "same\ntokens")


def bench_table(result: BenchResult) -> Group:
    """Title, decoding, verification passes, and notes as one rich renderable."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(title(result), style="bold"), Text(conditions(result))]
    parts.append(_rich(decode_rows(result)))
    if verification := verification_rows(result):
        parts += [Text(), Text("ms of a verification pass, by new positions (× width 1)"), _rich(verification)]
    return Group(*parts, Text(), *(Text(line, style="dim") for line in notes(result)))


def show_bench(result: BenchResult, files: Iterable[str] = ()) -> None:
    """Print the tables, then where the files are."""
    from bild.report.terminal import wide_console

    console = wide_console()
    console.print(bench_table(result))
    for line in files:
        console.print(line, markup=False, soft_wrap=True)


def title(result: BenchResult) -> str:
    """`t5-small (random weights): fp32, cpu, 1 thread`."""
    return f"{result.title}: {result.dtype}, {result.device}, {result.threads} thread{'s' * (result.threads > 1)}"


def conditions(result: BenchResult) -> str:
    """The machine, the lengths and the load."""
    settings, load = result.settings, result.environment["state"]["load_1min"]
    after = result.environment["state_after"]["load_1min"]
    return (
        f"{result.machine}; source of {settings['source_length']}, {settings['tokens']} tokens after the first, "
        f"{result.repeats} repeats, load {load:g}, then {after:g}"
    )


def decode_rows(result: BenchResult) -> list[list[str]]:
    """Heading, the roofline, then a row for all that was asked for."""
    rows = [["", *HEADINGS]]
    roofline = next(
        (row.roofline for row in result.rows.values() if row.roofline and row.precision == result.dtype), None
    )
    if roofline is not None:
        rates = result.rates
        reached = significant(rates.gb_per_s), significant(rates.gflop_per_s)
        rows.append([f"roofline, {result.dtype}", significant(roofline.ms), "", *reached, "1.00", "", ""])
    return rows + [[name, *_decode_cells(row)] for name, row in result.rows.items()]


def _decode_cells(row: Row) -> list[str]:
    if row.ms_per_token is None:
        return [row.status] + [""] * (len(HEADINGS) - 1)
    return [
        _spread(row.ms_per_token),
        DASH if row.speedup is None else _spread(row.speedup),
        DASH if row.gb_per_s is None else significant(row.gb_per_s),
        DASH if row.gflop_per_s is None else significant(row.gflop_per_s),
        DASH if row.over_roofline is None else significant(row.over_roofline),
        DASH if row.ttft_ms is None else significant(row.ttft_ms.median),
        DASH if row.agreement is None else f"{row.agreement.equal}/{row.agreement.repeats}",
    ]


def verification_rows(result: BenchResult) -> list[list[str]]:
    """Heading, rooflines, then the engines; empty where no width was measured."""
    engines = {name: row.verification for name, row in result.rows.items() if row.verification}
    if not engines:
        return []
    widths = sorted(result.rooflines)
    rows = [["width", *map(str, widths)]]
    rows.append(["roofline", *(significant(result.rooflines[width].ms) for width in widths)])
    for name, verification in engines.items():
        cells = [
            f"{significant(verification[width].ms.median)} ({verification[width].relative.median:.2f})"
            if width in verification
            else DASH
            for width in widths
        ]
        rows.append([name, *cells])
    return rows


def notes(result: BenchResult) -> list[str]:
    """What a reader must know of the numbers: the roofline, the Python between passes, tokens that part, reasons."""
    rates, overhead = result.rates, result.overhead
    beside = ""
    if rates.gb_per_s_in_loop and rates.gflop_per_s_in_loop:
        reads, products = rates.gb_per_s_in_loop.median, rates.gflop_per_s_in_loop.median
        beside = f"; in the loop, median: {reads:.3g} GB/s and {products:.3g} GFLOP/s"
    lines = [
        f"Roofline: bytes that a step must read over {rates.gb_per_s:.3g} GB/s (best sum of {rates.read_mb:,.1f} MB), "
        f"or operations over {rates.gflop_per_s:.3g} GFLOP/s (best product of {rates.matrix} × {rates.matrix}), "
        f"the longer{beside}.",
        "Medians (least–most). Per token: after the first one, which has the encoder and the source's keys and values "
        "(first ms). × generate(): how many times as fast, repeat by repeat. Same tokens: repeats with those of "
        "generate().",
        f"Python between two passes: {overhead.us_per_pass.median:.2f} µs a pass"
        + (
            f", {100 * overhead.share:.2f} % of a round of {overhead.passes_per_round:.1f} passes "
            f"({significant(overhead.round_ms)} ms, {overhead.engine})."
            if overhead.share is not None and overhead.round_ms is not None
            else "."
        ),
    ]
    for name, row in result.rows.items():
        if row.note:
            lines.append(f"{name}: {row.note.rstrip('.')}.")
        parted = row.agreement
        if parted is not None and parted.equal < parted.repeats:
            gap = "" if parted.gap is None else f", where the large model prefers that token by {parted.gap:.2g} nats"
            at = "" if parted.position is None else f" at token {parted.position + 1}"
            lines.append(f"{name}: parts from {parted.reference}{at}{gap}.")
    if result.environment.get("busy"):
        lines.append(f"Warning: {result.environment['busy']}")
    if result.interrupted:
        lines.append(f"Note: stopped after {result.repeats} whole repeats.")
    git = result.environment["git"]
    changed = " with uncommitted changes" if git["dirty"] else ""
    lines.append(f"torch {result.environment['packages']['torch']}, git {(git['sha'] or 'unknown')[:10]}{changed}")
    return lines


def _spread(spread: Spread) -> str:
    """`1.77 (1.44–2.79)`: median, least and most."""
    return f"{significant(spread.median)} ({significant(spread.low)}–{significant(spread.high)})"


def _rich(rows: list[list[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True, show_edge=False)
    for at, heading in enumerate(rows[0]):
        shown.add_column(Text(heading), justify="right" if at else "left", no_wrap=True)
    for row in rows[1:]:
        shown.add_row(*map(Text, row))
    return shown
