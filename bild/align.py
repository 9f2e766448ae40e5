"""`python -m bild.align`: the small model of a pair learns what the large one writes for the training inputs."""

from __future__ import annotations

import sys

from bild.cli import run_hydra
from bild.training.config import AlignConfig


def job(config: AlignConfig) -> None:
    """Align, or say that it is done."""
    from bild.training.alignment import align  # torch, after the options are known to be good

    print(align(config))


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "align", AlignConfig)


if __name__ == "__main__":
    sys.exit(main())
