"""`bild run` (or `python -m bild.run`): decode a task with a pair, by one method at one setting, and measure it beside
vanilla decoding. Stopped, the same command goes on; a finished point is shown.

    bild run model=t5-large threshold.fb=0.6 threshold.rb=2
    bild run -m task=xsum,cnndm threshold.fb=0.3,0.6
    bild run experiment=paper/xsum-aligned-rb2-fb0.6
    bild run task.samples=20 trace=3
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from bild.cli import run_hydra
from bild.config import RunConfig
from bild.options import MANY, number


@dataclass
class TracedConfig(RunConfig):
    """All options of `bild run`: those of a point, and those that change no result."""

    trace: int = number(0, 0, MANY)
    """The number of examples to show afterwards, token by token. It changes no result, so it is in no hash."""


def job(config: TracedConfig) -> None:
    """Measure one point, or show it if it is finished; then some of its examples, if asked for."""
    from bild.claims import told_of
    from bild.measure.session import measure_points  # torch, after the options are known to be good
    from bild.report import make_section, show

    (point,) = measure_points(config, [(config.method, config.threshold)])
    section = make_section([point.record], margin=config.measure.margin)
    show([section], [*told_of(point.record, config.measure.margin), f"In {point.path}"])
    if config.trace:
        from bild.models import PairSpec, text_decoder
        from bild.report.trace import show_traces
        from bild.tasks import load_task

        sources = {example.id: example.source for example in load_task(config.task).examples}
        show_traces(point.path, config.trace, text_decoder(PairSpec.of_run(config)), sources)


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "run", TracedConfig)


if __name__ == "__main__":
    sys.exit(main())
