"""The hub client's cache on disk, read by its documented layout (`refs/<revision>`, `snapshots/<commit>/`)."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.file_download import REGEX_COMMIT_HASH, repo_folder_name

from bild.errors import BildError, refusing


def is_name(repository: str) -> bool:
    """Return whether a repository of the hub could have this name: `name` or `owner/name`."""
    try:
        repo_folder_name(repo_id=repository, repo_type="model")  # checks it
    except HFValidationError:
        return False
    return True


def store(repository: str, kind: str) -> Path:
    """Return where the client keeps a repository of a `kind`, "model" or "dataset". BildError for a wrong name."""
    if not is_name(repository):
        raise BildError(f"{repository} is no name of a {kind} on the hub: give name or owner/name, or a folder.")
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)


def cached_snapshot(repository: str, kind: str, revision: str = "main") -> Path | None:
    """Return the cached snapshot of a branch, tag or full commit hash, or None.

    The client itself refuses a snapshot of which only some files were fetched; here some files are all that is wanted.
    """
    place = store(repository, kind)
    with refusing(lambda why: f"The hub's cache {place} cannot be read ({why}): point HF_HOME at another.", OSError):
        reference = place / "refs" / revision
        commit = reference.read_text(errors="replace").strip() if reference.is_file() else revision
        folder = place / "snapshots" / commit
        return folder if REGEX_COMMIT_HASH.fullmatch(commit) and folder.is_dir() else None


def said(error: Exception) -> str:
    """Return what the hub's client said: which HTTP library raises depends on its version, and most say much."""
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".:")
    return f"the hub said {type(error).__name__}{first and f': {first}'}"


def ships(name: str) -> bool:
    """Return whether a name is that of a model in the package: "embedded", or "embedded/<folder>"."""
    return name == "embedded" or name.startswith("embedded/")
