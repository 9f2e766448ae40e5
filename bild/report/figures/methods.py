"""Which method pays: the fastest setting of each method within each margin, chosen here and confirmed there.

The ledger of confirmations says what was chosen; the records say what came of it. All are judged together (Holm).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bild.config import METHODS
from bild.report.figure import SERIES, Sheet, Theme
from bild.report.format import DASH, interval_name, key_of, label, metric_name, spread, switches
from bild.report.layout import MARKERS, handle, long_speedup_axis, open_section, plain, span
from bild.report.sections import Section
from bild.report.table import Column, Table
from bild.results import Interval, Record
from bild.results.predicted import MethodChoice, ledger_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bild.metrics.claims import Verdict

TITLE = "Which method pays"


@dataclass(frozen=True)
class MethodClaim:
    """The setting of a method that was chosen at a margin, and what became of it; no record where there is none."""

    choice: MethodChoice
    record: Record | None
    verdict: Verdict | None

    @property
    def title(self) -> str:
        """Name the method."""
        return METHODS[self.choice.method].title

    @property
    def speed(self) -> Interval:
        """The speedup of its record, which it must have."""
        assert self.record is not None
        return self.record.speedup

    @property
    def equal(self) -> bool:
        """Tell whether the method is exact by its rules, and all its texts were vanilla's."""
        if not self.choice.exact or self.verdict is None:
            return False
        return (self.verdict.difference.value, self.verdict.difference.sd) == (0.0, 0.0)

    @property
    def told(self) -> str:
        """Write the verdict; of a method that is exact by its rules, how many texts are vanilla's."""
        if self.record is None or self.verdict is None:
            return "no setting keeps it"
        if self.equal:
            return f"exact: {self.record.quality.examples:,} texts equal"
        return f"undecided (+{self.verdict.more_words})" if self.verdict.kind == "undecided" else self.verdict.kind


def claims_of(section: Section) -> list[MethodClaim]:
    """Return the newest search of methods that was confirmed on the section's examples; nothing without one."""
    from bild.metrics.claims import together, verdict_of  # numpy: only where something is judged

    looks = [look for look in ledger_of(section.folders.values(), section.first.quality.data) if look.choices]
    if not looks:
        return []
    records = {key: record for record in section.records if (key := key_of(record)) is not None}
    newest = max(looks, key=lambda look: look.created)
    choices = sorted(newest.choices, key=lambda each: each.margin)
    found = [(each, records.get(each.point or "")) for name in METHODS for each in choices if each.method == name]
    alone = {choice: own for choice, record in found if record and (own := verdict_of(record, choice.margin))}
    judged = together(alone, section.first.intervals.confidence)
    return [MethodClaim(choice, record, judged.get(choice)) for choice, record in found]


def methods_table(section: Section) -> Table | None:
    """Return a line for each method and margin; None where no search of methods was confirmed on these examples."""
    claims = claims_of(section)
    if not claims:
        return None
    metric, record = metric_name(section.first), section.first

    def chosen(claim: MethodClaim) -> str | None:
        choice = claim.choice
        return None if choice.lower is None else f"{choice.lower:+.2f}, ~{choice.speedup:.2f}x"

    def difference(record: Record) -> str | None:
        found = record.headline_difference
        return None if found is None else found.one_sided

    def measured(of: Callable[[Record], Any]) -> Callable[[MethodClaim], Any]:
        return lambda claim: claim.record and of(claim.record)

    columns = (
        Column("method", "method", of=lambda claim: claim.title),
        Column("within", "within", of=lambda claim: "any" if claim.choice.exact else f"{claim.choice.margin:g}"),
        Column("setting", "setting", of=measured(label)),
        Column("chosen:\nend, speed", "chosen", of=chosen),
        Column(f"{metric} less vanilla's\n[one-sided]", "difference", of=measured(difference)),
        Column("confirmed", "verdict", of=lambda claim: claim.told),
        Column("speedup", "speedup", spread, of=measured(lambda record: record.speedup)),
        Column("timed", "timed", of=measured(lambda record: f"{record.latency.examples} in {record.sessions}")),
        Column("switches", "switches", rank=1, of=measured(lambda record: switches(record) or DASH)),
    )
    level = f"{100 * record.intervals.confidence:g} %"
    notes = (
        f"The fastest setting of each method whose lower end keeps the margin where it was chosen, and its result "
        f"on {record.task.split} ({record.quality.examples:,} examples, {section.timed} timed). "
        f"One-sided {level} ends; verdicts of all together (Holm over {sum(c.verdict is not None for c in claims)}).",
        "Methods that write vanilla's text by their rules have one setting for every margin.",
    )
    return Table.of("methods", TITLE, columns, claims, notes, names=3, subtitle=section.title)


