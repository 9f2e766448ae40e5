"""Figures of rounds: lengths of drafts, what verification passes leave of them, and where the pair agrees."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bild.decoding.rules import KEEPS
from bild.report.figure import Missing, Sheet, Theme
from bild.report.format import keep_words, label, plural, significant, switches_note
from bild.report.layout import Frame, axis_names, draw_line, open_section, series, series_handles
from bild.report.sections import Rounds, Section
from bild.results import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAFTS, AGREEMENT = "Drafts and what stands of them", "Agreement of the pair by position"
MOST = 4
FEWEST = 20
"""Places with fewer tokens are left out: a share of a handful says nothing."""
_Z = 1.959963984540054
Shares = dict[int, float]


def drafts_sheet(section: Section) -> Sheet | Missing:
    """Return two distributions for a few points that draft; Missing where no trace can be read."""
    shown = [
        (record, lengths(found), gains(found))
        for record in section.telling(MOST, drafts)
        if (found := section.rounds(record))
    ]
    if not shown:
        return Missing(DRAFTS, "no point that drafts has its trace", section.command("run", "method=bild"))
    record = shown[0][0]
    words = (
        f"Draft lengths and tokens a large pass adds, for {plural(len(shown), 'point')}. {label(record)}: "
        f"{significant(record.counts.tokens_per_large_pass)} tokens per large pass."
    )
    return Sheet("drafts", DRAFTS, words, partial(_draw_drafts, section, shown))


def drafts(record: Record) -> bool:
    """Return whether the record is of a method that drafts."""
    return record.method.max_draft is not None


def lengths(examples: list[Rounds]) -> Shares:
    """Return the share of drafts by the number of tokens in them; an unsure token that was dropped does not count."""
    return _shares(Counter(len(each["drafted"]) for rounds in examples for each in rounds if each["stop"] != "none"))


def gains(examples: list[Rounds]) -> Shares:
    """Return the share of large passes by the tokens they leave behind: drafted ones that stand and the pass's own."""
    return _shares(added(examples))


def added(examples: Iterable[Rounds]) -> Counter[int]:
    """Count large passes by the tokens that `gains` tells of."""
    return Counter(
        each["kept"] + (each["wrote"] is not None)
        for rounds in examples
        for each in rounds
        if each["wrote"] is not None or each["token_nll"]
    )


def _shares(counted: Counter[int]) -> Shares:
    total = sum(counted.values())
    return {n: counted[n] / total for n in range(max(counted) + 1)} if total else {}


def _open(section: Section, title: str, note: str, records: list[Record], theme: Theme, width: str) -> Frame:
    notes = [f"n = {section.size}.", note, switches_note(records)]
    handles = series_handles(series(records, theme), marks=True)
    return open_section(section, title, notes, handles, theme, width, heights=(2.25, 2.25), foot=0.45)


def _draw_drafts(section: Section, shown: list[tuple[Record, Shares, Shares]], theme: Theme, width: str) -> Figure:
    records = [record for record, _, _ in shown]
    note = (
        "Left: drafts by the tokens the small model handed over (an unsure one is dropped). Right: large passes by the "
        "tokens they added, their own included. Vertical: means."
    )
    frame = _open(section, DRAFTS, note, records, theme, width)
    names = (("tokens of a draft", "drafts (%)"), ("tokens a large pass adds", "large passes (%)"))
    for panel, (axes, (name, of)) in enumerate(zip(frame.panels, names, strict=True)):
        for look, (_, *tables) in zip(series(records, theme), shown, strict=True):
            found = tables[panel]
            draw_line(axes, list(found), [100 * share for share in found.values()], look, marks=True, alpha=0.95)
            mean = sum(n * share for n, share in found.items())
            axes.axvline(mean, color=look.color, linestyle=look.dash, linewidth=0.7, alpha=0.5)
        axes.set_ylim(0)
        axis_names(axes, name, of, theme, whole=True)
    return frame.figure


class Share(NamedTuple):
    """A share with its Wilson interval (95 %), in percent."""

    value: float
    low: float
    high: float


WilsonShares = dict[int, Share]


