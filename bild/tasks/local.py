"""Finding the files of a split on this machine: data that comes with the package, a file, or a folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bild.config import TaskConfig
from bild.errors import BildError
from bild.tasks import layouts

EMBEDDED_SPLIT = "test"


@dataclass(frozen=True)
class Located:
    """The files of one split, in reading order.

    `where` says in words where they are, `names` are the files relative to that place, `revision` is a commit hash.
    """

    where: str
    files: tuple[Path, ...]
    names: tuple[str, ...]
    revision: str | None = None


def locate_embedded(task: TaskConfig) -> Located:
    """Find `bild/tasks/data/<path>.jsonl`. BildError names the data sets there are, or the one split."""
    folder = Path(str(resources.files("bild.tasks"))) / "data"
    file = folder / f"{task.path}.jsonl"
    if not file.is_file():
        known = ", ".join(sorted(entry.stem for entry in folder.glob("*.jsonl"))) or "none"
        raise BildError(f"task.path={task.path} is not an embedded data set: choose one of {known}.")
    if task.split != EMBEDDED_SPLIT:
        raise BildError(
            f"task.split={task.split} is not a split of the embedded data set {task.path}: "
            f"it has {EMBEDDED_SPLIT} only."
        )
    return Located("embedded in the package", (file,), (file.name,))


def locate_file(task: TaskConfig) -> Located:
    """Find a data file, or the files of the split in a folder. BildError says what is missing and what is there."""
    kinds = ", ".join(layouts.SUFFIXES)
    if not task.path:
        raise BildError(f"task.path is empty: set it to a data file ({kinds}) or to a folder of <split> files.")
    path = Path(task.path).expanduser()
    if path.is_file():
        return Located("local file", (path,), (path.name,))
    if not path.is_dir():
        raise BildError(f"task.path={task.path} does not exist: give a data file ({kinds}) or a folder of such files.")
    names = names_under(path)
    chosen = layouts.files_of(names, task.config, task.files, task.split)
    if not chosen:
        raise BildError(
            f"task.split={task.split} is not in the folder {path}: {describe_splits(names, task)}, and a split is "
            f"looked for as {task.split}.jsonl or the like."
        )
    layouts.refuse_missing_shards(chosen, str(path))
    return Located("local folder", tuple(path / name for name in chosen), chosen)


def names_under(folder: Path) -> tuple[str, ...]:
    """Name all files under a folder, relative and with "/"; links whose target is gone are left out."""
    return tuple(sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()))


def describe_splits(names: Iterable[str], task: TaskConfig) -> str:
    """Say which splits there are, for the end of an error message."""
    if task.files:
        listed = ", ".join(f"{split} ({pattern})" for split, pattern in sorted(task.files.items()))
        return f"task.files names {listed}"
    present = ", ".join(layouts.splits_in(names, task.config))
    within = f" under config {task.config}" if task.config else ""
    return f"the splits there{within} are {present}" if present else f"there are no data files{within}"
