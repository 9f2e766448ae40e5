"""The figure of a bench: ms per token against the machine's roofline, and what a verification pass costs.

`python -m bild.report.bench_figure bench/*.json` draws anew what was measured. The same result gives the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bild.errors import BildError
from bild.report.bench_table import conditions, title
from bild.report.looks import HAIR, QUIET, STYLE
from bild.report.wording import significant
from bild.results.bench import BenchResult, Row, Verification, read_bench

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
_WIDTH = 7.0  # inches: the text width of a page
_ENGINES = {"hf": ("#E69F00", "s"), "fused": ("#0072B2", "o"), "graph": ("#009E73", "D")}
_SPARE = (("#CC79A7", "v"), ("#56B4E9", "P"), ("#D55E00", "^"))
_PEER = "#b8b8b8"
_LOG_FROM = 8.0
"""The slowest over the fastest from which a linear axis would squeeze the fast ones together."""


def draw_bench(result: BenchResult) -> Figure:
    """The figure of one result. BildError where nothing in it was measured."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = _bars(result)
    if not bars:
        raise BildError(f"{result.name} has no measured row to draw.")
    verification = {
        name: row.verification for name, row in result.rows.items() if row.verification and len(row.verification) > 1
    }
    top, foot, middle = 0.64, 0.72, 0.24 * len(bars) + 0.22
    height = top + middle + foot
    if verification:
        height = max(height, 2.9)
        middle = height - top - foot
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=DPI)
        FigureCanvasAgg(figure)
        left, split, right = 0.155, 0.6 if verification else 0.97, 0.985
        axes = figure.add_axes((left, foot / height, split - left, middle / height))
        _draw_bars(axes, result, bars)
        if verification:
            axes = figure.add_axes((split + 0.085, foot / height, right - split - 0.085, middle / height))
            _draw_widths(axes, verification)
        figure.text(0.012, 1 - 0.17 / height, title(result), fontsize=10.5, fontweight="bold", va="center")
        figure.text(0.012, 1 - 0.38 / height, conditions(result), fontsize=6.8, color="#444444", va="center")
        _draw_words(figure, result, height)
    return figure


def save_bench(result: BenchResult, out: Path) -> list[Path]:
    """Write `<name>.png` and `<name>.svg` to the folder `out`, and return their paths. BildError as in `draw_bench`."""
    import matplotlib

    figure = draw_bench(result)
    paths = [out / f"{result.name}.png", out / f"{result.name}.svg"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            figure.savefig(paths[0], dpi=DPI, metadata={"Software": None})
            figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    except OSError as error:
        raise BildError(f"The figure cannot be written to {out} ({error.strerror}): choose another out=...") from None
    return paths


def _bars(result: BenchResult) -> list[tuple[str, Row]]:
    """What was measured of the large model, slowest first, so that the fastest is at the foot, beside the roofline."""
    found = [(name, row) for name, row in result.rows.items() if row.ms_per_token and row.kind != "small"]
    return sorted(found, key=lambda item: -item[1].ms_per_token.median if item[1].ms_per_token else 0.0)


def _color(name: str, row: Row) -> str:
    return _look(name)[0] if row.kind == "engine" else _PEER


def _look(name: str) -> tuple[str, str]:
    return _ENGINES.get(name) or _SPARE[sum(map(ord, name)) % len(_SPARE)]


def _draw_bars(axes: Axes, result: BenchResult, bars: Sequence[tuple[str, Row]]) -> None:
    spreads = [row.ms_per_token for _, row in bars if row.ms_per_token]
    slowest = max(spread.median for spread in spreads)
    rooflines = {row.precision: row.roofline.ms for _, row in bars if row.roofline}
    least = min([*rooflines.values(), *(spread.low for spread in spreads)])
    log = slowest > _LOG_FROM * min(spread.median for spread in spreads)
    for at, ((name, row), spread) in enumerate(zip(bars, spreads, strict=True)):
        axes.barh(at, spread.median, height=0.66, color=_color(name, row), zorder=2)
        axes.plot([spread.low, spread.high], [at, at], color="#222222", linewidth=0.8, zorder=4)
        text = significant(spread.median)
        if row.over_roofline is not None:
            text += f"  ({row.over_roofline:.1f}× roofline)"
        axes.annotate(
            text,
            (max(spread.high, spread.median), at),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            annotation_clip=False,
        )
        if row.roofline and row.precision != result.dtype:  # its own roofline: its weights are smaller
            axes.plot([row.roofline.ms] * 2, [at - 0.33, at + 0.33], color="#D55E00", linewidth=1.2, zorder=5)
    own = rooflines.get(result.dtype)
    if own is not None:
        axes.axvline(own, color="#D55E00", linewidth=1.2, zorder=5)
        axes.annotate(
            f"roofline {significant(own)}",
            (own, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            color="#9a4400",
        )
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    most = max(spread.high for spread in spreads)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(least / 1.6, most * (most / least) ** 0.75)
        decades = [10.0**power for power in range(-6, 7)]
        shown = [tick for tick in decades if least / 1.6 <= tick <= 3 * most]  # the rest is room for words
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.minorticks_off()
    else:
        axes.set_xlim(0, most * 1.5)
    axes.grid(True, axis="x", color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"ms per token{' (logarithmic)' if log else ''}")


def _draw_widths(axes: Axes, verification: dict[str, dict[int, Verification]]) -> None:
    """Not the roofline's own curve: each engine is told by its own width 1."""
    widths = sorted({width for found in verification.values() for width in found})
    for name, found in verification.items():
        color, marker = _look(name)
        at = sorted(found)
        medians = [found[width].relative.median for width in at]
        axes.plot(at, medians, color=color, marker=marker, markersize=4, linewidth=1.2, label=name, zorder=3)
        axes.vlines(
            at,
            [found[width].relative.low for width in at],
            [found[width].relative.high for width in at],
            color=color,
            linewidth=0.7,
            alpha=0.5,
        )
    axes.axhline(1.0, color=HAIR, linewidth=0.7, zorder=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.set_ylim(
        0, 1.12 * max(found.relative.median for by_width in verification.values() for found in by_width.values())
    )
    axes.grid(True, color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("new positions of a pass")
    axes.set_ylabel(f"time over width {widths[0]}")
    axes.legend(
        frameon=False,
        fontsize=7,
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.985),
        ncols=len(verification),
        handlelength=1.5,
        handletextpad=0.4,
        columnspacing=1.0,
        borderaxespad=0.0,
    )


def _draw_words(figure: Figure, result: BenchResult, height: float) -> None:
    rates = result.rates
    words = (
        f"Medians, lines from least to most. Roofline: what a step must read at {rates.gb_per_s:.3g} GB/s "
        f"(best sum of {rates.read_mb:,.0f} MB), or compute at {rates.gflop_per_s:,.0f} GFLOP/s, whichever is longer."
    )
    if any(row.precision == "int8" and row.ms_per_token for row in result.rows.values()):
        words += "\nint8 has a roofline of its own, since its weights are a quarter of the bytes."
    figure.text(0.012, 0.05 / height, words, fontsize=6.3, color=QUIET, va="bottom", linespacing=1.3)


def main(arguments: Sequence[str]) -> int:
    """Draw results beside themselves; returns the exit code."""
    if not arguments or arguments[0].startswith("-"):
        print("usage: python -m bild.report.bench_figure bench/t5-small-fp32-cpu.json ...", file=sys.stderr)
        return 2
    try:
        for name in arguments:
            print(*save_bench(read_bench(Path(name)), Path(name).parent))
    except BildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
