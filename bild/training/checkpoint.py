"""The state of a training on disk: written in one step, so that a kill leaves the former one whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bild.errors import BildError
from bild.results.folder import write_atomically

STATE = "state.pt"


@dataclass
class Progress:
    """Where a training stands, between two steps."""

    step: int = 0
    """Steps done."""
    epoch: int = 0
    batch: int = 0
    """Batches of this epoch that are done."""
    examples: int = 0
    seconds: float = 0.0
    sessions: int = 1
    best: float | None = None
    """Of the epochs validated so far, by the chosen measure; higher is better."""
    best_epoch: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry per logged stretch of training and per validation."""


def save_state(folder: Path, identity: str, progress: Progress, parts: dict[str, Any]) -> None:
    """Write everything that the next step depends on, the random numbers too."""
    state = {"identity": identity, "progress": asdict(progress), "rng": _rng(), **parts}
    write_atomically(folder / STATE, lambda file: torch.save(state, file))


def load_state(folder: Path, identity: str, device: torch.device) -> tuple[Progress, dict[str, Any]] | None:
    """The last state, its random numbers set, or None where there is none. BildError where it is another training's."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        progress = Progress(**state.pop("progress"))
    except Exception as error:  # torch raises all kinds for a damaged file
        raise BildError(f"{path} cannot be read ({error}): delete the folder and train again.") from error
    if state.pop("identity") != identity:
        raise BildError(
            f"{folder} holds a training with other settings, data or versions: choose another folder with out=..., or "
            "start it anew with resume=false."
        )
    _set_rng(state.pop("rng"))
    return progress, state


def _rng() -> dict[str, Any]:
    found: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def _set_rng(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
