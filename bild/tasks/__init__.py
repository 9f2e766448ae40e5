"""Tasks: which examples are decoded, where they come from, and what they must be scored against."""

from bild.tasks.dataset import Dataset, Example, load_task

__all__ = ["Dataset", "Example", "load_task"]
