"""From what a contest measured to the rows of its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from bild.bench.bench_result import FAILED, MEASURED, SKIPPED, Agreement, Floor, Row, Spread, Wide
from bild.bench.contest import Measured
from bild.bench.entrants import Timed
from bild.bench.field import Field
from bild.bench.subjects import Subject
from bild.engines import common_prefix

BASELINE = "generate"


@dataclass(frozen=True)
class Ground:
    """All that rows are made of."""

    subject: Subject
    made: Field
    measured: Measured
    floors: Mapping[int, Floor]
    token_floor: Callable[[str], Floor]
    """The floor of a step by the precision of the weights."""


def make_rows(ground: Ground) -> dict[str, Row]:
    """A row for every engine and peer that was asked for, measured or not."""
    return {name: _row(ground, name) for name in ground.made.kinds}


def _row(ground: Ground, name: str) -> Row:
    made, measured = ground.made, ground.measured
    kind, precision = made.kinds[name], made.precisions[name]
    if name in made.missing:
        status, why = made.missing[name]
        return Row(kind, status, why, precision)
    decodes = measured.decodes.get(name, {})
    if name in measured.failures or not decodes:
        why = measured.failures.get(name, "stopped before its first repeat")
        return Row(kind, FAILED if name in measured.failures else SKIPPED, why, precision)
    ms = {repeat: _ms(timed) for repeat, timed in decodes.items()}
    median = Spread.of(ms.values())
    own = kind != "small"  # the floor is the large model's
    floor = ground.token_floor(precision) if own else None
    baseline = {repeat: _ms(timed) for repeat, timed in measured.decodes.get(BASELINE, {}).items()} if own else {}
    faster = [baseline[repeat] / value for repeat, value in ms.items() if repeat in baseline]
    told = [made.notes[name]] if name in made.notes else []
    told += [f"width {width}: {why}" for width, why in measured.wide_failures.get(name, {}).items()]
    return Row(
        kind=kind,
        status=MEASURED,
        note="; ".join(told) or None,
        precision=precision,
        ms_per_token=median,
        first_ms=Spread.of(timed.first_ns / 1e6 for timed in decodes.values()),
        faster=Spread.of(faster) if faster else None,
        gb_per_s=floor.bytes / median.median / 1e6 if floor else None,
        gflop_per_s=floor.flops / median.median / 1e6 if floor else None,
        floor=floor,
        over_floor=median.median / floor.ms if floor else None,
        agreement=_agreement(ground, name) if own else None,
        wide=_wide(measured.wide_ns.get(name, {}), ground.floors) if kind == "engine" else None,
        repeats_ms=ms,
    )


def _ms(timed: Timed) -> float:
    return timed.rest_ns / 1e6 / max(1, timed.rest)


def _wide(ns: Mapping[int, Mapping[int, int]], floors: Mapping[int, Floor]) -> dict[int, Wide] | None:
    if not ns:
        return None
    narrowest = ns[min(ns)]
    found = {}
    for width, taken in sorted(ns.items()):
        ratios = [value / narrowest[repeat] for repeat, value in taken.items() if repeat in narrowest]
        ms = Spread.of(value / 1e6 for value in taken.values())
        if ratios:
            found[width] = Wide(ms, Spread.of(ratios), ms.median / floors[width].ms)
    return found


def _agreement(ground: Ground, name: str) -> Agreement | None:
    """Against `generate`'s tokens, or those of the first engine where it was not measured."""
    decodes = ground.measured.decodes
    reference = BASELINE if BASELINE in decodes else next(iter(decodes))
    if name == reference:
        return None
    common = [repeat for repeat in decodes[name] if repeat in decodes[reference]]
    pairs = [(repeat, decodes[reference][repeat].tokens, decodes[name][repeat].tokens) for repeat in common]
    parted = [(repeat, a, b) for repeat, a, b in pairs if a != b]
    if not parted:
        return Agreement(reference, len(pairs), len(pairs))
    repeat, a, b = parted[0]
    at = common_prefix(a, b)
    gap = None
    if at < min(len(a), len(b)):
        sources = ground.subject.sources
        gap = _gap(ground.subject, sources[repeat % len(sources)], a[:at], a[at], b[at])
    return Agreement(reference, len(pairs) - len(parted), len(pairs), at, gap)


@torch.inference_mode()
def _gap(subject: Subject, source: Sequence[int], text: Sequence[int], one: int, other: int) -> float | None:
    """How much more probable `one` is than `other` after a text, in nats; None where the model gives no number."""
    module = subject.large
    logits = module(
        input_ids=torch.tensor([list(source)], device=module.device),
        decoder_input_ids=torch.tensor([[subject.start, *text]], device=module.device),
        use_cache=False,
    ).logits[0, -1]
    gap = float(logits[one].float() - logits[other].float())
    return gap if abs(gap) < float("inf") else None
