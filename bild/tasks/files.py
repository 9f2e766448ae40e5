"""The files of a split: told from their names in a folder or repository, and found on this machine or on the hub.

Of the hub only data files are read: a repository that has nothing but a loading script is read from the hub's own
conversion to Parquet (`refs/convert/parquet`), and no remote code is ever run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path, PurePosixPath

from bild.config import TaskConfig
from bild.errors import BildError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
_ALIASES = {"validation": ("val", "valid", "dev")}
_NOT_DATA = {"dataset_infos.json", "dataset_info.json", "state.json"}  # descriptions that stand beside the data

# In order of preference. A split that several layouts have is read from the first of them only.
_LAYOUTS = (
    r"(?P<split>\w+)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet",  # parquet shards, as `datasets` uploads them
    r"(?P<split>\w+)/\d{4}\.parquet",  # the hub's own conversion, on refs/convert/parquet
    *(rf"(?P<split>\w+){re.escape(suffix)}" for suffix in SUFFIXES),
)
_SHARD = re.compile(r"-\d{5}-of-(\d{5})")


def splits_in(names: Iterable[str], config: str | None) -> dict[str, tuple[str, ...]]:
    """Group file names (relative, with "/") into splits, each with its files in reading order.

    With a `config` only its folder counts; without one the root, `data/` and `default/`.
    """
    folders = (re.escape(config) + "/",) if config else ("", "data/", "default/")
    patterns = [re.compile(folder + layout) for folder in folders for layout in _LAYOUTS]
    found: dict[str, dict[int, list[str]]] = {}
    for name in sorted(names):
        if PurePosixPath(name).name in _NOT_DATA:
            continue
        for rank, pattern in enumerate(patterns):
            if match := pattern.fullmatch(name):
                found.setdefault(match["split"], {}).setdefault(rank, []).append(name)
                break
    return {split: tuple(by_rank[min(by_rank)]) for split, by_rank in sorted(found.items())}


def files_of(names: Iterable[str], config: str | None, patterns: dict[str, str], split: str) -> tuple[str, ...]:
    """Name the files of a split, in reading order; none where the split is not there.

    `patterns` (task.files: split -> file name, `*` allowed) wins over the known layouts. `validation` is also found
    under the names val, valid and dev.
    """
    names = tuple(names)
    if patterns:
        wanted = patterns.get(split)
        return tuple(sorted(name for name in names if wanted is not None and fnmatchcase(name, wanted)))
    known = splits_in(names, config)
    for candidate in (split, *_ALIASES.get(split, ())):
        if candidate in known:
            return known[candidate]
    return ()


def refuse_missing_shards(files: tuple[str, ...], where: str) -> None:
    """Raise BildError where a file name says "of 00003" and fewer files are there."""
    for name in files:
        shard = _SHARD.search(name)
        if shard and len(files) != int(shard[1]):
            raise BildError(
                f"{where} has {len(files)} of the {int(shard[1])} files that {name} belongs to: "
                "the download is incomplete, fetch it again."
            )


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
    """Find `bild/tasks/data/<path>/<split>.jsonl`. BildError names the data sets or the splits there are."""
    root = Path(str(resources.files("bild.tasks"))) / "data"
    known = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    if task.path not in known:
        raise BildError(f"task.path={task.path} is not an embedded data set: choose one of {', '.join(known)}.")
    names = names_under(root / task.path)
    chosen = files_of(names, None, {}, task.split)
    if not chosen:
        raise BildError(
            f"task.split={task.split} is not in the embedded data set {task.path}: {describe_splits(names, task)}."
        )
    return Located("embedded in the package", tuple(root / task.path / name for name in chosen), chosen)


def locate_file(task: TaskConfig) -> Located:
    """Find a data file, or the files of the split in a folder. BildError says what is missing and what is there."""
    kinds = ", ".join(SUFFIXES)
    if not task.path:
        raise BildError(f"task.path is empty: set it to a data file ({kinds}) or to a folder of <split> files.")
    path = Path(task.path).expanduser()
    if path.is_file():
        return Located("local file", (path,), (path.name,))
    if not path.is_dir():
        what = "is neither a plain file nor a folder" if path.exists() else "does not exist"
        raise BildError(f"task.path={task.path} {what}: give a data file ({kinds}) or a folder of such files.")
    names = names_under(path)
    chosen = files_of(names, task.config, task.files, task.split)
    if not chosen:
        raise BildError(
            f"task.split={task.split} is not in the folder {path}: {describe_splits(names, task)}, and a split is "
            f"looked for as {task.split}.jsonl or the like."
        )
    refuse_missing_shards(chosen, str(path))
    return Located("local folder", tuple(path / name for name in chosen), chosen)


def names_under(folder: Path) -> tuple[str, ...]:
    """Name all files under a folder, relative and with "/"; links whose target is gone are left out."""
    return tuple(sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()))


def describe_splits(names: Iterable[str], task: TaskConfig) -> str:
    """Say which splits there are, for the end of an error message."""
    if task.files:
        listed = ", ".join(f"{split} ({pattern})" for split, pattern in sorted(task.files.items()))
        return f"task.files names {listed}"
    present = ", ".join(splits_in(names, task.config))
    within = f" under config {task.config}" if task.config else ""
    return f"the splits there{within} are {present}" if present else f"there are no data files{within}"


def locate_hub(task: TaskConfig) -> Located:
    """Find the files of `task.split`, downloading just these where the hub can be reached.

    Without `task.revision` the files on `main` win, else the converted Parquet is read. BildError says what was looked
    for, where, and how to get it.
    """
    from huggingface_hub import HfApi, constants, snapshot_download  # here, because they are slow to import

    from bild.hub import cached_snapshot, said, store

    looked: list[str] = []
    trouble = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else None
    for revision in (task.revision,) if task.revision else ("main", "refs/convert/parquet"):
        if trouble is None:
            try:
                published = HfApi().dataset_info(task.path, revision=revision).siblings or ()
                names = tuple(sibling.rfilename for sibling in published)
                if chosen := files_of(names, task.config, task.files, task.split):
                    wanted = list(chosen)
                    folder = snapshot_download(task.path, repo_type="dataset", revision=revision, allow_patterns=wanted)
                    return _located(Path(folder), chosen, task)
                looked.append(f"on the hub at {revision}, {describe_splits(names, task)}")
                continue
            except BildError:
                raise
            except Exception as error:
                # A copy in the cache is as good, whether the hub is down, or the repository was withdrawn.
                trouble = said(error)
        cached = cached_snapshot(task.path, "dataset", revision)
        if cached is None:
            looked.append(f"the cache has no copy of {revision}")
            continue
        names = names_under(cached)
        if chosen := files_of(names, task.config, task.files, task.split):
            return _located(cached, chosen, task)
        looked.append(f"in the cached copy of {revision}, {describe_splits(names, task)}")
    what = f"{task.path} ({task.config})" if task.config else task.path
    reasons = [*looked, f"the cache is {store(task.path, 'dataset')}", trouble] if trouble else looked
    raise BildError(
        f"The split {task.split} of the hub data set {what} was not found: {'; '.join(reasons)}; "
        f"get it with `{_command(task)}` where there is a connection, or point HF_HOME at a cache that has it."
    )


def _located(folder: Path, names: tuple[str, ...], task: TaskConfig) -> Located:
    refuse_missing_shards(names, f"The cached copy {folder} of {task.path}")
    # The client names the folder of a snapshot by its commit.
    return Located("Hugging Face hub", tuple(folder / name for name in names), names, revision=folder.name)


def _command(task: TaskConfig) -> str:
    """Return the client's command that fetches the files of the split (its pattern may match a few more)."""
    pattern = task.files.get(task.split) or (f"{task.config}/*{task.split}*" if task.config else f"*{task.split}*")
    revision = f" --revision {task.revision}" if task.revision else ""
    return f"hf download {task.path} --repo-type dataset{revision} --include '{pattern}'"
