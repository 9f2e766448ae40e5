"""`python -m bild.run`: one method at one setting, on one task, pair and engine, measured beside vanilla decoding."""

from __future__ import annotations

import sys

from bild.cli import run_hydra
from bild.config import RunConfig


def job(config: RunConfig) -> None:
    """Measure one point, or show it if it is finished."""
    from bild.bench.session import measure_points  # torch, after the options are known to be good
    from bild.report import make_section
    from bild.report.terminal import show

    points = measure_points(config, [(config.method, config.threshold)])
    show([make_section([point.record for point in points])], [f"In {point.path}" for point in points])


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "run")


if __name__ == "__main__":
    sys.exit(main())
