"""Weights that were published as pickles, converted once to safetensors, without running any code of theirs."""

from __future__ import annotations

import hashlib
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from filelock import FileLock
from huggingface_hub import constants
from torch import Tensor

from bild.errors import BildError, told
from bild.progress import say

_SAFE_SINCE = (2, 6)
"""Before this version of torch, a pickle could run code although `weights_only=True` was asked for."""
_MARGIN = 64 << 20
_MAY_BE_TIED = re.compile(r"(encoder\.embed_tokens|decoder\.embed_tokens|lm_head)\.weight")


def converted(file: Path, name: str) -> Path:
    """Return the safetensors file with the weights of `file`, a pickle of the checkpoint `name`; made at first use.

    It lies in `bild-converted` beside the hub's cache, under the hash of the pickle's bytes: a changed pickle is
    another file, and a conversion that was killed leaves nothing that would be taken for one. Raises BildError for a
    pickle that holds more than tensors, that is damaged, or for which there is no room.
    """
    folder = Path(constants.HF_HUB_CACHE).with_name("bild-converted")
    target = folder / f"{_digest(file)}.safetensors"
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_file():
                _convert(file, name, target)
    except OSError as error:
        reason = error.strerror or error
        raise BildError(
            f"{file.name} of {name} cannot be converted in {folder} ({reason}): set HF_HOME to a folder with room."
        ) from error
    return target


def _convert(file: Path, name: str, target: Path) -> None:
    from safetensors.torch import save_file

    needed, free = file.stat().st_size + _MARGIN, shutil.disk_usage(target.parent).free
    if free < needed:
        raise BildError(
            f"{file.name} of {name} is converted to safetensors, for which {target.parent} needs "
            f"{needed / 1e9:.1f} GB and has {free / 1e9:.1f} GB: make room, or set HF_HOME to a larger disk."
        )
    say(f"{name}: {file.name} is converted to safetensors, once ({target})")
    state = _apart(_read(file, name))
    unfinished = target.with_suffix(".unfinished")
    try:
        save_file(state, unfinished, metadata={"format": "pt"})
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _read(file: Path, name: str) -> dict[str, Tensor]:
    """Read a pickle by torch's restricted reader, which knows tensors and nothing else."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_SINCE:
        raise BildError(
            f"{file.name} of {name} is a pickle, which torch {torch.__version__} cannot read safely: install 2.6."
        )
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|Unsupported (?:global|class|operand))\W+([A-Za-z_][\w.]*)", str(error))
        what = f" ({found[1]})" if found else ""
        raise BildError(
            f"{file.name} of {name} is not read: it holds more than tensors{what} and may run code; ask for "
            "model.safetensors in its place."
        ) from error
    except Exception as error:  # torch raises all kinds for a damaged file
        raise BildError(f"The weights of {name} cannot be loaded: {told(error)}.") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BildError(f"The weights of {name} cannot be loaded: {file.name} is no mapping of names to tensors.")
    return dict(state)


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give every weight memory of its own, which safetensors asks for; a second name of the embedding is left out."""
    found: dict[str, Tensor] = {}
    owners: set[int] = set()
    for name, tensor in sorted(state.items(), key=lambda item: _MAY_BE_TIED.fullmatch(item[0]) is not None):
        storage = tensor.untyped_storage().data_ptr()
        if storage in owners and _MAY_BE_TIED.fullmatch(name) and _is_whole(tensor, found.get("shared.weight")):
            continue
        found[name] = tensor.clone().contiguous() if storage in owners else tensor.contiguous()
        owners.add(storage)
    return found


def _is_whole(tensor: Tensor, shared: Tensor | None) -> bool:
    return shared is not None and tensor.data_ptr() == shared.data_ptr() and tensor.shape == shared.shape


def _digest(file: Path) -> str:
    """Return the sha256 of a file; the hub's cache names large files by it."""
    blob = file.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