def methods_sheet(section: Section) -> Sheet | None:
    """Return speedups with their intervals by method and margin; None where no search of methods was confirmed."""
    claims = [claim for claim in claims_of(section) if claim.record is not None]
    if not claims:
        return None
    words = "; ".join(f"{c.title} within {c.choice.margin:g}: {spread(c.speed)}×, {c.told}" for c in claims)
    return Sheet("methods", TITLE, f"{words}.", partial(_draw, section, claims))


def _draw(section: Section, claims: Sequence[MethodClaim], theme: Theme, width: str) -> Figure:
    margins = sorted({claim.choice.margin for claim in claims if not claim.choice.exact})
    colors = {margin: theme.mark(SERIES[at % len(SERIES)]) for at, margin in enumerate(margins)}
    marks = {margin: MARKERS[at % len(MARKERS)] for at, margin in enumerate(margins)}
    by_title: dict[str, list[MethodClaim]] = {}
    for claim in claims:
        by_title.setdefault(claim.title, []).append(claim)
    order = sorted(by_title, key=lambda title: max(claim.speed.value for claim in by_title[title]))
    handles = [handle(f"within {m:g}", colors[m], marker=marks[m], markersize=5) for m in margins]
    if any(claim.choice.exact for claim in claims):
        handles.append(handle("vanilla's text by its rules", theme.strong, marker="*", markersize=7))
    note = (
        f"Each method at its fastest setting whose lower end keeps the margin where it was chosen. Full: shown on "
        f"these examples, all judged together (Holm); hollow: undecided; crossed: refuted. n = {section.size}. "
        f"Bars: {interval_name(section.first)}."
    )
    height = 0.5 + 0.36 * len(order)
    left = 1.35 if width == "phone" else 1.7
    frame = open_section(section, TITLE, [note], handles, theme, width, heights=(height,), left=left, right=0.2)
    axes = frame.panels[0]
    plain(axes, theme, "x")
    for at, title in enumerate(order):
        for place, claim in enumerate(by_title[title]):
            up = at + 0.22 * ((len(by_title[title]) - 1) / 2 - place)
            margin, exact = claim.choice.margin, claim.choice.exact
            _mark(axes, claim, up, *((theme.strong, "*") if exact else (colors[margin], marks[margin])), theme)
    axes.set_yticks(range(len(order)), order)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    low, high = span([claim.speed for claim in claims], 0.2)
    axes.set_xlim(min(low, 1.0) - 0.03, high + 0.03)
    long_speedup_axis(frame)
    return frame.figure


def _mark(axes: Axes, claim: MethodClaim, up: float, color: str, marker: str, theme: Theme) -> None:
    speed = claim.speed
    kind = claim.verdict.kind if claim.verdict is not None else "undecided"
    axes.plot([speed.low, speed.high], [up, up], color=color, linewidth=1.0, alpha=0.6)
    face = color if kind == "shown" or claim.equal else theme.paper
    size = 8.0 if marker == "*" else 5.0
    axes.plot([speed.value], [up], marker=marker, markersize=size, markerfacecolor=face, color=color, linestyle="none")
    if kind == "refuted":
        axes.plot([speed.value], [up], marker="x", markersize=9, color=color, linestyle="none")
