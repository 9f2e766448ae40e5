"""Pairs of checkpoints: where they come from, whether they fit together, and the pair that ships with the package."""

from bild.models.checkpoint import Model
from bild.models.device import resolve_device
from bild.models.loading import Pair, load, load_pair, text_decoder
from bild.models.pair_spec import PairSpec
from bild.models.source import EMBEDDED

__all__ = ["EMBEDDED", "Model", "Pair", "PairSpec", "load", "load_pair", "resolve_device", "text_decoder"]
