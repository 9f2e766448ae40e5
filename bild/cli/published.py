"""What `conf/` knows beyond one configuration, as objects: the paper's settings, and the shapes of published models."""

from __future__ import annotations

from omegaconf import OmegaConf

from bild.cli.compose import compose
from bild.cli.groups import load, options
from bild.config import MethodConfig, RunConfig, ShapeConfig, ThresholdConfig


def published_settings(task: str, model: str) -> list[tuple[MethodConfig, ThresholdConfig]]:
    """Return the paper's BiLD settings for a task and a pair, in the order of their names; none where it has none."""
    found = []
    for option in options("experiment"):
        chosen = load("experiment", option).get("defaults", [])
        # Composing takes a tenth of a second, so only those that name the task and the pair are composed.
        if {"override /task": task} in chosen and {"override /model": model} in chosen:
            config: RunConfig = compose([f"experiment={option}"])
            if config.method.name == "bild":
                found.append((config.method, config.threshold))
    return found


def shapes() -> dict[str, ShapeConfig]:
    """Return the shapes of published checkpoints, by name."""
    return {option: ShapeConfig(**OmegaConf.to_object(load("shape", option))) for option in options("shape")}  # type: ignore[arg-type]
