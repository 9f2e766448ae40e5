"""`python -m bild.demo`: several methods and settings side by side on one task, a table, and a Pareto figure."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bild.cli import run_hydra
from bild.config import MAX_DRAFT, MethodConfig, RunConfig, ThresholdConfig


@dataclass
class DemoPoint:
    """One point: a method, for BiLD its thresholds and rules, and the most tokens of a draft."""

    method: str = "bild"
    fb: float | None = None
    rb: float | None = None
    max_draft: int = MAX_DRAFT
    rules: str = MethodConfig.rules


@dataclass
class DemoConfig(RunConfig):
    """What `python -m bild.run` can be told, a list of points in the place of one, and where the figure goes."""

    OWN: ClassVar[dict[str, str]] = {
        "threshold": "points=[...]",
        "threshold.*": "points=[...]",
        "method": "points=[...]",
        "method.name": "points=[...]",
        "method.max_draft": "points=[...]",
    }
    points: list[DemoPoint] = field(default_factory=list)
    out: str = "demo"


def job(config: DemoConfig) -> None:
    """Measure all points in one loop, then write the report."""
    from bild.measure.session import measure_points
    from bild.report import make_section
    from bild.report.terminal import show
    from bild.report.write import write_sections

    points = [
        (
            dataclasses.replace(
                config.method,
                name=point.method,
                max_draft=point.max_draft,
                rules=point.rules,
            ),
            ThresholdConfig(point.fb, point.rb),
        )
        for point in config.points
    ]
    measured = measure_points(config, points)
    section = make_section([point.record for point in measured])
    files = write_sections([section], Path(config.out), Path(config.results), [])
    show(files.sections, [f"Written: {', '.join(map(str, (files.text, *files.figures)))}"])


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "demo", DemoConfig)


if __name__ == "__main__":
    sys.exit(main())
