"""Predictions, never mixed with measurements: the points of sweeps, and any threshold that a tree replays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bild.config import MethodConfig, ThresholdConfig, margin_of
from bild.errors import BildError
from bild.report.format import Named, plural
from bild.report.sections import MARGIN, Section
from bild.results import Interval, Record
from bild.results.folder import SHORT
from bild.results.parts import Method, Threshold
from bild.results.predicted import Agreement, Forecast, Judgement, Predicted, PredictedPoint
from bild.results.reading import front

if TYPE_CHECKING:
    import pandas as pd

    from bild.metrics.claims import Verdict
    from bild.tree import Tree

FB = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RB = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, math.inf)


Foreseen = tuple[Record, PredictedPoint, Agreement]
"""A measured point, its prediction, and how the two agree."""


@dataclass(frozen=True)
class Sweeps:
    """The predictions of a section: each point once, and by the folder of each tree that is there what it predicts.

    The trees are ordered by their newest sweep, the newest last.
    """

    points: tuple[PredictedPoint, ...] = ()
    trees: Mapping[Path, tuple[PredictedPoint, ...]] = field(default_factory=dict)


def sweeps_of(section: Section, found: Sequence[tuple[Path, Predicted]]) -> Sweeps:
    """Return the sweeps made under the section's conditions; the newest prediction of a point counts."""
    fitting = sorted(
        ((path, sweep) for path, sweep in found if not differs(section, sweep)), key=lambda item: item[1].created
    )
    trees: dict[Path, list[PredictedPoint]] = {}
    for path, sweep in fitting:
        folder = path.parent.parent / "tree" / sweep.tree[:SHORT]
        trees[folder] = [*trees.pop(folder, ()), *sweep.points]
    return Sweeps(
        _newest([point for _, sweep in fitting for point in sweep.points]),
        {folder: _newest(points) for folder, points in trees.items() if folder.is_dir()},
    )


def differs(section: Section, sweep: Predicted) -> list[str]:
    """Return the conditions in which a sweep and a section differ; empty where its points fit the section."""
    first = section.first
    packages = first.environment["packages"]
    pairs: Iterable[tuple[str, object, object]] = (
        ("task", sweep.task, first.task.name),
        ("pair", sweep.pair, first.pair.name),
        *((f"{name} model", mark, getattr(first.pair, name).fingerprint) for name, mark in sweep.models.items()),
        ("machine", sweep.machine["fingerprint"], first.environment["machine"]["fingerprint"]),
        ("engine", sweep.engine, first.engine),
        ("decode", sweep.decode, first.decode),
        ("examples", sweep.examples, first.quality.examples),
        ("data", sweep.data_hash, first.quality.data),
        ("metric", (sweep.metric.name, sweep.metric.signature), (first.quality.headline, first.headline.signature)),
        *((f"package {name}", version, packages.get(name)) for name, version in sorted(sweep.packages.items())),
    )
    return [name for name, theirs, ours in pairs if theirs != ours]


def setting(point: Named) -> tuple[Method, Threshold]:
    """Return what tells a point from others, predicted or measured: its switches, resolved, and its thresholds."""
    return point.method, point.threshold


def not_measured(section: Section, predicted: Sequence[PredictedPoint]) -> list[PredictedPoint]:
    """Return the predicted points that no record of the section stands for, in whatever run that was measured."""
    measured = {setting(record) for record in section.records}
    return [point for point in predicted if setting(point) not in measured]


def quality_of(point: PredictedPoint) -> Interval:
    """Return the headline score with its interval."""
    return Interval(point.quality.score, point.quality.low, point.quality.high)


def difference_of(section: Section, point: PredictedPoint) -> Interval:
    """Return the paired difference of the score to vanilla's; of an older sweep, the scores subtracted."""
    if point.difference is not None:
        return point.difference
    own = quality_of(point)
    return Interval(own.value - section.base, own.low - section.base, own.high - section.base)


def within(section: Section, point: PredictedPoint) -> Verdict | None:
    """Judge the difference of a predicted point at the section's margin; None where the sweep kept no one-sided end."""
    from bild.metrics.claims import verdict

    found = point.difference
    return None if found is None else verdict(found, section.margin, section.first.quality.examples)


def foreseen(section: Section, predicted: Sequence[PredictedPoint]) -> list[Foreseen]:
    """Return every point that was both predicted and measured, but for vanilla."""
    guesses = {setting(point): point for point in predicted}
    return [
        (record, guess, agreement_of(record, guess))
        for record in section.records
        if record.method.name != "vanilla" and (guess := guesses.get(setting(record)))
    ]


def ms_of(point: PredictedPoint) -> Interval:
    """Return milliseconds per example."""
    return Interval(*(1e3 * end for end in (point.seconds.mean, point.seconds.low, point.seconds.high)))