def agreement_sheet(section: Section) -> Sheet | Missing:
    """Return the shares of drafted tokens that stand.

    An exact method comes first, since there a token stands if and only if the large model would choose it.
    """

    def judges(record: Record) -> bool:  # without a rollback, all tokens stand
        return drafts(record) and record.method.keep != "exact" and record.threshold.rb != math.inf

    exact = section.telling(1, lambda record: drafts(record) and record.method.keep == "exact")
    wanted = [*exact, *section.telling(MOST - 1, judges)]
    shown = [(record, *by_place(found)) for record in wanted if (found := section.rounds(record))]
    shown = [row for row in shown if row[1]]
    if not shown:
        return Missing(AGREEMENT, "no point that drafts has its trace", section.command("run", "method=speculative"))
    record, places, _ = shown[0]
    first = f": the first token of a draft stands in {places[1].value:.0f} %" if 1 in places else ""
    words = f"{label(record)}{first}."
    return Sheet("agreement", AGREEMENT, words, partial(_draw_agreement, section, shown))


def by_place(examples: list[Rounds], bin_width: int = 4) -> tuple[WilsonShares, WilsonShares]:
    """Return shares of drafted tokens that stand: by place in the draft (from 1), and by position in the text."""
    places: dict[int, list[bool]] = {}
    positions: dict[int, list[bool]] = {}
    for place, position, stands in judged(examples):
        places.setdefault(place, []).append(stands)
        positions.setdefault(position // bin_width, []).append(stands)
    middles = {round(bin_width * at + (bin_width + 1) / 2): found for at, found in positions.items()}
    one, two = (
        {at: wilson(sum(found), len(found)) for at, found in sorted(table.items()) if len(found) >= FEWEST}
        for table in (places, middles)
    )
    return one, two


def judged(examples: Iterable[Rounds]) -> Iterator[tuple[int, int, bool]]:
    """Yield each drafted token that was judged: its place in the draft (from 1), its position, whether it stands.

    A token is judged where all before it in its draft stand, so that the large model read it behind the kept text; a
    tail that was not verified is not.
    """
    for each in (each for rounds in examples for each in rounds if each["token_nll"]):
        for place in range(1, min(each["kept"] + 1, len(each["drafted"])) + 1):
            yield place, each["start"] + place - 2, place <= each["kept"]


def wilson(hits: int, total: int) -> Share:
    """Return a share in percent with its 95 % Wilson interval."""
    rate, square = hits / total, _Z**2
    middle = (rate + square / (2 * total)) / (1 + square / total)
    half = _Z * math.sqrt(rate * (1 - rate) / total + square / (4 * total**2)) / (1 + square / total)
    return Share(100 * rate, 100 * max(0.0, middle - half), 100 * min(1.0, middle + half))


def _rules(records: Sequence[Record]) -> str:
    """Say by which other rules a token stands."""
    keeps = dict.fromkeys(record.method.keep for record in records if record.method.keep != "exact")
    words = [keep_words(keep).partition(" (")[0] for keep in keeps if keep in KEEPS]
    return f", or where {' or '.join(words)}" if words else ""


def _draw_agreement(
    section: Section, shown: list[tuple[Record, WilsonShares, WilsonShares]], theme: Theme, width: str
) -> Figure:
    records = [record for record, _, _ in shown]
    note = (
        f"A token counts where all before it in its draft stand; bands: 95 % Wilson intervals; places with under "
        f"{FEWEST} tokens left out. A token stands if it is the large model's choice{_rules(records)}."
    )
    frame = _open(section, AGREEMENT, note, records, theme, width)
    lows = [share.low for _, *tables in shown for table in tables for share in table.values()]
    names = ("place in the draft", "position in the text (middle of 4)")
    for panel, (axes, name) in enumerate(zip(frame.panels, names, strict=True)):
        for look, (_, *tables) in zip(series(records, theme), shown, strict=True):
            at, found = list(tables[panel]), list(tables[panel].values())
            band = [share.low for share in found], [share.high for share in found]
            axes.fill_between(at, *band, color=look.color, alpha=0.12, linewidth=0)
            draw_line(axes, at, [share.value for share in found], look, marks=True, clip_on=False)
        axes.set_ylim(max(0.0, min(lows, default=0.0) - 3), 101)
        axis_names(axes, name, "drafted tokens that stand (%)", theme, whole=True)
        if not any(tables[panel] for _, *tables in shown):
            axes.set_xticks([])
            axes.text(0.5, 0.5, f"none has {FEWEST} tokens", transform=axes.transAxes, ha="center", color=theme.quiet)
    return frame.figure
