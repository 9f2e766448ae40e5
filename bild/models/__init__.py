"""Pairs of checkpoints: where they come from, whether they fit together, and the pair that ships with the package."""

from bild.models.checkpoint import Model
from bild.models.loading import Pair, fingerprints, load_pair, resolve_device
from bild.models.source import EMBEDDED

__all__ = ["EMBEDDED", "Model", "Pair", "fingerprints", "load_pair", "resolve_device"]
