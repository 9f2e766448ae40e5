"""The atlas: every table and figure of the paper, ours beside it, and a verdict or the command that would make it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bild.report.figures.curves import PAPERS, engagement, kind
from bild.report.format import DASH, machine_name, split_exit
from bild.report.paper import ROUNDING, Curve, PaperRow, curve, kind_of_pair, ours_of, paper, paper_examples, table1
from bild.report.sections import Section
from bild.report.table import Column, Table
from bild.results import Record
from bild.results.predicted import PredictedPoint

SPEED = 10.0
"""Percent by which a speedup may differ: sessions of one machine differ by a few, machines by more."""
_ATTAINED = 0.05
"""Points by which a score may lie below one of a curve and still count as good: curves were read to about 0.01."""
TOP_P = 0.8
"""The nucleus that the paper sampled from."""
Shown = Sequence[tuple[Section, Sequence[PredictedPoint]]]
"""Sections, each with its predicted points."""


@dataclass(frozen=True)
class Entry:
    """One table or figure for one task and pair: what the paper has, what is here, and what follows."""

    exhibit: str
    """Its name in conf/paper.yaml."""
    what: str
    paper: str
    ours: str
    verdict: str

    @staticmethod
    def of(exhibit: str, what: str, theirs: Sequence[float], ours: Sequence[float | None], judge: Yardstick) -> Entry:
        """Compare figures one by one; those of ours that are None were not measured."""
        gaps = [judge.gap(own, other) for own, other in zip(ours, theirs, strict=True) if own is not None]
        paper_, ours_ = (", ".join(DASH if n is None else f"{n:.2f}" for n in each) for each in (theirs, ours))
        return Entry(exhibit, what, paper_, ours_, judge.verdict(gaps, len(theirs)) if gaps else not_run(exhibit))


@dataclass(frozen=True)
class Yardstick:
    """The way in which figures are compared: as points of a score, or relative, as speedups; and what is missing."""

    tolerance: float
    relative: bool
    partly: str = ""
    """The reason for which no equality is expected: other examples, other rules."""

    def gap(self, own: float, other: float) -> float:
        """Return how far ours is from theirs, in points or percent."""
        return 100 * (own / other - 1) if self.relative else own - other

    def verdict(self, gaps: Sequence[float], wanted: int) -> str:
        """Yardstick the widest gap."""
        worst = max(gaps, key=abs)
        size = f"{abs(worst):.0f} %" if self.relative else f"{abs(worst):.2f} points"
        lacking = [f"{len(gaps)} of {wanted} figures"] if len(gaps) < wanted else []
        if partly := "; ".join(filter(None, [self.partly, *lacking])):
            return f"partly run ({partly}): differs by {size}"
        near = abs(worst) <= self.tolerance + (0.5 if self.relative else 0.005)
        return f"reproduced within {size}" if near else f"differs by {size}"


def not_run(exhibit: str) -> str:
    """Return the verdict on what was not run: the command that makes it."""
    return f"not run: bild paper only={exhibit}"


def atlas_table(shown: Shown) -> Table:
    """Return the atlas of everything that the paper shows."""
    greedy = [(section, points) for section, points in shown if section.first.decode is None]
    sampled = [(section, points) for section, points in shown if section.first.decode is not None]
    found = [*_table1(greedy), *_fig2(greedy), *_curves(greedy), *_fig6(greedy), *_fig10(greedy), *_others(greedy)]
    found += _sampling(sampled)
    columns = (
        Column("exhibit", "what"),
        Column("paper", "paper"),
        Column("ours", "ours"),
        Column("verdict", "verdict"),
        Column("made by", "exhibit"),
    )
    values = [{column.name: getattr(entry, column.name) for column in columns} for entry in found]
    machines = sorted({machine_name(section.first) for section, _ in shown})
    notes = (
        f"The paper's figures: {paper()['source']}, on {paper()['machine']}; ours: {', '.join(machines)}.",
        f"Scores are reproduced within {ROUNDING:g} points: greedy decoding of the same texts by the authors' rules. "
        f"Speedups within {SPEED:g} %: another machine's differ for good reasons, and the verdict says by how much.",
        "Of a curve, the speedup at each of the paper's losses is compared: that of our fastest measured point that "
        "loses no more.",
    )
    return Table.of("atlas", "Atlas: the paper, and the same here", columns, values, notes, 5)


def _is_of(section: Section, task: str, pair: str) -> bool:
    return section.first.task.name == task and kind_of_pair(section.first.pair.name) == pair


def _of_kind(shown: Shown, task: str, pair: str) -> list[Section]:
    return [section for section, _ in shown if _is_of(section, task, pair)]


def _partly(task: str, records: Iterable[Record]) -> str:
    """Say why records need not have the paper's figures; nothing where they must."""
    for record in records:
        if record.task.split != "validation":
            return f"{record.task.split} split"
        if record.quality.examples < paper_examples(task):
            return f"{record.quality.examples:,} of {paper_examples(task):,} examples"
        if record.method.name == "bild" and record.method.rules != "authors":
            return f"rules={record.method.rules}"
    return ""


