"""The hub client's cache on disk, read by its documented layout (`refs/<revision>`, `snapshots/<commit>/`)."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name


def store(repository: str, kind: str) -> Path:
    """Where the client keeps a repository; `kind` is "model" or "dataset"."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)


def cached_snapshot(repository: str, kind: str, revision: str = "main") -> Path | None:
    """The cached snapshot of a branch, tag or full commit hash, or None.

    The client itself refuses a snapshot of which only some files were fetched; here some files are all that is wanted.
    """
    reference = store(repository, kind) / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    folder = store(repository, kind) / "snapshots" / commit
    return folder if folder.is_dir() else None
