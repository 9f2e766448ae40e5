"""Find the files of a split in a data set repository of the Hugging Face hub, online or in the client's cache.

Only data files are read: a repository that has nothing but a loading script is read from the hub's own conversion to
Parquet (`refs/convert/parquet`), and no remote code is ever run.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download

from bild.config import TaskConfig
from bild.errors import BildError
from bild.hub import cached_snapshot, store
from bild.tasks.files import Located, describe_splits, files_of, names_under, refuse_missing_shards

MAIN = "main"
CONVERTED = "refs/convert/parquet"


def locate_hub(task: TaskConfig) -> Located:
    """Find the files of `task.split`, downloading just these where the hub can be reached.

    Without `task.revision` the files on `main` win, else the converted Parquet is read. BildError says what was looked
    for, where, and how to get it.
    """
    looked: list[str] = []
    trouble = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else None
    for revision in (task.revision,) if task.revision else (MAIN, CONVERTED):
        if trouble is None:
            try:
                names = _published(task.path, revision)
                if chosen := files_of(names, task.config, task.files, task.split):
                    return _located(_download(task.path, revision, chosen), chosen, task)
                looked.append(f"on the hub at {revision}, {describe_splits(names, task)}")
                continue
            except BildError:
                raise
            except Exception as error:
                # Which HTTP library raises depends on the version of the client. A copy in the cache is as good,
                # whether the hub is down, the way to it is, or the repository was withdrawn.
                trouble = f"the hub said {_first_line(error)}"
        folder = cached_snapshot(task.path, "dataset", revision)
        if folder is None:
            looked.append(f"the cache has no copy of {revision}")
            continue
        names = names_under(folder)
        if chosen := files_of(names, task.config, task.files, task.split):
            return _located(folder, chosen, task)
        looked.append(f"in the cached copy of {revision}, {describe_splits(names, task)}")
    what = f"{task.path} ({task.config})" if task.config else task.path
    reasons = [*looked, f"the cache is {store(task.path, 'dataset')}", trouble] if trouble else looked
    raise BildError(
        f"The split {task.split} of the hub data set {what} was not found: {'; '.join(reasons)}; "
        f"get it with `{_command(task)}` where there is a connection, or point HF_HOME at a cache that has it."
    )


def _published(repository: str, revision: str) -> tuple[str, ...]:
    info = HfApi().dataset_info(repository, revision=revision)
    return tuple(sibling.rfilename for sibling in info.siblings or ())


def _download(repository: str, revision: str, names: tuple[str, ...]) -> Path:
    return Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=list(names)))


def _located(folder: Path, names: tuple[str, ...], task: TaskConfig) -> Located:
    refuse_missing_shards(names, f"The cached copy {folder} of {task.path}")
    # The client names the folder of a snapshot by its commit.
    return Located("Hugging Face hub", tuple(folder / name for name in names), names, revision=folder.name)


def _command(task: TaskConfig) -> str:
    """Return the client's command that fetches the files of the split (its pattern may match a few more)."""
    pattern = task.files.get(task.split) or (f"{task.config}/*{task.split}*" if task.config else f"*{task.split}*")
    revision = f" --revision {task.revision}" if task.revision else ""
    return f"hf download {task.path} --repo-type dataset{revision} --include '{pattern}'"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip('.:')}" if text else type(error).__name__
