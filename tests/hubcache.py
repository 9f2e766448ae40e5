"""A Hugging Face hub cache for tests: the real repositories' names and layouts, with tiny random contents.

Below `root` (what HF_HOME points to) it has the layout of the hub's client: `hub/<kind>--<owner>--<name>/` with
`refs/<revision>` (a commit), `blobs/<hash>` and `snapshots/<commit>/<file>` (links to blobs). The checkpoints are T5
and mT5 models of some ten thousand weights under the names of the published ones; the data sets have a few rows under
the published file names. Only pickled weights import torch: building everything takes about a second beside that.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.tinydata import DATA_SETS
from tests.tinymodels import (
    Shape,
    checkpoint_files,
    english_size,
    english_tokenizer,
    multilingual_size,
    multilingual_tokenizer,
)

TRANSLATION = tuple(
    f"kssteven/mT5-{size}-{task}-de-en{aligned}"
    for task in ("iwslt2017", "wmt2014")
    for size, aligned in (("large", ""), ("small", ""), ("small", "-bild-aligned"))
)
SUMMARISATION = tuple(
    f"kssteven/T5-{size}-{task}{aligned}"
    for task in ("xsum", "cnndm")
    for size, aligned in (("large", ""), ("small", ""), ("small", "-bild-aligned"))
)
PRETRAINED = tuple(
    f"{family}-{size}" for family in ("google/mt5", "google-t5/t5") for size in ("small", "base", "large")
)


def build_hub(root: Path) -> None:
    """Build every checkpoint and every data set."""
    for name in (*TRANSLATION, *SUMMARISATION, *PRETRAINED):
        add_model(root, name)
    for name in DATA_SETS:
        add_data_set(root, name)


def hub_env(root: Path) -> dict[str, str]:
    """The environment of a subprocess that is to see this cache and no network."""
    return {**os.environ, "HF_HOME": str(root), "HF_HUB_CACHE": str(root / "hub"), "HF_HUB_OFFLINE": "1"}


def use_hub(monkeypatch: pytest.MonkeyPatch, root: Path, *, offline: bool = True) -> None:
    """Let this process see the cache until the test ends.

    The client's constants are set too, because it reads the environment when it is imported.
    """
    from huggingface_hub import constants

    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, hub_env(root)[name])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if offline else "0")
    monkeypatch.setattr(constants, "HF_HOME", str(root))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)


def add_repository(
    root: Path, name: str, files: dict[str, bytes], *, kind: str = "models", revision: str = "main"
) -> Path:
    """Store files as a commit that `revision` points to, and return its snapshot folder."""
    store = root / "hub" / f"{kind}--{name.replace('/', '--')}"
    commit = commit_of(name, revision)
    reference = store / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)
    snapshot = store / "snapshots" / commit
    for path, content in files.items():
        blob = store / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def commit_of(name: str, revision: str = "main") -> str:
    """The made-up commit hash of a repository's revision: 40 hexadecimal digits."""
    return hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()


def add_model(
    root: Path,
    name: str,
    *,
    rows: int | None = None,
    layers: int | None = None,
    tokenizer: bool | None = None,
    weights: str | None = None,
) -> Path:
    """Store a random checkpoint under the name of a published one: mT5 where the name says so, else T5 v1.0.

    The embedding rows differ from the tokenizer's as those of the published ones do: fine-tuned mT5 has as many,
    google's 12 more, T5 28 more. The fine-tuned mT5 come without a tokenizer (theirs is google/mt5-small's).
    """
    multilingual = "mt5" in name.lower()
    if rows is None:
        rows = multilingual_size() + 12 * name.startswith("google/") if multilingual else english_size() + 28
    if layers is None:
        layers = 3 if "large" in name else 2
    if tokenizer is None:
        tokenizer = not (multilingual and name.startswith("kssteven/"))
    shape = Shape(rows=rows, layers=layers, gated=multilingual, untied=multilingual)
    files = checkpoint_files(shape, seed=int(commit_of(name)[:8], 16), weights=weights or published_as(name))
    if tokenizer:
        files |= multilingual_tokenizer() if multilingual else english_tokenizer()
    return add_repository(root, name, files)


def published_as(name: str) -> str:
    """The form of a checkpoint's weights (see `tinymodels.weight_files`): before 2024 most were pickles."""
    if name in ("kssteven/mT5-large-wmt2014-de-en", "kssteven/T5-large-cnndm"):
        return "sharded-pickle" if "mT5" in name else "sharded-safetensors"
    return "safetensors" if name.startswith("google-t5/") else "pickle"


def add_data_set(root: Path, name: str) -> None:
    """Store a few rows of a data set under the published file names: 8 of train, 6 of validation, 4 of test."""
    for revision, files in DATA_SETS[name]().items():
        files = {"README.md": b"---\nlicense: other\n---\n", ".gitattributes": b"", **files}
        add_repository(root, name, files, kind="datasets", revision=revision)
