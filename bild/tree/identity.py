"""The identity of a tree (pair, data, dtype, limits, device and versions), and the folder of a new one."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bild.config import DecodeConfig, TaskConfig
from bild.errors import BildError
from bild.models import Pair
from bild.results.files import write_error
from bild.results.locking import waiting_lock
from bild.tasks import Dataset
from bild.tree import store

FORWARD = 2
"""Count this up when `bild.tree.forward` computes anything else than before."""
_PACKAGES = ("torch", "tokenizers", "transformers")


def tokenizer_json(pair: Pair) -> str:
    """Return the pair's tokenizer as the file that the tokenizers library reads. BildError where it has none."""
    backend = getattr(pair.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BildError(
            f"The pair {pair.name} has no fast tokenizer, which its decision trees are read with: "
            "give model.tokenizer=..., a folder or hub id with tokenizer.json or spiece.model."
        )
    text: str = backend.to_str()
    return text


def identity_of(pair: Pair, task: TaskConfig, data: Dataset, decode: DecodeConfig) -> dict[str, Any]:
    """Return all that can change a node."""
    tokenizer = tokenizer_json(pair)
    return {
        "task": task.identity,
        "data": data.provenance["hash"],
        "pair": {
            "large": pair.large.fingerprint,
            "small": pair.small.fingerprint,
            "tokenizer": hashlib.sha256(tokenizer.encode()).hexdigest()[:16],
        },
        "dtype": pair.dtype,
        "device": pair.device.type,
        "forward": FORWARD,
        "packages": {name: version(name) for name in _PACKAGES},
    } | decode.identity


def open_folder(folder: Path, pair: Pair, task: TaskConfig, data: Dataset, engine: str, decode: DecodeConfig) -> Path:
    """Return the folder of a tree, made if it is not there yet."""
    from bild.tree.rounding import measure_rounding

    identity = identity_of(pair, task, data, decode)
    path = Path(folder) / store.folder_name(identity)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error, "nothing was written") from None
    with waiting_lock(path / store.LOCK, "makes the same tree"):
        if not (path / store.TREE).exists():
            stored = []
            for example in data.examples:
                tokens, truncated = pair.encode(task.prompt + example.source, task.source_limit)
                stored.append(store.StoredExample(example.id, example.source, example.reference, tokens, truncated))
            more = {
                "ids": {"start": pair.start, "eos": pair.eos, "vocabulary": pair.vocabulary},
                "names": {"pair": pair.name, "large": pair.large.source.name, "small": pair.small.source.name},
                # Another process may choose others, whose sums round otherwise.
                "kernels": asdict(pair.kernels),
                "decode": decode,
                "rounding": measure_rounding(pair, engine, [s.source_tokens for s in stored], task.target_limit),
            }
            store.create(path, identity, more, stored, tokenizer_json(pair))
    return path