def _compared(shown: Shown, exhibit: str, what: str, rows: Sequence[PaperRow], pair: str) -> Iterator[Entry]:
    """Compare rows of thresholds: their scores, and the speedups of all but vanilla."""
    task = rows[0].task
    sections = _of_kind(shown, task, pair)
    records = [next((r for s in sections if (r := ours_of(s, row)) is not None), None) for row in rows]
    partly = _partly(task, filter(None, records))
    scores = [None if record is None else record.headline.value for record in records]
    yield Entry.of(exhibit, f"{what}: score", [row.score for row in rows], scores, Yardstick(ROUNDING, False, partly))
    fast = [(row, record) for row, record in zip(rows, records, strict=True) if row.pick != "vanilla"]
    speeds = [None if record is None else record.speedup.value for _, record in fast]
    theirs = [row.speedup or 1.0 for row, _ in fast]
    yield Entry.of(exhibit, f"{what}: speedup", theirs, speeds, Yardstick(SPEED, True, partly))


def _table1(shown: Shown) -> Iterator[Entry]:
    for task in paper()["table1"]:
        for pair in ("unaligned", "aligned"):
            rows = [row for row in table1(task) if row.pair in ("", pair)]
            yield from _compared(shown, f"{task}-{pair}", f"Table 1, {task} {pair}", rows, pair)


def _fig10(shown: Shown) -> Iterator[Entry]:
    for task, grid in paper()["fig10"].items():
        cells = [(rb, fb, *cell) for rb, row in grid.items() for fb, cell in row.items()]
        rows = [PaperRow(task, "aligned", "grid", score, speed, rb, fb) for rb, fb, speed, score in cells]
        for entry in _compared(shown, f"fig10-{task}", f"Fig. 10, {task} aligned", rows, "aligned"):
            count = len(rows) - entry.ours.split(", ").count(DASH)
            yield replace(entry, paper=f"{len(rows)} cells", ours=f"{count} cells")


def _fastest(sections: Iterable[Section], fits: Callable[[Record], bool], loss: float) -> float | None:
    """Return the speedup of the fastest of our points that lose no more; None where every one does."""
    measured = ((section, record) for section in sections for record in section.records if fits(record))
    good = [s.at(record)[0] for s, record in measured if s.difference(record).value >= loss - _ATTAINED]
    return max(good, default=None)


def _along(exhibit: str, what: str, theirs: Curve, shown: Shown, fits: Callable[[Any], bool]) -> Entry:
    """Compare a curve of (speedup, loss) with the fastest of our points that lose no more.

    A sweep that has none of them on its front measures none, and would not if it ran again.
    """
    sections = [section for section, _ in shown]
    best = [_fastest(sections, fits, loss) for _, loss in theirs]
    measured = [record for section in sections for record in section.records if fits(record)]
    partly = _partly(sections[0].first.task.name, measured) if measured else ""
    found = Entry.of(exhibit, what, [speed for speed, _ in theirs], best, Yardstick(SPEED, True, partly))
    guessed = sum(fits(point) for _, points in shown for point in points)
    if guessed and not measured:
        why = f"they are not on the front, or bild paper only={exhibit} was stopped"
        return replace(found, verdict=f"none of {guessed:,} predicted points was measured: {why}")
    if measured and None in best:
        lost = f"at {best.count(None)} of the paper's {len(best)} losses no point of ours loses so little"
        return replace(found, verdict=f"partly run ({partly}): differs: {lost}" if partly else f"differs: {lost}")
    return found


def _kind_is(name: str) -> Callable[[Record | PredictedPoint], bool]:
    return lambda point: kind(point) == name


def _method_is(name: str) -> Callable[[Record | PredictedPoint], bool]:
    return lambda point: point.method.name == name


