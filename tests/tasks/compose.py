"""Making task configurations as the command lines do, without Hydra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bild.config import TaskConfig

CONF = Path(__file__).parents[2] / "conf" / "task"
NAMES = tuple(sorted(file.stem for file in CONF.glob("*.yaml")))


def task(name: str, **options: Any) -> TaskConfig:
    """The task option `name` of conf/task with some values replaced."""
    merged = OmegaConf.merge(OmegaConf.structured(TaskConfig), OmegaConf.load(CONF / f"{name}.yaml"), options)
    composed = OmegaConf.to_object(merged)
    assert isinstance(composed, TaskConfig)
    return composed
