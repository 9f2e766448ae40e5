"""Tasks: the examples that are decoded, their origin, and the references that outputs are scored against."""

from bild.tasks.dataset import Dataset, Example, load_task

__all__ = ["Dataset", "Example", "load_task"]