def _curves(shown: Shown) -> Iterator[Entry]:
    """Compare the curves of Fig. 4, and of its ablations in Fig. 5."""
    for task in paper()["fig4"]:
        base = table1(task)[0].score
        for pair in ("unaligned", "aligned"):
            theirs = tuple((speed, score - base) for speed, score in curve("fig4", task, pair))
            own, exhibit = [each for each in shown if _is_of(each[0], task, pair)], f"{task}-{pair}"
            yield _along(exhibit, f"Fig. 4, {task} {pair}", theirs, own, _kind_is("BiLD"))
    for task in paper()["fig5"]:
        base = table1(task)[0].score
        for ours, name in PAPERS.items():
            theirs = tuple((speed, score - base) for speed, score in curve("fig5", task, name))
            own = [each for each in shown if _is_of(each[0], task, "aligned")]
            exhibit = f"fig5-{task}-{name.replace(' ', '-')}"
            yield _along(exhibit, f"Fig. 5, {task}, {name}", theirs, own, _kind_is(ours))


def _fig6(shown: Shown) -> Iterator[Entry]:
    """Compare early exit of mT5-small behind its first layer by BiLD and by CALM, and the one with the other."""
    for task, found in paper()["fig6"].items():
        own = [each for each in shown if each[0].first.task.name == task]
        own = [each for each in own if split_exit(each[0].first.pair.name) == ("mt5-small", 1)]
        sections = [section for section, _ in own]
        bild, calm = (
            tuple((1 / latency, score - found["vanilla"]) for latency, score in curve("fig6", task, name))
            for name in ("bild", "calm")
        )
        yield _along(f"fig6-{task}", f"Fig. 6 and 7, {task}: BiLD", bild, own, _method_is("bild"))
        yield _along(f"fig6-{task}-calm", f"Fig. 7, {task}: CALM", calm, own, _method_is("calm"))
        theirs = [max(own for own, lost in bild if lost >= loss - _ATTAINED) / speed for speed, loss in calm]
        both = [[_fastest(sections, _method_is(name), loss) for name in ("bild", "calm")] for _, loss in calm]
        ours = [own / other if own and other else None for own, other in both]
        records = [r for s in sections for r in s.records if r.method.name in ("bild", "calm")]
        lacks_bild = not any(record.method.name == "bild" for record in records)
        judge = Yardstick(SPEED, True, _partly(task, records))
        exhibit, what = f"fig6-{task}{'' if lacks_bild else '-calm'}", f"Fig. 7, {task}: BiLD over CALM at its losses"
        yield Entry.of(exhibit, what, theirs, ours, judge)


def _sampling(shown: Shown) -> Iterator[Entry]:
    """Compare nucleus sampling by the aligned pair; the losses are to vanilla decoding that samples, too."""
    for task, found in paper()["sampling"].items():
        theirs = tuple((speed, score - found["vanilla"]) for speed, score in found["points"])
        own = [each for each in shown if _is_of(each[0], task, "aligned")]
        own = [(s, points) for s, points in own if s.first.decode and s.first.decode.top_p == TOP_P]
        yield _along(f"sampling-{task}", f"7.4, {task} aligned, sampled (p = {TOP_P:g})", theirs, own, _kind_is("BiLD"))


def _fig2(shown: Shown) -> Iterator[Entry]:
    for task in ("iwslt2017", "xsum"):
        sections = [(s, points) for s, points in shown if _is_of(s, task, "unaligned")]
        tried = (engagement(points, section.first.task.target_limit) for section, points in sections)
        found = next(filter(None, tried), None)
        exhibit, what = f"fig2-{task}", f"Fig. 2, {task}: quality by share of the large model's tokens"
        if found is None:
            yield Entry(exhibit, what, DASH, DASH, not_run(exhibit))
        else:
            ours = ", ".join(f"{100 * share:.0f} %: {score:.2f}" for share, score in found)
            yield Entry(exhibit, what, "a curve without figures", ours, "run: exact, by replay; no figures to compare")


def _others(shown: Shown) -> Iterator[Entry]:
    """Compare speculative decoding, and operations and memory."""
    for task, theirs in paper()["speculative"].items():
        sections, exhibit = _of_kind(shown, task, "unaligned"), f"{task}-unaligned"
        records = [r for s in sections for r in s.records if r.method.name == "speculative"]
        best = max((record.speedup.value for record in records), default=None)
        judge = Yardstick(SPEED, True, _partly(task, records))
        yield Entry.of(exhibit, f"Speculative decoding, {task}: speedup", [theirs["speedup"]], [best], judge)
    for task, theirs in paper()["fig8"].items():
        row = next(row for row in table1(task) if row.pair == "aligned")
        records = [r for s in _of_kind(shown, task, "aligned") if (r := ours_of(s, row)) and r.work]
        ratios = records[0].work.ratios if records and records[0].work else (None, None)
        judge = Yardstick(SPEED, True, _partly(task, records))
        what = f"Fig. 8, {task}: operations and memory over vanilla's"
        yield Entry.of(f"{task}-aligned", what, [theirs["flops"], theirs["memory"]], ratios, judge)
