"""A plan on the terminal, and what became of it: its stages as planned and as they went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from bild.report.table import wide_console
from bild.sweep.grid import BASELINE, GRID, PUBLISHED
from bild.sweep.plan import Plan, SessionWidth
from bild.sweep.stages import Span, Taken, in_all

STAGE_WORDS = {"tree": "the tree", "prices": "prices", "search": "the search", "live": "live"}


def show_plan(plan: Plan) -> None:
    """Print what a sweep would do, what is done already, and what the rest takes."""
    out = wide_console()
    for title, lines in (("What", _what(plan)), ("Done", _done(plan)), ("Takes", _takes(plan))):
        out.print(f"[bold]{title}[/bold]")
        for line in lines:
            out.print(f"  {line}", markup=False, soft_wrap=True)


def _what(plan: Plan) -> Iterator[str]:
    config, sweep = plan.config, plan.config.sweep
    origins = Counter(point.origin for point in plan.points)
    live = "every point"
    if (goal := sweep.goal(config.measure.margin)) is not None:
        live = f"up to {plan.measured - 1} settings that {goal} chooses, and vanilla, on the examples that confirm"
    elif sweep.front >= 0:
        live = f"baselines, published settings and up to {sweep.front} of the front"
    yield f"{config.task.name} by {config.model.pair_name}, engine {config.engine.name} {config.engine.dtype}"
    titles = Counter(point.method.spec.title for point in plan.points if point.origin == GRID)
    grid = f" ({', '.join(f'{count:,} {title}' for title, count in titles.items())})" if len(titles) > 1 else ""
    yield (
        f"{len(plan.points):,} points: {origins[GRID]:,} of the grid{grid}, {origins[BASELINE]} baselines, "
        f"{origins[PUBLISHED]} published"
    )
    if bounds := sum(not point.live for point in plan.points):
        yield f"upper bounds among them (stop=oracle, predicted and never measured): {bounds:,}"
    yield f"{plan.examples:,} examples ({plan.examples_source}) in the tree, for quality and counts of every point"
    yield (
        f"live: {live}, on a sub-sample that grows until every speedup is known to ±{sweep.width:.0%}, "
        f"or {sweep.minutes:g} minutes are spent"
    )
    yield _sessions(plan.sessions, sweep.width)
    claim = plan.claim
    needed = "more than ten million" if claim.examples is None else f"about {claim.examples:,}"
    yield (
        f"a claim of at most {claim.margin:g} lost takes {needed} examples where the method is as good as vanilla "
        f"(differences of {claim.sd:.1f} points per example: {claim.source})"
    )


def _sessions(sessions: SessionWidth, width: float) -> str:
    if sessions.count < 2:
        return "1 session: the machine's state is in no interval (measure.sessions=5 puts it there)"
    falls = ": more than sweep.width, which takes more sessions" if sessions.width > width else ""
    known = f"sessions differ by {sessions.between:.1%} ({sessions.source})"
    return f"{sessions.count} sessions a stage: {known}, so any number of examples leaves ±{sessions.width:.1%}{falls}"


def _done(plan: Plan) -> Iterator[str]:
    stored = plan.stored
    if not (stored.trees or stored.measured or stored.begun or stored.sweeps):
        yield f"nothing yet in {stored.folder}"
        return
    for tree in stored.trees:
        yield f"tree {tree.name}: {amount(tree.bytes)}{', with prices' if tree.priced else ''}"
    yield f"{stored.measured} measured points, {stored.begun} begun"
    for sweep in stored.sweeps:
        measured = sum(point.measured is not None for point in sweep.points)
        state = "finished" if sweep.finished else "begun"
        yield f"sweep {sweep.hash[:10]}: {state}, {len(sweep.points):,} points, {measured} measured"


def _takes(plan: Plan) -> Iterator[str]:
    if plan.text is None:
        yield f"hours: unknown, the sizes of {plan.large} are not known here; fetch it first"
    else:
        text, source = plan.text
        known = (
            f"by {plan.learned} stages of earlier sweeps here" if plan.learned else "guesses, before the first sweep"
        )
        yield f"one vanilla pass: {told(text.times(plan.examples))} ({told(text)} a text; from {source})"
        for stage, span in plan.stages.items():
            yield f"{STAGE_WORDS[stage]}: {told(span)}"
        every = text.times(plan.examples * len(plan.points))
        yield f"in all: {told(in_all(plan.stages))} ({known}); every point decoded live: {told(every)}"
        if plan.claim.examples is not None and plan.examples:
            tree = plan.stages["tree"].times(plan.claim.examples / plan.examples)
            yield f"the tree of a claim's {plan.claim.examples:,} examples: {told(tree)}"
        yield (
            f"texts of {plan.lengths.source} source and {plan.lengths.target} output tokens on average "
            f"({plan.lengths_source})"
        )
    samples = f"up to {amount(plan.samples_bytes)} for measured examples"
    yield f"disk: about {amount(plan.tree_bytes)} for the tree, {samples}"
    if plan.needs:
        (dtype, need), *others = plan.needs.items()
        rest = ", ".join(f"{each.total / 1e9:.1f} GB in {name}" for name, each in others)
        trees = f"up to {amount(plan.batch_bytes)}, on a GPU 0.4 of what is left,"
        yield f"memory: on the device in {dtype} {need.told()}; {trees} for the tree ({rest})"


def told(span: Span) -> str:
    """Write a span of time for people."""
    low, high = _duration(span.low), _duration(span.high)
    return low if low == high else f"{low} to {high}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds * 1e3:.0f} ms"


def amount(size: float) -> str:
    """Write bytes for people."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size:.0f} B"


def planned_and_taken(planned: Mapping[str, Span], taken: Sequence[Taken]) -> list[str]:
    """Say stage by stage what was planned and what it took; a stage that was done before is left out."""
    lines = []
    for each in taken:
        span = planned.get(each.stage)
        words = "" if span is None else f", planned {told(span)}{'' if _kept(span, each.seconds) else ' !'}"
        lines.append(f"{STAGE_WORDS[each.stage]} {_duration(each.seconds)}{words}")
    return [f"Took: {'; '.join(lines)}. The next plan here goes by it."] if lines else []


def _kept(span: Span, seconds: float) -> bool:
    return span.low <= seconds <= span.high
