"""Tasks: which examples are decoded, where they come from, and what they must be scored against."""

from bild.tasks.dataset import Dataset, Example
from bild.tasks.load import load_task

__all__ = ["Dataset", "Example", "load_task"]
