"""Predicted points as a figure needs them. They are never mixed with measured ones: they look different everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bild.report.sections import Section
from bild.results import Interval
from bild.results.predicted import Predicted as Sweep
from bild.results.predicted import PredictedPoint


@dataclass(frozen=True)
class Predicted:
    """A point that a sweep replayed in the decision tree: quality from the replay, times from calibrated prices.

    `seconds` is the mean of an example. `measured` says whether the sweep went on to measure the point.
    """

    label: str
    method: str
    rules: str | None
    max_draft: int | str | None
    fb: float | None
    rb: float | None
    quality: Interval
    speedup: Interval
    seconds: Interval
    measured: bool
    front: bool


@dataclass(frozen=True)
class Sweeps:
    """The predictions that belong to a section: their points, where they lie, and the trees that they follow from."""

    points: tuple[Predicted, ...] = ()
    files: tuple[Path, ...] = ()
    trees: tuple[Path, ...] = ()


def sweeps_of(section: Section, found: Sequence[tuple[Path, Sweep]]) -> Sweeps:
    """The sweeps that were made under the section's conditions; the newest prediction of a point counts."""
    fitting = sorted(
        ((path, sweep) for path, sweep in found if not differs(section, sweep)), key=lambda item: item[1].created
    )
    points: dict[tuple[object, ...], Predicted] = {}
    for _, sweep in fitting:
        for point in sweep.points:
            made = _point(point)
            points[made.method, made.rules, made.max_draft, made.fb, made.rb, made.label] = made
    trees = dict.fromkeys(path.parent.parent / "tree" / sweep.tree for path, sweep in fitting)
    return Sweeps(
        tuple(points.values()), tuple(path for path, _ in fitting), tuple(tree for tree in trees if tree.is_dir())
    )


def differs(section: Section, sweep: Sweep) -> list[str]:
    """The conditions in which a sweep and a section differ; empty where its points may stand beside the section's."""
    first = section.first
    packages = first.environment["packages"]
    pairs: Iterable[tuple[str, object, object]] = (
        ("task", sweep.task, first.task.name),
        ("pair", sweep.pair, first.pair.name),
        ("machine", sweep.machine["fingerprint"], first.environment["machine"]["fingerprint"]),
        ("engine", sweep.engine, first.engine),
        ("examples", sweep.examples, first.latency.examples),
        ("data", sweep.data_hash, first.task.data["hash"]),
        ("metric", (sweep.metric.name, sweep.metric.signature), (first.quality.headline, first.headline.signature)),
        *((f"package {name}", version, packages.get(name)) for name, version in sorted(sweep.packages.items())),
    )
    return [name for name, theirs, ours in pairs if theirs != ours]


def not_measured(section: Section, predicted: Sequence[Predicted]) -> list[Predicted]:
    """The predicted points that no record of the section stands for."""
    measured = {
        (r.method.name, r.method.rules, r.method.max_draft, r.threshold.fb, r.threshold.rb, r.label)
        for r in section.records
    }
    return [p for p in predicted if (p.method, p.rules, p.max_draft, p.fb, p.rb, p.label) not in measured]


def _point(point: PredictedPoint) -> Predicted:
    return Predicted(
        point.label,
        point.method.name,
        point.method.rules,
        point.method.max_draft,
        point.threshold.fb,
        point.threshold.rb,
        Interval(point.quality.score, point.quality.low, point.quality.high),
        point.speedup,
        Interval(point.seconds.mean, point.seconds.low, point.seconds.high),
        point.measured is not None,
        point.front,
    )
