"""A reproducible benchmark of BiLD, the Big Little Decoder (Kim et al., NeurIPS 2023, arXiv 2302.07863).

`import bild` is light; torch is imported with the first pair.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bild.api import Output, generate, load_pair
    from bild.models import Pair
    from bild.tree import Tree, open_tree

from bild.errors import BildError

__version__ = "0.1.0"

__all__ = ["BildError", "Output", "Pair", "Tree", "generate", "load_pair", "open_tree"]

_HOMES = {"Output": "bild.api", "generate": "bild.api", "load_pair": "bild.api", "Pair": "bild.models"}
_HOMES |= {"Tree": "bild.tree", "open_tree": "bild.tree"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bild' has no attribute {name!r}")
