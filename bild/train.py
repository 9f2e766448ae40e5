"""`bild train` (or `python -m bild.train`): fine-tune a checkpoint of a pair (`model=...`, with `role=large` or
`small`), or train a model from scratch (`shape=...`), with early exits if wanted. After a stop the same
command resumes.

    bild train task=xsum model=t5-small train.epochs=5
    bild train task=multi30k shape=embedded-small train=scratch out=small
    bild train task=xsum model=t5-small train.exit=2
"""

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
