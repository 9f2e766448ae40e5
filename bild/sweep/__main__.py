"""`bild sweep` (or `python -m bild.sweep`): predict a grid of thresholds from one decision tree, and measure its front
live. `plan=only` says what that would take. After a stop the same command resumes.

    bild sweep task=xsum plan=only
    bild sweep task=xsum sweep=fine
    bild sweep task=xsum method=cascade 'sweep.alpha=[0.05,0.1,0.2]'
    bild sweep task=xsum 'sweep.methods=[bild,cascade,dynamic]'
    bild sweep task=iwslt2017 sweep.find=speedup   # confirmed once
    bild sweep task=iwslt2017 sweep.find=methods 'sweep.methods=[bild,cascade]'
"""

from __future__ import annotations

import sys

from bild.cli import run_hydra
from bild.cli.compose import published_settings, shapes
from bild.sweep.config import SweepConfig
from bild.sweep.grid import begun, grid_points, vanilla_point


def job(config: SweepConfig) -> None:
    """Plan, sweep, show; search and confirm where `sweep.find` asks for it."""
    from bild.errors import BildError
    from bild.sweep.context import SweepWork  # torch, after the options are known to be good
    from bild.sweep.drive import sweep
    from bild.sweep.estimates import keep
    from bild.sweep.find import find
    from bild.sweep.plan import Plan
    from bild.sweep.show import show_outcome, show_swept
    from bild.sweep.show_plan import planned_and_taken, show_plan

    goal = config.goal
    if goal is not None and config.plan != "only":
        outcome = find(config, goal)
        show_outcome(outcome)
        failed = outcome.confirmation.failed if outcome.confirmation is not None else []
    else:
        published = published_settings(config.task.name, config.model.name) if config.sweep.published else []
        points = grid_points(config.sweep, config.task, config.method, published)
        if goal is not None:
            points = [vanilla_point(), *begun(config.sweep.variants(config.method))]
        plan = Plan.of(config, points, shapes())
        show_plan(plan)
        if config.plan == "only":
            return
        swept = sweep(SweepWork(config), points)
        keep(config.results, swept.taken, plan.stages)
        show_swept(swept, config.measure.margin, planned_and_taken(plan.stages, swept.taken))
        failed = swept.failed
    if failed:
        raise BildError(f"Not everything was measured: {'; '.join(failed)}; the same command tries again.")


def main() -> int:
    """Run the command line; return the exit code."""
    return run_hydra(job, "sweep", SweepConfig)


if __name__ == "__main__":
    sys.exit(main())
