"""The sizes of a check: those of a GPU, and tiny ones by which the same steps run on a CPU in seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from bild.config import ModelConfig, ShapeConfig


@dataclass
class Scale:
    """The device, how much of everything, and when it must end."""

    device: torch.device
    minutes: float
    known: Mapping[str, ShapeConfig]
    model: ModelConfig
    """The embedded pair."""
    texts: int
    """Texts on which the engines must agree."""
    shapes: Sequence[str]
    """Published shapes that are benched."""
    dtypes: Sequence[str]
    tokens: int
    repeats: int
    samples: int
    """Examples of the run and of the tree."""
    capacity: int
    """Positions that two engines have room for, before they must grow."""
    began: float = field(default_factory=time.monotonic)

    @staticmethod
    def of(device: torch.device, minutes: float, known: Mapping[str, ShapeConfig], model: ModelConfig) -> Scale:
        """Return the sizes for a device; `known` are the published shapes, `model` the embedded pair."""
        if device.type == "cuda":
            shapes = ("t5-small", "t5-large", "mt5-large")
            return Scale(device, minutes, known, model, 200, shapes, ("fp32", "fp16"), 32, 5, 40, 32)
        return Scale(device, minutes, known, model, 3, ("embedded-small",), ("fp32",), 3, 1, 3, 8)

    @property
    def on_gpu(self) -> bool:
        """Tell whether this is the real thing."""
        return self.device.type == "cuda"

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.began + 60 * self.minutes - time.monotonic()
