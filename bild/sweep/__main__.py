"""`bild sweep` (or `python -m bild.sweep`): predict a grid of thresholds from one decision tree, and measure its front
live. `plan=only` says what that would take. Stopped, the same command goes on.

    bild sweep task=xsum plan=only
    bild sweep task=xsum sweep=fine
    bild sweep task=iwslt2017 sweep.find="speedup at -1.0"
"""

from __future__ import annotations

import sys

from bild.cli import conf_dir, run_hydra
from bild.sweep.config import SweepConfig


def job(config: SweepConfig) -> None:
    """Plan, sweep, show; search where `sweep.find` asks for it."""
    from bild.sweep.plan import make_plan  # torch, after the options are known to be good
    from bild.sweep.show import show_answer, show_plan, show_swept

    if config.plan == "only":
        show_plan(make_plan(config, conf_dir()))
        return
    from bild.errors import BildError
    from bild.sweep.context import Work
    from bild.sweep.drive import Sweep
    from bild.sweep.search import find

    sweep = Sweep(Work.open(config), conf_dir())
    if config.sweep.goal is not None:
        show_answer(find(sweep, config.sweep.goal), sweep.grown.scorer.name)
        return
    show_plan(make_plan(config, conf_dir()))
    swept = sweep.run()
    show_swept(swept)
    if swept.failed:
        raise BildError(f"Not everything was measured: {'; '.join(swept.failed)}; the same command tries again.")


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "sweep", SweepConfig)


if __name__ == "__main__":
    sys.exit(main())
