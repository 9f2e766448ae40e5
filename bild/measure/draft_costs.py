"""The costs of drafts on a pair: measured for `max_draft` "auto" before the first example, kept in its folder.

The table is data of a point: its tokens follow from it, so a resumed point goes on with the one that it began with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from weakref import WeakKeyDictionary

from bild.config import DecodeConfig, MethodConfig, ThresholdConfig
from bild.decoding import DraftCosts, policy_for
from bild.engines import Engine
from bild.measure.live import run_live
from bild.models import Pair
from bild.results import PointFolder
from bild.results.prices import DraftCostsRecord

WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 32)
"""Widths of the large passes that are timed; the last is one more than the longest draft."""
POSITION = 16
"""Tokens before the draft: the passes of a text of usual length."""
REPEATS = 5
_TEXTS, _LENGTH = 3, 64

_known: WeakKeyDictionary[Engine, dict[tuple[float, float] | None, DraftCosts]] = WeakKeyDictionary()
"""By the large engine, whose pair and settings never change."""


def draft_costs(pair: Pair, engine: str, source: Sequence[int], decode: DecodeConfig | None = None) -> DraftCosts:
    """Measure the seconds of the parts of a round, by the engines in use, once per pair and engine in a process.

    Drawing a token takes longer than the greedy choice, so `decode` has costs of its own, whatever its seed.
    """
    large, small = pair.engine("large", engine), pair.engine("small", engine)
    known = _known.setdefault(large, {})
    key = (decode.top_p, decode.temperature) if decode is not None and decode.sample else None
    if key not in known:
        costs = _passes(large, small, pair.start, source, decode)
        known[key] = dataclasses.replace(costs, rest=_rest(pair, large, small, costs, source, decode))
    return known[key]


def _passes(large: Engine, small: Engine, start: int, source: Sequence[int], decode: DecodeConfig | None) -> DraftCosts:
    """Time rounds of every width, as a live run has them: the small model drafts, then the large one reads the draft.

    Medians over interleaved repeats, without the first, in which the engines make what they need for a width.
    """
    large.start(source, decode)
    small.start(source, decode)
    text = [start, *_write(large, [start], POSITION)]
    large.rewind(0)
    large.step(text[:-1])
    small.step(text[:-1])
    before, last = len(text) - 1, text[-1:]
    steps: list[float] = []
    passes: dict[int, list[float]] = {width: [] for width in WIDTHS}
    for repeat in range(REPEATS + 1):
        for width in WIDTHS:
            began = perf_counter()
            drafted = _write(small, last, max(1, width - 1))  # of width 1: behind a step that was unsure
            between = perf_counter()
            large.step([*last, *drafted][:width], want=width)
            done = perf_counter()
            large.rewind(before)
            small.rewind(before)
            if repeat:
                passes[width].append(done - between)
                steps.append((between - began) / len(drafted))
    return DraftCosts(median(steps), tuple((width, median(seconds)) for width, seconds in passes.items()))


def _write(engine: Engine, feed: list[int], count: int) -> list[int]:
    """Write exactly so many tokens after `feed`, whatever they are: an end token does not end them."""
    out: list[int] = []
    while len(out) < count:
        tokens, _, _ = engine.draft(feed, count - len(out), 0.0)
        out += tokens
        feed = tokens[-1:]
    return out


def _rest(
    pair: Pair, large: Engine, small: Engine, costs: DraftCosts, source: Sequence[int], decode: DecodeConfig | None
) -> float:
    """Return the seconds that the policy itself takes of a round."""
    make = policy_for(MethodConfig("speculative", max_draft="auto"), ThresholdConfig(), costs)
    found = []
    for _ in range(_TEXTS):
        run = run_live(make(start=pair.start, eos=pair.eos, max_length=_LENGTH), source, large, small, decode)
        found.append(run.phases_ns["rest"] / 1e9 / len(run.decoded.rounds))
    return median(found)


def costs_of(
    folder: PointFolder, pair: Pair, engine: str, source: Sequence[int], decode: DecodeConfig | None = None
) -> DraftCosts:
    """Return the table that a point goes by: the one that its folder has, or one measured now and kept there.

    BildError where the folder has examples but no table, or one that cannot be read.
    """
    kept = folder.draft_costs()
    if kept is None:
        kept = recorded(draft_costs(pair, engine, source, decode))
        folder.keep_draft_costs(kept)
    return DraftCosts(kept.small, tuple(sorted(kept.large.items())), kept.rest)


def recorded(costs: DraftCosts) -> DraftCostsRecord:
    """Return the table as records have it."""
    return DraftCostsRecord(costs.small, dict(costs.large), costs.rest)
