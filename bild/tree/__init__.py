"""Decision trees: every threshold of every method as a walk over what both models said once. No torch but to grow."""

from bild.tree.answers import MissingNodes
from bild.tree.nodes import Nodes, TreeExample
from bild.tree.outcome import Replay
from bild.tree.replay import Rounding
from bild.tree.tree import Tree, open_tree

__all__ = ["MissingNodes", "Nodes", "Replay", "Rounding", "Tree", "TreeExample", "open_tree"]
