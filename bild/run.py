"""`bild run` (or `python -m bild.run`): decode a task with a pair, by one method at one setting, and measure it beside
vanilla decoding. After a stop the same command resumes; a finished point is only shown.

    bild run model=t5-large threshold.fb=0.6 threshold.rb=2
    bild run -m task=xsum,cnndm threshold.fb=0.3,0.6
    bild run experiment=paper/xsum-aligned-rb2-fb0.6
    bild run task.samples=20 trace=3
    bild run --from results/xsum/t5-large/bild-0.6-2-...   # that point again
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bild.cli import run_hydra
from bild.cli.compose import as_written
from bild.config import RunConfig
from bild.errors import HELPS, BildError, guard, shown
from bild.options import MANY, folder_of, number
from bild.results import Point, read_record, read_samples
from bild.results.folder import CONFIG, RECORD


@dataclass
class TracedConfig(RunConfig):
    """All options of `bild run`: those of a point, and those that change no result."""

    trace: int = number(0, 0, MANY)
    """The number of examples to show afterwards, token by token. It changes no result, so it is in no hash."""


def job(config: TracedConfig) -> None:
    """Measure one point, or show it if it is finished; then some of its examples, if asked for."""
    measured(config)


def measured(config: TracedConfig) -> Point:
    """Do the job, and return the point."""
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
    return point


def again(folder: Path, options: Sequence[str]) -> None:
    """Measure a point anew from its folder, by its own configuration but for `options`, and compare the two.

    BildError where the folder holds no finished point.
    """
    from bild.report.format import plural

    if flags := [option for option in options if option.startswith("-")]:
        raise BildError(f"{shown(flags[0])} has no place beside --from, which takes key=value only: leave it out.")
    record = read_record(folder / RECORD)
    there = {"results": "results/again", "task": {"samples": record.task.data.get("samples")}}
    point = measured(as_written(folder / CONFIG, TracedConfig, there, options))
    before, now = ({s.id: s.tokens for s in read_samples(path)} for path in (folder, point.path))
    equal = sum(before.get(name) == tokens for name, tokens in now.items())
    both = (record, point.record)
    sizes = [each.quality.examples for each in both]
    of = [f" on {plural(size, 'example')}" if sizes[0] != sizes[1] else "" for size in sizes]  # a sweep's tree has more
    scores = " became ".join(f"{each.headline.value:.2f}{own}" for each, own in zip(both, of, strict=True))
    speeds = " became ".join(each.speedup.times for each in both)
    print(f"Again: {equal:,} of {len(now):,} texts equal those of {folder}; {scores}, {speeds}.")


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:2] and sys.argv[1].partition("=")[0] == "--from":
        folder, *options = [*sys.argv[1].split("=", 1)[1:], *sys.argv[2:], ""]
        given = [option for option in options if option]
        return guard(lambda: again(folder_of(folder), given), "stopped; the same command goes on from here", HELPS)
    return run_hydra(job, "run", TracedConfig)


if __name__ == "__main__":
    sys.exit(main())
