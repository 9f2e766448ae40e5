"""How long the drafts are, and how many tokens a large pass leaves standing, as distributions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

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
    from matplotlib.figure import Figure

TITLE = "Drafts and what stands of them"
MOST = 5
Shares = dict[int, float]


def drafts_sheet(section: Section) -> Sheet | Missing:
    """Two distributions for at most five points that draft; Missing where no trace can be read."""
    shown = [
        (record, lengths(found), gains(found))
        for record in telling(section, MOST, ("bild", "speculative"))
        if (found := rounds_of(section, record))
    ]
    if not shown:
        return Missing(TITLE, "no point that drafts has its trace", run_command(section, "method=bild"))
    record, _, gained = shown[0]
    words = (
        f"Draft lengths and tokens a large pass of {plural(len(shown), 'point')}. {record.label}: "
        f"{sum(n * share for n, share in gained.items()):.2f} tokens a large pass on average."
    )
    return Sheet("drafts", TITLE, words, lambda theme, width: _draw(section, shown, theme, width))


def lengths(examples: list[Rounds]) -> Shares:
    """The share of drafts by the number of tokens in them; an unsure token that was dropped does not count."""
    return _shares(Counter(len(each["drafted"]) for rounds in examples for each in rounds if each["stop"] != "none"))


def gains(examples: list[Rounds]) -> Shares:
    """The share of large passes by the tokens they leave behind: the drafted ones that stand and the pass's own."""
    return _shares(
        Counter(
            each["kept"] + (each["wrote"] is not None)
            for rounds in examples
            for each in rounds
            if each["wrote"] is not None or each["token_nll"]
        )
    )


def _shares(counted: Counter[int]) -> Shares:
    total = sum(counted.values())
    return {n: counted[n] / total for n in range(max(counted) + 1)} if total else {}


def _draw(section: Section, shown: list[tuple[Record, Shares, Shares]], theme: Theme, width: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    found = series([record for record, _, _ in shown], theme)
    note = (
        f"n = {plural(section.first.latency.examples, 'example')}. Left: drafts by the tokens the small model handed "
        "over (an unsure one is dropped). Right: large passes by the tokens they added, their own included. "
        "Vertical: means."
    )
    if width == "phone":
        note = note.replace("Left", "Upper").replace("Right", "Lower")
    frame = open_frame(
        theme,
        width,
        Words(f"{TITLE}: {section.title}", section.conditions, note),
        handles(found, marks=True),
        heights=(2.2, 2.2),
        left=0.58,
        foot=0.45,
    )
    for axes, column, name in zip(frame.panels, (1, 2), ("tokens of a draft", "tokens a large pass adds"), strict=True):
        for look, row in zip(found, shown, strict=True):
            shares: Shares = row[column]  # type: ignore[assignment]
            y = [100 * share for share in shares.values()]
            draw_line(axes, list(shares), y, look, marks=True, alpha=0.95)
            mean = sum(n * share for n, share in shares.items())
            axes.axvline(mean, color=look.color, linestyle=look.dash, linewidth=0.7, alpha=0.5)
        axes.set_ylim(0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.set_xlabel(name)
        axes.set_ylabel("drafts (%)" if column == 1 else "large passes (%)")
        plain(axes, theme)
    return frame.figure
