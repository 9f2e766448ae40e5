"""Which of the two ways runs a model over branches: NumPy where the weights are in panels, torch everywhere else."""

from __future__ import annotations

from bild.models import Pair
from bild.tree.forward import Branches, TorchBranches
from bild.tree.forward_host import HostBranches


def branches_of(pair: Pair, role: str) -> Branches:
    """A pair's large or small model over branches."""
    weights = pair.weights(role)
    kind = TorchBranches if weights.head.panels is None else HostBranches
    return kind(weights, pair.vocabulary)
