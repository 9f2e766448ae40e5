"""The tables of an engine bench and of a GPU check, and the bench's figure: ms per token against the roofline.

`python -m bild.report.bench bench/*.json` draws anew what was measured. The same result gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bild.errors import Arguments, BildError, guard
from bild.report.figure import Sheet, Theme
from bild.report.format import DASH, plural, significant
from bild.report.labels import text_inches
from bild.report.layout import handle, note, open_frame, plain
from bild.report.table import Table
from bild.results.bench import BackendRow, BenchResult, CheckResult, Spread, Verification, read_bench

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADINGS = ("", "ms per\ntoken", "×\ngenerate()", "GB/s", "GFLOP\n/s", "× roof-\nline", "TTFT\nms", "same\ntokens")
RANKS = (0, 0, 0, 4, 5, 1, 2, 3)
"""The columns that a narrow terminal leaves out first; of the widths, those between the first and the last."""
_ENGINES = {
    "hf": ("#E69F00", "s"),
    "fused": ("#0072B2", "o"),
    "graph": ("#009E73", "D"),
    "graph-triton": ("#CC79A7", "v"),
}
_SPARE = (("#56B4E9", "P"), ("#D55E00", "^"))
_ROOFLINE = "#D55E00"
_LOG_FROM = 8.0
"""The slowest over the fastest from which a linear axis would squeeze the fast ones together."""


def bench_tables(result: BenchResult) -> list[Table]:
    """Return decoding, large passes by their width where these were measured, and notes below the last."""
    found = [
        Table("decode", title(result), HEADINGS, tuple(_decode_rows(result)), subtitle=conditions(result), ranks=RANKS)
    ]
    if rows := _width_rows(result):
        headings = ("width", *map(str, sorted(result.rooflines)))
        ranks = (0, 0, *[1] * (len(headings) - 3), 0)[: len(headings)]
        found.append(Table("widths", "ms of a pass, by new positions (× width 1)", headings, tuple(rows), ranks=ranks))
    if rows := _source_rows(result):
        headings = ("source", "ms to the\nfirst token", "×\ngenerate()", "ms per\ntoken")
        found.append(Table("sources", "Behind long sources", headings, tuple(rows), ranks=(0, 0, 1, 0)))
    found[-1] = dataclasses.replace(found[-1], notes=tuple(notes(result)))
    return found


def title(result: BenchResult) -> str:
    """Write `t5-small (random weights): fp32, cpu, 1 thread`."""
    return f"{result.title}: {result.dtype}, {result.device}, {plural(result.threads, 'thread')}"


def conditions(result: BenchResult) -> str:
    """Name the machine, the lengths and the load."""
    settings, load = result.settings, result.environment["state"]["load_1min"]
    after = result.environment["state_after"]["load_1min"]
    return (
        f"{result.machine}; source of {settings['source_length']}, {settings['tokens']} tokens after the first, "
        f"{result.repeats} repeats, load {load:g}, then {after:g}"
    )


def _decode_rows(result: BenchResult) -> list[tuple[str, ...]]:
    """Return the roofline, then a row for all that was asked for."""
    roofline = next(
        (row.roofline for row in result.rows.values() if row.roofline and row.precision == result.dtype), None
    )
    rows: list[tuple[str, ...]] = []
    if roofline is not None:
        reached = significant(result.rates.gb_per_s), significant(result.rates.gflop_per_s)
        rows.append((f"roofline, {result.dtype}", significant(roofline.ms), "", *reached, "1.00", "", ""))
    for name, row in result.rows.items():
        if row.ms_per_token is None:
            rows.append((name, row.status, *[""] * (len(HEADINGS) - 2)))
            continue
        agreement = f"{row.agreement.equal}/{row.agreement.repeats}" if row.agreement else DASH
        numbers = (row.gb_per_s, row.gflop_per_s, row.over_roofline, row.ttft_ms.median if row.ttft_ms else None)
        cells = (DASH if value is None else significant(value) for value in numbers)
        rows.append((name, _spread(row.ms_per_token), _spread(row.speedup), *cells, agreement))
    return rows


def _width_rows(result: BenchResult) -> list[tuple[str, ...]]:
    """Return rooflines, then the engines; empty where no width was measured."""
    engines = {name: row.verification for name, row in result.rows.items() if row.verification}
    rows = [("roofline", *(significant(result.rooflines[width].ms) for width in sorted(result.rooflines)))]
    for name, by_width in engines.items():
        found = [by_width.get(width) for width in sorted(result.rooflines)]
        cells = (f"{significant(w.ms.median)} ({w.relative.median:.2f})" if w else DASH for w in found)
        rows.append((name, *cells))
    return rows if engines else []


def _source_rows(result: BenchResult) -> list[tuple[str, ...]]:
    """Return the long sources, all engines and peers of one length together."""
    found = [
        (length, name, long) for name, row in result.rows.items() for length, long in (row.by_source or {}).items()
    ]
    found.sort(key=lambda one: one[0])
    return [
        (f"{length}, {name}", *map(_spread, (long.ttft_ms, long.ttft_speedup, long.ms_per_token)))
        for length, name, long in found
    ]


def _spread(spread: Spread | None) -> str:
    """Write median, least and most: `1.77 (1.44–2.79)`."""
    if spread is None:
        return DASH
    return f"{significant(spread.median)} ({significant(spread.low)}–{significant(spread.high)})"


def notes(result: BenchResult) -> list[str]:
    """Say what a reader must know: the roofline, the Python between passes, tokens that part, reasons."""
    rates, overhead = result.rates, result.overhead
    beside = share = ""
    if rates.gb_per_s_in_loop and rates.gflop_per_s_in_loop:
        reads, products = rates.gb_per_s_in_loop.median, rates.gflop_per_s_in_loop.median
        beside = f"; in the loop, median: {reads:.3g} GB/s and {products:.3g} GFLOP/s"
    if overhead.share is not None and overhead.round_ms is not None:
        share = (
            f", {100 * overhead.share:.2f} % of a round of {overhead.passes_per_round:.1f} passes "
            f"({significant(overhead.round_ms)} ms, {overhead.engine})"
        )
    lines = [
        f"Roofline: bytes that a step must read over {rates.gb_per_s:.3g} GB/s (best sum of {rates.read_mb:,.1f} MB), "
        f"or operations over {rates.gflop_per_s:.3g} GFLOP/s (best product of {rates.matrix} × {rates.matrix}), "
        f"the longer{beside}.",
        "Medians (least–most). Per token: after the first one, which has the encoder and the source's keys and values "
        "(TTFT). × generate(): how many times as fast, repeat by repeat. Same tokens: repeats with those of "
        "generate().",
        f"Python between two passes: {overhead.us_per_pass.median:.2f} µs a pass{share}.",
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


def bench_sheet(result: BenchResult) -> Sheet:
    """Return the figure of one result. BildError where nothing in it was measured."""
    # What was measured of the large model, slowest first, so that the fastest is at the foot, beside the roofline.
    rows = [(name, row) for name, row in result.rows.items() if row.ms_per_token and row.kind != "small"]
    if not rows:
        raise BildError(f"{result.name} has no measured row to draw.")
    rows.sort(key=lambda item: -item[1].ms_per_token.median if item[1].ms_per_token else 0.0)
    return Sheet(result.name, title(result), conditions(result), partial(_draw, result, rows))


def save_bench(result: BenchResult, out: Path) -> list[Path]:
    """Write `<name>.png` and `<name>.svg` to the folder `out`, and return their paths. BildError where none can be."""
    return bench_sheet(result).save(out, (("", "light", "print", ("png", "svg")),))


def _look(name: str, row: BackendRow, theme: Theme) -> tuple[str, str]:
    color, marker = _ENGINES.get(name) or _SPARE[sum(map(ord, name)) % len(_SPARE)]
    return theme.mark(color) if row.kind == "engine" else theme.hair, marker


def _draw(result: BenchResult, bars: Sequence[tuple[str, BackendRow]], theme: Theme, width: str) -> Figure:
    by_width = {
        name: row.verification for name, row in result.rows.items() if row.verification and len(row.verification) > 1
    }
    looks = {name: _look(name, row, theme) for name, row in result.rows.items()}
    rates = result.rates
    words = (
        f"Medians, lines from least to most. Roofline: what a step must read at {rates.gb_per_s:.3g} GB/s "
        f"(best sum of {rates.read_mb:,.0f} MB), or compute at {rates.gflop_per_s:,.0f} GFLOP/s, whichever is longer."
    )
    if any(row.precision == "int8" and row.ms_per_token for row in result.rows.values()):
        words += " int8 has its own roofline, since its weights are a quarter of the bytes."
    height = max(0.24 * len(bars) + 0.22, 1.6 if by_width else 0.0)
    frame = open_frame(
        theme,
        width,
        title(result),
        conditions(result),
        words,
        [handle(n, looks[n][0], linestyle="-", linewidth=1.2, marker=looks[n][1], markersize=4) for n in by_width],
        heights=(height, height) if by_width else (height,),
        shares=(1.5, 1) if by_width and width == "print" else (),
        left=0.2 + max(text_inches(name, 8.5) for name, _ in bars),
        right=0.12,
        head=0.06,
    )
    _draw_bars(frame.panels[0], result, bars, {name: look[0] for name, look in looks.items()}, theme)
    if by_width:
        _draw_widths(frame.panels[1], by_width, looks, theme)
    return frame.figure


def _draw_bars(
    axes: Axes, result: BenchResult, bars: Sequence[tuple[str, BackendRow]], colors: dict[str, str], theme: Theme
) -> None:
    spreads = [row.ms_per_token for _, row in bars if row.ms_per_token]
    rooflines = {row.precision: row.roofline.ms for _, row in bars if row.roofline}
    line, own = theme.mark(_ROOFLINE), rooflines.get(result.dtype)
    look = {"va": "center", "ha": "left", "annotation_clip": False, "path_effects": None}
    for at, ((name, row), spread) in enumerate(zip(bars, spreads, strict=True)):
        axes.barh(at, spread.median, height=0.66, color=colors[name], zorder=2)
        axes.plot([spread.low, spread.high], [at, at], color=theme.strong, linewidth=0.8, zorder=4)
        over = "" if row.over_roofline is None else f"  ({row.over_roofline:.1f}× roofline)"
        note(axes, f"{significant(spread.median)}{over}", (max(spread.high, spread.median), at), (4, 0), look, theme)
        if row.roofline and row.precision != result.dtype:  # its own: its weights are smaller
            axes.plot([row.roofline.ms] * 2, [at - 0.33, at + 0.33], color=line, linewidth=1.2, zorder=5)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    if own is not None:
        axes.axvline(own, color=line, linewidth=1.2, zorder=5)
        named = look | {"ha": "center", "color": theme.text(_ROOFLINE)}
        note(axes, f"roofline {significant(own)}", (own, -0.6), (0, 6), named, theme)
    least = min([*rooflines.values(), *(spread.low for spread in spreads)])
    most, medians = max(spread.high for spread in spreads), [spread.median for spread in spreads]
    log = max(medians) > _LOG_FROM * min(medians)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(least / 1.6, most * (most / least) ** 0.75)
        shown = [10.0**n for n in range(-6, 7) if least / 1.6 <= 10.0**n <= 3 * most]  # the rest is room for words
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.minorticks_off()
    else:
        axes.set_xlim(0, most * 1.5)
    plain(axes, theme, "x")
    axes.set_xlabel(f"ms per token{' (logarithmic)' if log else ''}")


def _draw_widths(
    axes: Axes, by_width: dict[str, dict[int, Verification]], looks: dict[str, tuple[str, str]], theme: Theme
) -> None:
    """Draw each engine by its own width 1, and not the roofline's curve."""
    widths = sorted({width for found in by_width.values() for width in found})
    for name, found in by_width.items():
        color, marker = looks[name]
        at, spans = sorted(found), [found[width].relative for width in sorted(found)]
        medians = [span.median for span in spans]
        axes.plot(at, medians, color=color, marker=marker, markersize=4, linewidth=1.2, label=name, zorder=3)
        ends = [span.low for span in spans], [span.high for span in spans]
        axes.vlines(at, *ends, color=color, linewidth=0.7, alpha=0.5)
    axes.axhline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.set_ylim(0, 1.12 * max(found.relative.median for passes in by_width.values() for found in passes.values()))
    plain(axes, theme)
    axes.set_xlabel("new positions of a pass")
    axes.set_ylabel(f"time over width {widths[0]}")


def check_table(result: CheckResult) -> Table:
    """Return the table, with what was run on below its title and the sums as a note."""
    rows = [(each.verdict, each.step, each.what, each.seen) for each in result.findings]
    counts = Counter(each.verdict for each in result.findings)
    sums = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    minutes = sum(result.seconds.values()) / 60
    peak = max(result.peak_gb.values(), default=0.0)
    memory = f", at most {peak:.1f} GB on the device" if peak else ""
    note = f"{plural(len(rows), 'check')}: {sums}; {minutes:.1f} minutes{memory}"
    what = f"GPU check: {result.environment['machine']['name']}, {result.device}"
    return Table("gpu-check", what, ("", "step", "what", "seen"), tuple(rows), names=4, notes=(note,))


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw results beside themselves; returns the exit code."""
    parser = Arguments(prog="python -m bild.report.bench", description="Redraw what bild bench measured.")
    parser.add_argument("results", type=Path, nargs="+", metavar="bench/t5-small-fp32-cpu.json")

    def draw() -> None:
        for path in parser.parse_args(arguments).results:
            print(*save_bench(read_bench(path), path.parent))

    return guard(draw)


if __name__ == "__main__":
    sys.exit(main())
