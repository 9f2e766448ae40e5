"""`bild demo` (or `python -m bild.demo`): measure several methods and settings side by side on one task, and write a
table and a Pareto figure.

    bild demo task.samples=null
    bild demo 'points=[{fb: 0.3, rb: 3}, {method: cascade, alpha: 0.2}]'
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bild.cli import load, options, run_hydra, typed
from bild.config import MethodConfig, RunConfig, ThresholdConfig
from bild.decoding.methods import refuse_unheeded, split_options
from bild.errors import BildError


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
    out: str = "demo"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings()  # a wrong point is refused before anything is measured

    def settings(self) -> list[tuple[MethodConfig, ThresholdConfig]]:
        """Return the method and the thresholds of every point; a switch that it leaves out is that of `method`."""
        return [self._setting(f"points[{number}]", point) for number, point in enumerate(self.points)]

    def _setting(self, where: str, told: Any) -> tuple[MethodConfig, ThresholdConfig]:
        if not isinstance(told, dict):
            raise BildError(f"{where}={told} is not a point: give a mapping, as in {{method: bild, fb: 0.3}}.")
        point = dict(told)
        option = point.pop("method", "bild")
        if option not in options("method"):
            raise BildError(f"{where}.method={option} is not known: choose one of {', '.join(options('method'))}.")
        preset = {key: value for key, value in load("method", option).items() if value is not None}
        switches, thresholds = split_options(point, f"{where}.")
        method: MethodConfig = typed(MethodConfig, dataclasses.asdict(self.method), preset, switches)
        threshold: ThresholdConfig = typed(ThresholdConfig, thresholds)
        refuse_unheeded(method, threshold, point)
        RunConfig(self.task, self.model, method, threshold, self.engine)  # refuses what cannot be run live
        return method, threshold


def job(config: DemoConfig) -> None:
    """Measure all points in one loop, then write the report."""
    from bild.measure.session import measure_points
    from bild.report import make_section, show, write_sections

    measured = measure_points(config, config.settings())
    section = make_section([point.record for point in measured])
    files = write_sections([section], Path(config.out), Path(config.results), [])
    show(files.sections, [f"Written: {', '.join(map(str, (files.text, *files.figures)))}"])


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "demo", DemoConfig)


if __name__ == "__main__":
    sys.exit(main())
