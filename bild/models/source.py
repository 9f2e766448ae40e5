"""Where a checkpoint comes from: a local folder or the hub's cache, its revision, and a fingerprint of its bytes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from bild.errors import BildError
from bild.hub import cached_snapshot, is_name

EMBEDDED = Path(__file__).resolve().parent / "embedded"
"""The pair that ships."""
_TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model"]
_PATTERNS = ["config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", *_TOKENIZER_FILES]
_PICKLE_PATTERNS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
_SAMPLE = 1 << 20


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine's disk."""

    name: str
    """What the user asked for: a path or a hub id."""
    folder: Path
    revision: str | None
    """The hub's commit hash; None for a folder."""

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside the weights."""
        return any((self.folder / f).is_file() for f in ("tokenizer.json", "spiece.model"))

    @property
    def has_safetensors(self) -> bool:
        """Whether there are weights that can be read without running code."""
        return any(self.folder.glob("*.safetensors"))


def locate(
    name: str, *, revision: str | None = None, allow_pickle: bool = False, weights: bool = True, option: str = "model"
) -> Source:
    """Find a checkpoint by path or hub id, downloading it where the hub can be reached.

    `weights=False` asks for a tokenizer only. Raises BildError for what is missing or not safe to load.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        source = Source(_shown(name, path.resolve()), path.resolve(), None)
    elif not is_name(name) or path.is_file():
        raise BildError(f"There is no folder {name} for {option}: give one with config.json and model.safetensors.")
    else:
        patterns = (_PATTERNS + _PICKLE_PATTERNS * allow_pickle) if weights else ["config.json", *_TOKENIZER_FILES]
        source = _from_hub(name, revision, patterns, option)
    if not weights:
        return source
    if not (source.folder / "config.json").is_file():
        raise BildError(f"{name} has no config.json: {option} needs a folder or hub id of a T5 or mT5 checkpoint.")
    if not source.has_safetensors and not allow_pickle:
        raise BildError(
            f"{name} has no *.safetensors: other formats can run code when they are loaded; "
            "convert it, or allow them with model.allow_pickle=true if you trust where it comes from."
        )
    if not source.has_safetensors and not any(source.folder.glob("pytorch_model*.bin")):
        raise BildError(f"{name} has no weights: neither *.safetensors nor pytorch_model*.bin was found.")
    return source


def locate_tokenizer(name: str, option: str) -> Source:
    """Find a folder or hub id for its tokenizer. BildError where there is none."""
    found = locate(name, weights=False, option=option)
    if not found.has_tokenizer:
        raise BildError(f"{option}={name} has no tokenizer: neither tokenizer.json nor spiece.model was found.")
    return found


def _from_hub(name: str, revision: str | None, patterns: list[str], option: str) -> Source:
    from huggingface_hub import constants, snapshot_download

    at = f" at revision {revision}" if revision else ""
    trouble = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
            return Source(name, folder, folder.name)
        except Exception as error:  # which HTTP library raises depends on the client's version; the cache is as good
            reason = str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else "no reason given"
            trouble = f"the hub said {type(error).__name__}: {reason}"
    cached = cached_snapshot(name, "model", revision or "main")
    if cached is None:
        raise BildError(
            f"{option}={name} is neither a folder nor in the hub cache at {constants.HF_HUB_CACHE}{at}, and {trouble}: "
            f"fetch it with `hf download {name}` where there is a connection, or give a local folder."
        )
    return Source(name, cached, cached.name)


def _shown(name: str, folder: Path) -> str:
    """What a folder is called in records: the pair that ships lies somewhere else on every machine."""
    return str("embedded" / folder.relative_to(EMBEDDED)) if folder.is_relative_to(EMBEDDED) else name


def embedded_folder(name: str, role: str) -> str:
    """The folder that a name of a model that ships stands for: "embedded" is the one of that role; else the name."""
    if name == "embedded":
        return str(EMBEDDED / role)
    return str(EMBEDDED / name.removeprefix("embedded/")) if name.startswith("embedded/") else name


def fingerprint(folder: Path) -> str:
    """16 hex digits that change with the checkpoint: its configuration, and its weights' sizes and bytes.

    Files above 64 MB are read at 64 evenly spaced places, header included: hashing gigabytes would delay every run.
    """
    digest = hashlib.sha256()
    files = sorted(p for pattern in ("config.json", "*.safetensors", "*.bin") for p in folder.glob(pattern))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            if size <= 64 * _SAMPLE:
                digest.update(stream.read())
                continue
            for i in range(64):
                stream.seek(i * (size - _SAMPLE) // 63, os.SEEK_SET)
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(folder: Path) -> str:
    """16 hex digits that change with the tokenizer's files."""
    digest = hashlib.sha256()
    for name in _TOKENIZER_FILES:
        if (folder / name).is_file():
            digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()[:16]
