"""`bild align` (or `python -m bild.align`): the large model of a pair writes outputs for the training inputs, and the
small one learns them. After a stop the same command resumes.

The small model begins as `align.start=pretrained`, `finetuned` or `scratch` (with `shape=...`), and learns by
`align.loss=sequence`, `kl`, `reverse-kl` or `js`.

    bild align task=xsum model=t5-large
    bild align task=file task.path=my model=folders model.large=a model.small=b
"""

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
