"""Which method pays: the fastest setting of each method within each margin, chosen here and confirmed there.

The ledger of confirmations says what was chosen; the records say what came of it. All are judged together (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bild.config import METHODS
from bild.report.figure import SERIES, Sheet, Theme
from bild.report.format import DASH, interval_name, key_of, label, metric_name, spread, switches
from bild.report.layout import MARKERS, handle, long_speedup_axis, open_section, plain, span
from bild.report.sections import Section
from bild.report.table import Column, Table
from bild.results import Record
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
    from bild.metrics.claims import holm, verdict  # numpy: only where something is judged

    looks = [look for look in ledger_of(section.folders.values(), section.first.quality.data) if look.choices]
    if not looks:
        return []
    records = {key: record for record in section.records if (key := key_of(record)) is not None}
    newest = max(looks, key=lambda look: look.created)
    choices = sorted(newest.choices, key=lambda each: each.margin)
    found = [(each, records.get(each.point or "")) for name in METHODS for each in choices if each.method == name]
    judged = {
        choice: verdict(record.headline_difference, choice.margin, record.quality.examples)
        for choice, record in found
        if record is not None and record.headline_difference is not None
    }
    together = dict(zip(judged, holm([*judged.values()], section.first.intervals.confidence), strict=True))
    return [MethodClaim(choice, record, together.get(choice)) for choice, record in found]


def methods_table(section: Section) -> Table | None:
    """Return a line for each method and margin; None where no search of methods was confirmed on these examples."""
    claims = claims_of(section)
    if not claims:
        return None
    metric, record = metric_name(section.first), section.first
    columns = (
        Column("method", "method"),
        Column("within", "within"),
        Column("setting", "setting"),
        Column("chosen:\nend, speed", "chosen"),
        Column(f"{metric} less vanilla's\n[one-sided]", "difference"),
        Column("confirmed", "verdict"),
        Column("speedup", "speedup", spread),
        Column("timed", "timed"),
        Column("switches", "switches", rank=1),
    )
    level = f"{100 * record.intervals.confidence:g} %"
    notes = (
        f"Of each method the fastest setting whose lower end keeps the margin where it was chosen, and what became of "
        f"it on {record.task.split} ({record.quality.examples:,} examples, {section.timed} timed). "
        f"One-sided {level} ends; verdicts of all together (Holm over {sum(c.verdict is not None for c in claims)}).",
        "Methods that write vanilla's text by their rules have one setting for every margin.",
    )
    return Table.of("methods", TITLE, columns, map(_row, claims), notes, names=3, subtitle=section.title)


def _row(claim: MethodClaim) -> dict[str, object]:
    choice, record = claim.choice, claim.record
    found = None if record is None else record.headline_difference
    return {
        "method": claim.title,
        "within": "any" if choice.exact else f"{choice.margin:g}",
        "setting": None if record is None else label(record),
        "chosen": None if choice.lower is None else f"{choice.lower:+.2f}, ~{choice.speedup:.2f}x",
        "difference": None if found is None else f"{found.value:+.2f} [{found.lower:+.2f}, {found.upper:+.2f}]",
        "verdict": claim.told,
        "speedup": None if record is None else record.latency.speedup.total,
        "timed": None if record is None else f"{record.latency.examples} in {record.sessions}",
        "switches": None if record is None else switches(record) or DASH,
    }


def methods_sheet(section: Section) -> Sheet | None:
    """Return speedups with their intervals by method and margin; None where no search of methods was confirmed."""
    claims = [claim for claim in claims_of(section) if claim.record is not None]
    if not claims:
        return None
    words = "; ".join(
        f"{claim.title} within {claim.choice.margin:g}: {spread(claim.record.latency.speedup.total)}×, {claim.told}"
        for claim in claims
        if claim.record is not None
    )
    return Sheet("methods", TITLE, f"{words}.", partial(_draw, section, claims))


def _draw(section: Section, claims: Sequence[MethodClaim], theme: Theme, width: str) -> Figure:
    margins = sorted({claim.choice.margin for claim in claims if not claim.choice.exact})
    colors = {margin: theme.mark(SERIES[at % len(SERIES)]) for at, margin in enumerate(margins)}
    marks = {margin: MARKERS[at % len(MARKERS)] for at, margin in enumerate(margins)}
    best: dict[str, float] = {}
    for claim in claims:
        assert claim.record is not None
        best[claim.title] = max(best.get(claim.title, 0.0), claim.record.latency.speedup.total.value)
    order = sorted(best, key=lambda title: best[title])
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
        own = [claim for claim in claims if claim.title == title]
        for place, claim in enumerate(own):
            up = at + 0.22 * ((len(own) - 1) / 2 - place)
            margin = claim.choice.margin
            color = theme.strong if claim.choice.exact else colors[margin]
            _mark(axes, claim, up, color, "*" if claim.choice.exact else marks[margin], theme)
    axes.set_yticks(range(len(order)), order)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.axvline(1.0, color=theme.hair, linewidth=0.7, zorder=1)
    low, high = span([c.record.latency.speedup.total for c in claims if c.record is not None], 0.2)
    axes.set_xlim(min(low, 1.0) - 0.03, high + 0.03)
    long_speedup_axis(frame)
    return frame.figure


def _mark(axes: Axes, claim: MethodClaim, up: float, color: str, marker: str, theme: Theme) -> None:
    assert claim.record is not None
    speed = claim.record.latency.speedup.total
    kind = claim.verdict.kind if claim.verdict is not None else "undecided"
    axes.plot([speed.low, speed.high], [up, up], color=color, linewidth=1.0, alpha=0.6)
    face = color if kind == "shown" or claim.equal else theme.paper
    size = 8.0 if marker == "*" else 5.0
    axes.plot([speed.value], [up], marker=marker, markersize=size, markerfacecolor=face, color=color, linestyle="none")
    if kind == "refuted":
        axes.plot([speed.value], [up], marker="x", markersize=9, color=color, linestyle="none")