def agreement_of(record: Record, point: PredictedPoint) -> Agreement:
    """Return the prediction of before the measurement beside it, on the same examples if the sweep measured the point.

    Else the prediction is over all examples, and the record's own ones are a part of them.
    """
    if point.agreement is not None:
        return point.agreement
    guess = point.before or Forecast(point.seconds, point.speedup)
    own, seconds = record.speedup, record.latency.ms_per_example.value / 1e3
    inside = guess.speedup.low <= own.high and own.low <= guess.speedup.high
    settled = (point.speedup.value, point.seconds.mean) if point.before else (None, None)
    return Agreement(record.latency.examples, guess.speedup.value, own, guess.seconds.mean, seconds, inside, *settled)


def judged(both: Sequence[Foreseen]) -> str:
    """Say how far the predictions were off: what all share, and what is left; and which were made when."""
    found = [agreement for _, _, agreement in both]
    before = [agreement for _, point, agreement in both if point.before is not None]
    text = f"{plural(len(both), 'point')}. Predicted over measured speedup: "
    parts = [
        f"{when}: bias {100 * told.bias:+.1f} % (mean), scatter {100 * told.scatter:.1f} % (sd about it)"
        for when, told in (
            ("before the measurement", Judgement.of(before)),
            ("settled by prices taken beside it", Judgement.of(found, settled=True)),
            ("settled beside the measurement, so no test", None if before else Judgement.of(found)),
        )
        if told is not None
    ]
    outside = sum(not agreement.inside for agreement in found)
    return f"{text}{'; '.join(parts)}. !: {outside} whose intervals do not meet."


def _newest(points: Iterable[PredictedPoint]) -> tuple[PredictedPoint, ...]:
    """Return each setting once, as it was predicted last, with the front of them all."""
    found = list({setting(point): point for point in points}.values())
    live = [index for index, point in enumerate(found) if point.method.stop != "oracle"]  # which is an upper bound
    best = {live[place] for place in front([(found[i].speedup.value, found[i].quality.score) for i in live])}
    return tuple(dataclasses.replace(point, front=index in best) for index, point in enumerate(found))


def threshold_table(tree: Tree, fb: Sequence[float] = FB, rb: Sequence[float] = RB, **switches: Any) -> pd.DataFrame:
    """Return one row a setting that the tree can replay: thresholds, quality, rates, and speed where it has prices.

    `switches` are those of `conf/method` (`max_draft=5`, `rules="authors"`). Quality is in the metric's points with its
    interval, `difference` is to vanilla, with its one-sided ends `lower` and `upper`; rates are per token; `speedup` is
    the ratio of predicted totals.
    BildError where the tree reaches none of the settings.
    """
    import pandas as pd

    method = MethodConfig("bild", **switches)
    asked = [(method, ThresholdConfig(one, other)) for one in fb for other in rb]
    points = [point for point in asked if not tree.missing([point])]
    if not points:
        raise BildError(
            f"The decision tree in {tree.path} was not grown for any of these thresholds: sweep them first."
        )
    vanilla, *replays = tree.replay_grid([(MethodConfig("vanilla"), ThresholdConfig()), *points])
    base = None if vanilla.seconds is None else float(vanilla.seconds.sum())
    rows = []
    for (_, threshold), replay in zip(points, replays, strict=True):
        row: dict[str, Any] = {"fb": threshold.fb, "rb": threshold.rb}
        quality, difference, seconds = replay.quality, replay.difference(vanilla), replay.seconds
        row |= {"quality": quality.value, "low": quality.low, "high": quality.high}
        row |= {"difference": difference.value, "lower": difference.lower, "upper": difference.upper}
        rates = ("fallback_rate", "rollback_rate", "tokens_per_large_pass")
        row |= {name: getattr(replay.counts, name) for name in rates}
        row["ms_per_example"] = None if seconds is None else 1e3 * float(seconds.mean())
        row["speedup"] = None if seconds is None or base is None else base / float(seconds.sum())
        rows.append(row)
    return pd.DataFrame(rows)


def fastest(table: pd.DataFrame, margin: float = MARGIN, by: str = "lower") -> pd.Series[Any]:
    """Return the row of the highest speedup that is shown to lose at most `margin` points against vanilla.

    `by="difference"` goes by the point estimate, as the paper chose. Without prices, tokens per large pass stand for
    speed. BildError where no row is good enough.
    """
    good = table[table[by] >= -margin_of(margin, "margin") - 1e-9]
    if good.empty:
        raise BildError(
            f"No setting is shown to lose {margin:g} points or less: allow a larger margin, take more examples, or "
            'choose by="difference", as the paper did.'
        )
    speed = "speedup" if table["speedup"].notna().all() else "tokens_per_large_pass"
    return good.iloc[int(good[speed].to_numpy().argmax())]


def halves(tree: Tree) -> tuple[Tree, Tree]:
    """Divide a tree's examples in two, at random but always alike: one half to choose on, the other to confirm on."""
    ids = sorted((example.id for example in tree.examples), key=lambda name: sha256(str(name).encode()).digest())
    middle = len(ids) // 2
    if not middle:
        raise BildError("One example cannot be divided in two: choose and confirm on more of them.")
    return tree.take(ids[:middle]), tree.take(ids[middle:])
