"""`python -m bild.train`: fine-tune a checkpoint or train a model from scratch, with early exits if wanted."""

from __future__ import annotations

import sys

from bild.cli import run_hydra
from bild.training.config import TrainConfig


def job(config: TrainConfig) -> None:
    """Train, or say that it is done."""
    from bild.training.job import train  # torch, after the options are known to be good

    print(train(config))


def main() -> int:
    """Run the command line; returns the exit code."""
    return run_hydra(job, "train", TrainConfig)


if __name__ == "__main__":
    sys.exit(main())
