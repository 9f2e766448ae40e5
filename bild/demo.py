"""`bild demo` (or `python -m bild.demo`): judge several fixed settings side by side on one task, and write a table, a
figure and the verdicts.

Quality covers all examples, by a decision tree; speed covers the few that are decoded live.

    bild demo timed=200
    bild demo 'points=[{fb: 0.3, rb: 3}, {method: cascade, alpha: 0.2}]'
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bild.cli import load, options, run_hydra
from bild.config import MethodConfig, RunConfig, ThresholdConfig
from bild.decoding.methods import Setting, refuse_unheeded, split_options
from bild.decoding.policies import paced
from bild.errors import BildError
from bild.metrics.claims import holm, verdict_of
from bild.options import MANY, folder, number
from bild.results import Point, Record
from bild.results.reading import ANCHORS


@dataclass
class DemoConfig(RunConfig):
    """All options of `bild run`, with a list of points in the place of one, and the folder of the figure."""

    OWN: ClassVar[dict[str, str]] = {
        "threshold": "points=[...]",
        "threshold.*": "points=[...]",
        "method": "points=[...]",
        "method.name": "points=[...]",
        "method.max_draft": "points=[...]",
    }
    points: list[Any] = field(default_factory=list)
    """Each is a method (an option of conf/method, bild where none is named) with any of its switches and thresholds."""
    timed: int | None = number(40, 1, MANY)
    """So many examples, a random part, are decoded live, and a decision tree tells the quality of all. None: all are
    decoded live, as methods need that no tree can replay."""
    out: str = folder("demo")

    def __post_init__(self) -> None:
        super().__post_init__()
        settings = self.settings()  # a wrong point is refused before anything is measured
        if not settings:
            raise BildError("points=[] names no point: give one or more, as in points=[{fb: 0.3}].")
        for place, (method, _) in enumerate(settings):
            if (first := settings.index(settings[place])) < place:
                raise BildError(f"points[{place}] is points[{first}] once more: leave one of them out.")
            if self.timed is not None and (method.spec.exits or paced(method)):
                raise BildError(
                    f"points[{place}], {method.name}, goes by what only a live run knows, and no decision tree can "
                    "judge it: timed=null decodes all examples live."
                )

    def settings(self) -> list[Setting]:
        """Return the method and the thresholds of every point; a switch that it leaves out is that of `method`."""
        return [self._setting(f"points[{number}]", point) for number, point in enumerate(self.points)]

    def _setting(self, where: str, told: Any) -> Setting:
        if not isinstance(told, dict):
            raise BildError(f"{where}={told} is not a point: give a mapping, as in {{method: bild, fb: 0.3}}.")
        point = dict(told)
        option = point.pop("method", "bild")
        if option not in options("method"):
            raise BildError(f"{where}.method={option} is not known: choose one of {', '.join(options('method'))}.")
        preset = {str(key): value for key, value in load("method", option).items() if value is not None}
        switches, thresholds = split_options(point, f"{where}.")
        method = MethodConfig(**(dataclasses.asdict(self.method) | preset | switches))
        threshold = ThresholdConfig(**thresholds)
        refuse_unheeded(method, threshold, point)
        RunConfig(self.task, self.model, method, threshold, self.engine)  # refuses what cannot be run live
        return method, threshold


def job(config: DemoConfig) -> None:
    """Judge all points, then write the report; the last lines are the verdicts and the next command to type."""
    from bild.report import make_section, markdown, save, show
    from bild.report.table import write_text

    records = [point.record for point in _measured(config)]
    section = make_section(records, margin=config.measure.margin)
    out, picture = Path(config.out), f"![Speedup against quality: {section.title}](pareto.png)"
    figures = save(section.records, out)
    text = write_text(out / "table.md", f"# Speed against quality\n\n{markdown(section)}\n{picture}\n")
    written = f"Written: {', '.join(map(str, (text, *figures)))}"
    show([section], [written, *claims(records, config.measure.margin, config.measure.confidence), following(config)])


def _measured(config: DemoConfig) -> list[Point]:
    if config.timed is None:
        from bild.measure.session import measure_points

        return measure_points(config, config.settings())
    from bild.sweep.drive import replay_and_time

    return replay_and_time(config, config.settings(), config.timed)


def claims(records: Iterable[Record], margin: float, confidence: float = 0.95) -> list[str]:
    """Say of each point that may lose quality what is known at this margin, all of them judged together."""
    from bild.report.format import metric_name

    lossy = [(each, found) for each in records if _may_lose(each) and (found := verdict_of(each, margin))]
    lines = []
    for (record, _), judged in zip(lossy, holm([found for _, found in lossy], confidence), strict=True):
        speed = record.speedup
        slow = "" if speed.low > 1 else " (not shown to be faster)"
        lines.append(
            f"{record.label}: {speed.times}{slow} on "
            f"{record.latency.examples} examples, {judged.difference.value:+.2f} {metric_name(record)} on "
            f"{record.quality.examples}: {judged}."
        )
    return lines


def _may_lose(record: Record) -> bool:
    return record.method.name not in ANCHORS and record.method.keep != "exact"


def following(config: DemoConfig) -> str:
    """Return the command that chooses thresholds for this pair and confirms them on texts that it did not see."""
    task, model = config.task, config.model
    words = {
        "task": task.name,
        "task.path": task.path if task.data == "file" else None,
        "model": model.name,
        "model.large": model.large if model.name == "folders" else None,
        "model.small": model.small if model.name == "folders" else None,
        "sweep.find": "speedup",
        "sweep.choose": None if task.confirm else 0.5,
        "sweep.margin": f"{config.measure.margin:g}",
    }
    return f"Next: bild sweep {shlex.join(f'{name}={word}' for name, word in words.items() if word is not None)}"


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "demo", DemoConfig)


if __name__ == "__main__":
    sys.exit(main())
