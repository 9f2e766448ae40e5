"""`bild claims FOLDER` (or `python -m bild.claims`): judge every point: shown, refuted, or what would decide it.

    bild claims results/xsum
    bild claims results/xsum --margin 1
    bild claims results/xsum/t5-large/bild-0.6-2-... --scores comet.jsonl

A claim joins quality, over all examples that were judged, with speed, over those that were timed; `docs/claims.md` has
the rules. The margin is in points of the metric.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bild.config import margin_of
from bild.errors import Arguments, BildError, guard
from bild.metrics.claims import Verdict, together, verdict_of
from bild.options import folder_of
from bild.report.format import plural, spread
from bild.report.sections import Section, find_sections
from bild.report.table import Table, show_tables
from bild.results import Record, read_samples
from bild.results.codec import read_lines
from bild.results.parts import Latency, Percentile
from bild.results.reading import ANCHORS

HEADINGS = ("method", "verdict", "Δ to vanilla\n[one-sided]", "judged / timed\nin sessions", "speedup", "over\nlibrary")
RANKS = (0, 0, 1, 3, 0, 2)
"""The columns that a narrow terminal leaves out first."""


@dataclass(frozen=True)
class Claim:
    """A point, what is claimed of it, and whether that stands where all points of its table are judged together."""

    name: str
    record: Record
    verdict: Verdict
    together: Verdict


def claims_of(section: Section, margin: float) -> list[Claim]:
    """Judge all points of a section but the two models alone, from fast to slow."""
    others = [record for record in section.records if record.method.name not in ANCHORS]
    alone = {record.hash: found for record in others if (found := verdict_of(record, margin))}
    judged = together(alone, section.first.intervals.confidence)
    names, records = section.names, {record.hash: record for record in others}
    return [Claim(names[key], records[key], own, judged[key]) for key, own in alone.items()]


def table(section: Section, claims: Sequence[Claim], margin: float) -> Table:
    """Return the claims of a section, one line a point."""
    level = section.first.intervals.confidence
    notes = [
        f"Δ: one-sided {100 * level:g} % ends. Shown: the lower one is above -{margin:g}; refuted: the upper one is "
        f"below; undecided: about so many more examples would decide it. Speedup: over same-engine vanilla, ratio of "
        f"totals, two-sided {100 * level:g} %. Library: its own greedy generate().",
        *recommended(claims, margin),
        *sorted({line for claim in claims for line in doubts(claim.record.latency)}),
        *unsealed([claim.record for claim in claims]),
    ]
    rows = tuple(tuple(_cells(claim)) for claim in claims)
    title = f"{section.title}: claims within {margin:g}"
    return Table("claims", title, HEADINGS, rows, tuple(notes), 1, subtitle=section.conditions, ranks=RANKS)


def _cells(claim: Claim) -> Iterator[str]:
    record, found = claim.record, claim.verdict.difference
    latency, library = record.latency, record.latency.library
    used = [session for session in latency.sessions if session.note is None]
    yield claim.name
    yield f"undecided (+{claim.verdict.more_words})" if claim.verdict.kind == "undecided" else claim.verdict.kind
    yield found.one_sided
    of = f" of {len(latency.sessions)}" if len(used) < len(latency.sessions) else ""
    yield f"{record.quality.examples:,} / {latency.examples:,} in {len(used) if of else record.sessions}{of}"
    yield record.speedup.times
    yield "–" if library is None else f"{library.speedup.value:.3g}x"


def recommended(claims: Sequence[Claim], margin: float) -> list[str]:
    """Say which point is the fastest that is shown, with all that speaks against it in the same line."""
    shown = [claim for claim in claims if claim.together.kind == "shown"]
    if not shown:
        return [f"No point is shown within {margin:g} where all {len(claims)} are judged together (Holm)."]
    best = max(shown, key=lambda claim: claim.record.speedup.value)
    latency = best.record.latency
    said = [f"{best.record.speedup.times} on {plural(latency.examples, 'example')}"]
    if best.record.speedup.low <= 1.0:
        said.append("that it is faster than vanilla is not shown")
    if latency.library is not None and latency.library.speedup.value < 1.0:
        said.append(f"it is SLOWER than the library's own generate(): {latency.library.speedup.value:.2f}x")
    if latency.sessions and all(session.note is not None for session in latency.sessions):
        said.append("no session was fit for a claim of speed")
    return [
        f"Fastest shown within {margin:g}, all {len(claims)} judged together (Holm): {best.name}, {'; '.join(said)}."
    ]


def unsealed(records: Sequence[Record]) -> Iterator[str]:
    """Tell how many points nobody can say of whether they are as they were measured."""
    if count := sum(record.seal is None for record in records):
        yield f"{count} of {len(records)} without a seal, of an older version: a change by hand would not be seen."


def doubts(latency: Latency) -> Iterator[str]:
    """Tell what the speedup of a point cannot know, and which sessions it leaves out."""
    used = [session for session in latency.sessions if session.note is None]
    count = len(used or latency.sessions)
    if count == 0:
        yield "A record older than version 3 names no sessions: its speedup's interval covers the examples alone."
    elif count == 1:
        yield "1 session: the interval of a speedup does not hold the machine's state (measure.sessions=5 would)."
    elif count == 2:
        yield "2 sessions are too few to know the variation between them: the interval is wide to be safe."
    for session in latency.sessions:
        if session.note is not None:
            yield f"Session {session.number} is left out of the speedup: {session.note}."
    if latency.sessions and not used:
        yield "No session was fit for a claim of speed: the speedup uses all of them, and is no claim."


def told_of(record: Record, margin: float) -> Iterator[str]:
    """Tell of a point what its table does not: verdict, percentiles of latency, and what its sessions cannot know."""
    judged = verdict_of(record, margin)
    if judged is not None and record.method.name != "vanilla":
        yield f"Quality: {judged}."
    if record.latency.percentiles is not None:
        for who, found in (("", record.latency.percentiles.method), ("vanilla ", record.latency.percentiles.vanilla)):
            pace = record.latency.baseline.ms_per_token if who else record.latency.ms_per_token
            each = ", ".join(f"{name} {_percentile(one)}" for name, one in found.items())
            yield f"Latency: {who}{each} ms per example; {pace:.3g} ms per output token."
    yield from doubts(record.latency)


def _percentile(found: Percentile) -> str:
    low, high = ("?" if end is None else f"{end:.0f}" for end in (found.low, found.high))
    return f"{found.value:.0f} [{low}, {high}]" if (low, high) != ("?", "?") else f"{found.value:.0f} (too few)"


def main(argv: Sequence[str] | None = None) -> int:
    """Judge a results folder. Returns 0, or 2 after one sentence on stderr where there is nothing to judge."""
    about, _, _ = (__doc__ or "").partition("\n\n")
    parser = Arguments(prog="bild claims", description=" ".join(about.split()))
    parser.add_argument("results", type=folder_of, help="a results folder, or any folder within")
    parser.add_argument("--margin", type=margin_of, default=0.5, help="the allowed loss, in points (0.5)")
    parser.add_argument(
        "--scores", type=Path, metavar="FILE", help="JSON lines of a point: id, score, and score of vanilla's output"
    )

    def judge() -> None:
        given = parser.parse_args(argv)
        if given.scores is not None:
            print(outside(given.results, given.scores, given.margin))
        else:
            _judge(given.results, given.margin)

    return guard(judge)


@dataclass(frozen=True)
class OutsideScore:
    """A line of an outside metric: the scores of a point's output and of vanilla's."""

    id: str
    score: float
    vanilla: float


def outside(point: Path, file: Path, margin: float) -> str:
    """Judge a point by the mean of outside scores of each example; its paired interval is that of our own scores.

    BildError where the file has not exactly the point's examples.
    """
    import numpy as np

    from bild.metrics.claims import judge
    from bild.metrics.statistics import Statistics

    if not file.is_file():
        raise BildError(f"There is no file {file}: give the scores as JSON lines, {{id, score, vanilla}} each.")
    found = {line.id: line for line in read_lines(OutsideScore, file)}
    wanted = [sample.id for sample in read_samples(point)] if point.is_dir() else []
    if not wanted:
        raise BildError(f"{point} holds no finished example: give the folder of a point, such as `bild run` names it.")
    if {*wanted} != {*found}:
        raise BildError(
            f"{file} has {len(found):,} readable scores, of which {len({*wanted} & {*found}):,} are of the "
            f"{len(wanted):,} examples of {point}: give one line, {{id, score, vanilla}}, for each of them."
        )
    own, vanilla = (np.array([[getattr(found[id], name) / 100] for id in wanted]) for name in ("score", "vanilla"))
    scorer = Statistics("outside", 0.0, own, lambda sums, count: 100.0 * float(sums[0]) / count, "mean")
    judged = judge(own, vanilla, scorer, margin)
    return (
        f"{point.name}, {file.name}: {100 * own.mean():.4g}, vanilla {100 * vanilla.mean():.4g}, difference "
        f"{spread(judged.difference, signed=True)} on {len(wanted):,} examples: {judged}."
    )


def _judge(results: Path, margin: float) -> None:
    sections, skipped = find_sections(results)
    tables = [table(section, claims, margin) for section in sections if (claims := claims_of(section, margin))]
    if not tables:
        raise BildError(f"{results} has no finished point beside vanilla to judge: run one, `bild run`, and ask again.")
    show_tables(tables, [f"Left out: {each.path}: {each.why}" for each in skipped])


if __name__ == "__main__":
    sys.exit(main())
