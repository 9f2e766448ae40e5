"""Where the pair agrees: the share of drafted tokens that stand, by their place in the draft and in the text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from bild.report.commands import run_command
from bild.report.evidence import Rounds, rounds_of, telling
from bild.report.figure import Missing, Sheet
from bild.report.figures.series import draw_line, handles, plain, series
from bild.report.format import plural
from bild.report.layout import Words, open_frame
from bild.report.sections import Section
from bild.report.style import Theme
from bild.results import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Agreement of the pair by position"
MOST = 4
FEWEST = 20
"""Places with fewer tokens are left out: a share of a handful says nothing."""
_Z = 1.959963984540054


class Share(NamedTuple):
    """A share with its Wilson interval (95 %), in percent."""

    value: float
    low: float
    high: float


Shares = dict[int, Share]


def agreement_sheet(section: Section) -> Sheet | Missing:
    """Exact speculative decoding first, since there a token stands if and only if the large model would choose it."""
    judged = [
        r for r in telling(section, 2 * MOST, ("bild",)) if r.threshold.rb is None or math.isfinite(r.threshold.rb)
    ]
    wanted = [*telling(section, 1, ("speculative",)), *judged[: MOST - 1]]  # without a rollback, all tokens stand
    shown = [(record, *by_place(found)) for record in wanted if (found := rounds_of(section, record))]
    shown = [row for row in shown if row[1]]
    if not shown:
        return Missing(TITLE, "no point that drafts has its trace", run_command(section, "method=speculative"))
    record, places, _ = shown[0]
    words = (
        f"{record.label}: the first token of a draft stands in {places[1].value:.0f} %" if 1 in places else record.label
    )
    return Sheet("agreement", TITLE, f"{words}.", lambda theme, width: _draw(section, shown, theme, width))


def by_place(examples: list[Rounds], bin_width: int = 4) -> tuple[Shares, Shares]:
    """Shares of the drafted tokens that stand: by place in the draft (from 1), and by position in the text.

    A token counts where all before it in its draft stand, which is where the large model judged it on the kept text.
    """
    places: dict[int, list[int]] = {}
    positions: dict[int, list[int]] = {}
    for rounds in examples:
        for each in rounds:
            if not each["token_nll"]:  # a tail that was not verified
                continue
            judged = each["kept"] + (1 if each["kept"] < len(each["drafted"]) else 0)
            for index in range(judged):
                stands = index < each["kept"]
                for table, at in ((places, index + 1), (positions, (each["start"] + index - 1) // bin_width)):
                    counted = table.setdefault(at, [0, 0])
                    counted[0] += stands
                    counted[1] += 1
    middles = {bin_width * at + (bin_width + 1) / 2: counted for at, counted in positions.items()}
    return _shares(places), _shares({round(at): counted for at, counted in middles.items()})


def _shares(table: dict[int, list[int]]) -> Shares:
    return {at: wilson(*counted) for at, counted in sorted(table.items()) if counted[1] >= FEWEST}


def wilson(hits: int, total: int) -> Share:
    """A share in percent with its 95 % Wilson interval."""
    rate, square = hits / total, _Z**2
    middle = (rate + square / (2 * total)) / (1 + square / total)
    half = _Z * math.sqrt(rate * (1 - rate) / total + square / (4 * total**2)) / (1 + square / total)
    return Share(100 * rate, 100 * max(0.0, middle - half), 100 * min(1.0, middle + half))


def _draw(section: Section, shown: list[tuple[Record, Shares, Shares]], theme: Theme, width: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    found = series([record for record, _, _ in shown], theme)
    note = (
        f"n = {plural(section.first.latency.examples, 'example')}. A token counts where all before it in its draft "
        f"stand; bands: 95 % Wilson intervals; places with under {FEWEST} tokens left out. Under speculative a token "
        "stands if it is the large model's choice, under BiLD also if its −ln p is at most rb."
    )
    frame = open_frame(
        theme,
        width,
        Words(f"{TITLE}: {section.title}", section.conditions, note),
        handles(found, marks=True),
        heights=(2.3, 2.3),
        left=0.58,
        foot=0.45,
    )
    lows = [share.low for _, *tables in shown for table in tables for share in table.values()]
    for axes, column, name in zip(
        frame.panels, (1, 2), ("place in the draft", "position in the text (middle of 4)"), strict=True
    ):
        for look, row in zip(found, shown, strict=True):
            table: Shares = row[column]  # type: ignore[assignment]
            _band(axes, table, look.color)
            draw_line(axes, list(table), [share.value for share in table.values()], look, marks=True)
        axes.set_ylim(max(0.0, min(lows, default=0.0) - 3), 101)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.set_xlabel(name)
        axes.set_ylabel("drafted tokens that stand (%)")
        plain(axes, theme)
    return frame.figure


def _band(axes: Axes, table: Shares, color: str) -> None:
    axes.fill_between(
        list(table),
        [share.low for share in table.values()],
        [share.high for share in table.values()],
        color=color,
        alpha=0.15,
        linewidth=0,
    )
