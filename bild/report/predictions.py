"""The predicted points of a section. They are never mixed with measured ones: they look different everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bild.report.sections import Section
from bild.results import Interval, Record
from bild.results.hashing import SHORT
from bild.results.pareto import front
from bild.results.parts import Method, Threshold
from bild.results.predicted import Predicted, PredictedPoint


@dataclass(frozen=True)
class Sweeps:
    """The predictions of a section: each point once, and by the folder of each tree that is there what it predicts.

    The trees are ordered by their newest sweep, the newest last.
    """

    points: tuple[PredictedPoint, ...] = ()
    trees: Mapping[Path, tuple[PredictedPoint, ...]] = field(default_factory=dict)


def sweeps_of(section: Section, found: Sequence[tuple[Path, Predicted]]) -> Sweeps:
    """The sweeps that were made under the section's conditions; the newest prediction of a point counts."""
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


def setting(point: Record | PredictedPoint) -> tuple[Method, Threshold]:
    """What a point is, whether predicted or measured: its switches, resolved, and its thresholds."""
    return point.method, point.threshold


def not_measured(section: Section, predicted: Sequence[PredictedPoint]) -> list[PredictedPoint]:
    """The predicted points that no record of the section stands for, in whatever run that was measured."""
    measured = {setting(record) for record in section.records}
    return [point for point in predicted if setting(point) not in measured]


def quality_of(point: PredictedPoint) -> Interval:
    """The headline score, with its interval."""
    return Interval(point.quality.score, point.quality.low, point.quality.high)


def ms_of(point: PredictedPoint) -> Interval:
    """Milliseconds per example."""
    return Interval(*(1e3 * end for end in (point.seconds.mean, point.seconds.low, point.seconds.high)))


def _newest(points: Iterable[PredictedPoint]) -> tuple[PredictedPoint, ...]:
    """Each setting once, as it was predicted last, and the front of them all."""
    found = list({setting(point): point for point in points}.values())
    best = set(front([(point.speedup.value, point.quality.score) for point in found]))
    return tuple(dataclasses.replace(point, front=index in best) for index, point in enumerate(found))
