"""Damaged and hostile files of every kind, and their readers: each is read, or ends in one sentence that names it.

Of each kind there is a good file, made in a folder, and what reads it. A mutation flips, drops or doubles bytes, or
puts a hostile value in the place of one in its JSON, with checksums that fit where they would else hide it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from huggingface_hub import constants

from bild import generate, load_pair
from bild.claims import claims_of, table
from bild.errors import BildError
from bild.report.bench import bench_tables, check_table
from bild.report.page import page_data
from bild.report.points import points_table
from bild.report.report import contents, write_contents
from bild.report.sections import find_sections
from bild.results import find_records, read_samples, read_traces, to_frame
from bild.results.bench import Checked, CheckResult, read_bench, read_check
from bild.results.codec import append_lines, read_lines, write_json
from bild.results.predicted import LedgerEntry, read_predicted
from bild.results.prices import read_prices
from bild.results.record import to_json
from bild.tasks.rows import read_rows
from bild.tree import open_tree
from tests.killing import thinned
from tests.models.checkpoints import tiny_shape, write_checkpoint
from tests.records import make_record
from tests.report import test_bench
from tests.results.points import DIGEST, fill, open_point
from tests.tinymodels import checkpoint_files
from tests.training import test_loop, test_targets

HOSTILE: list[Any] = [
    None,
    -1,
    0,
    1e308,
    "x",
    "",
    [],
    {},
    True,
    10**18,
    10**30,
    "\ud800",
    [[[]]],
    {"a": {}},
    -0.5,
    "inf",
]
RAW = [
    b"-1",
    b"1e999",
    b"9" * 30,
    b"9" * 5000,
    b"null",
    b'"x"',
    b"[]",
    b"[" * 100_000,
    b"NaN",
    b"\xff",
    b"\\ud800",
    b"",
]


class Kind(NamedTuple):
    """A kind of file: how a good one is made in a folder, which returns its path, and what reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]


def _copied(pattern: str) -> Callable[[Path], Path]:
    """Return what copies the example, and returns the path of a file in the copy."""
    return lambda folder: min(thinned(folder).rglob(pattern))


def _point(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = fill(folder, 3)
        (path / "record.json").write_text(to_json(make_record(hash=DIGEST)))
        (path / "sessions.json").write_text('{"1": {"load": 0.5, "calm": true, "waited": 0.0}}')
        (path / "draft_costs.json").write_text('{"small": 0.1, "large": {"1": 0.2}, "rest": 0.1}')
        (path / "kernels.json").write_text('{"kinds": {"a": [1, 2]}}')
        return path / name

    return make


def _read_point(path: Path) -> None:
    root = path.parents[3]
    points, skipped = find_records(root)
    to_frame(points)
    if points:
        (section,), _ = find_sections(root)
        points_table(section).markdown()
        table(section, claims_of(section, 0.5), 0.5).markdown()
    read_samples(path.parent)
    read_traces(path.parent)
    with open_point(root) as folder:
        folder.sessions(), folder.draft_costs(), folder.kernels(), folder.record()
    if path.name == "record.json":
        assert points or skipped


def _read_tree(path: Path) -> None:
    tree = open_tree(path.parent)
    ids = [example.id for example in tree.examples[:4]]
    assert tree.take(ids).replay(0.3, 2.0).quality is not None


def _data(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rows = [{"id": f"r{i}", "source": f"Ein Satz, {i}.", "reference": f'A "sentence" {i}.'} for i in range(9)]
        path = folder / f"rows.{name}"
        if name == "parquet":
            import pandas as pd

            pd.DataFrame(rows).to_parquet(path)
        elif name == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            mark = "," if name == "csv" else "\t"
            quoted = [[value.replace('"', '""') for value in row.values()] for row in rows]
            lines = [mark.join(f'"{v}"' if name == "csv" else v for v in row) for row in quoted]
            path.write_text("\n".join([mark.join(rows[0]), *lines]) + "\n")
        return path

    return make


def _ledger(folder: Path) -> Path:
    path = folder / "confirmations.jsonl"
    append_lines(path, [LedgerEntry("d", "s", ["a"], ["b"], 0.5, "2025-01-01", "j") for _ in range(3)])
    return path


def _bench(folder: Path) -> Path:
    write_json(folder / "bench.json", test_bench.result())
    return folder / "bench.json"


def _check(folder: Path) -> Path:
    findings = [Checked("cases", "a", "ok", "x"), Checked("bench", "b", "slow", "y", {"ms": 1.0})]
    environment = {"machine": {"name": "Tesla T4"}}
    found = CheckResult(1, "now", "bild gpu-check", "cuda:0", 10.0, environment, {"a": 90.0}, {"a": 3.2}, findings)
    write_json(folder / "gpu-check.json", found)
    return folder / "gpu-check.json"


def _trained(name: str) -> Kind:
    """Return the kind of a file of a training that was killed: its state, or the outputs of its large model."""

    def make(folder: Path) -> Path:
        if name == "state.pt":
            test_loop.trainer(folder, test_loop.TrainSettings()).save()
        else:
            file = test_targets.open_file(folder)
            test_targets.fill(file)
            file.close()
        return folder / name

    def read(path: Path) -> None:
        if name == "state.pt":
            test_loop.trainer(path.parent, test_loop.TrainSettings())._resume()
        else:
            test_targets.open_file(path.parent).close()

    return Kind(make, read)


def _checkpoint(name: str) -> Kind:
    """Return the kind of a file of a checkpoint, which is loaded as both halves of a pair and decodes a text."""

    def make(folder: Path) -> Path:
        path = write_checkpoint(folder / "model")
        if name == "pytorch_model.bin":
            (path / "model.safetensors").unlink()
            (path / name).write_bytes(checkpoint_files(tiny_shape(), 1, "pickle")[name])
        return path / name

    def read(path: Path) -> None:
        with mock.patch.object(constants, "HF_HUB_CACHE", str(path.parents[1] / "hub")):
            pair = load_pair(str(path.parent), str(path.parent), device="cpu")
            generate(pair, "A dog runs.", engine="hf", fb=0.5, rb=2.0, max_length=6)
        shutil.rmtree(path.parents[1] / "bild-converted", ignore_errors=True)

    return Kind(make, read)


def _reported(pattern: str) -> Kind:
    """Return the kind of a file among results with whole points: whatever is damaged, the report is made of them."""

    def read(path: Path) -> None:
        root = next(parent for parent in path.parents if parent.name == "results")
        try:
            found = contents(root)
            page_data(found.parts, found.left_out)
            write_contents(found, root.parent / "report", only=("points", "environment"))
        except BildError as error:
            raise AssertionError(f"no report: {error}") from error

    return Kind(_copied(pattern), read)


KINDS = {
    **{
        name: Kind(_point(name), _read_point)
        for name in (
            *("record.json", "samples.jsonl", "trace.jsonl.gz"),
            *("sessions.json", "draft_costs.json", "kernels.json"),
        )
    },
    **{
        name: Kind(_copied(f"tree/*/{name}"), _read_tree)
        for name in ("tree.json", "examples.jsonl.gz", "nodes.bin", "tokenizer.json")
    },
    "predicted.json": Kind(_copied("predicted.json"), read_predicted),
    "prices.json": Kind(_copied("prices.json"), read_prices),
    "confirmations.jsonl": Kind(_ledger, lambda path: read_lines(LedgerEntry, path)),
    **{
        f"rows.{name}": Kind(_data(name), lambda path: list(read_rows(path)))
        for name in ("jsonl", "csv", "tsv", "parquet")
    },
    **{name: _trained(name) for name in ("state.pt", "targets.json", "targets.jsonl")},
    **{
        f"model/{name}": _checkpoint(name)
        for name in (
            *("config.json", "generation_config.json", "model.safetensors", "pytorch_model.bin"),
            *("tokenizer.json", "tokenizer_config.json"),
        )
    },
    "bench.json": Kind(_bench, lambda path: [table.markdown() for table in bench_tables(read_bench(path))]),
    "gpu-check.json": Kind(_check, lambda path: check_table(read_check(path)).markdown()),
    **{
        f"report/{name}": _reported(name)
        for name in (
            *("vanilla*/record.json", "bild-*/record.json", "samples.jsonl", "trace.jsonl.gz", "tree.json"),
            *("examples.jsonl.gz", "nodes.bin", "tokenizer.json", "predicted.json", "prices.json"),
        )
    },
}


def mutated(data: bytes, name: str, dice: random.Random) -> bytes:
    """Return the bytes of a file of some name, damaged in one place or made hostile."""
    if name.endswith(".gz") and dice.random() < 0.7:
        return gzip.compress(mutated(gzip.decompress(data), name.removesuffix(".gz"), dice), 1)
    if name.endswith("nodes.bin") and dice.random() < 0.7:
        return _block(data, dice)
    if name.endswith(("json", "jsonl")) and dice.random() < 0.6:
        lines = data.splitlines(keepends=True) if name.endswith("jsonl") else [data]
        at = dice.randrange(len(lines))
        plain = json.loads(lines[at])
        plain.pop("check", None) if isinstance(plain, dict) else None  # it would hide all else
        lines[at] = json.dumps(_hostile(plain, dice)).encode() + (b"\n" if lines[at].endswith(b"\n") else b"")
        return b"".join(lines)
    at = dice.randrange(len(data))
    end = min(len(data), at + dice.randrange(1, 40))
    changes = [
        data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :],
        data[:at] + data[end:],
        data[:end] + data[at:],
        data[:at],
        data[:at] + dice.choice(RAW) + data[end:],
    ]
    return dice.choice(changes)


def _hostile(plain: Any, dice: random.Random) -> Any:
    """Put something else in the place of one value, drop it, or add to it; near the top as likely as far within."""
    if not isinstance(plain, dict | list) or not plain or dice.random() < 0.15:
        return dice.choice(HOSTILE)
    copy = plain.copy()
    key = dice.choice([*copy]) if isinstance(copy, dict) else dice.randrange(len(copy))
    if dice.random() < 0.1:
        del copy[key]
    elif dice.random() < 0.05 and isinstance(copy, dict):
        copy["new"] = dice.choice(HOSTILE)
    else:
        copy[key] = _hostile(copy[key], dice)
    return copy


def _block(data: bytes, dice: random.Random) -> bytes:
    """Change one number of the first block of a tree's nodes, checksum and all."""
    head = struct.Struct("<8sQI")
    magic, size, _ = head.unpack_from(data)
    with np.load(io.BytesIO(data[head.size : head.size + size])) as stored:
        arrays = {name: stored[name].copy() for name in stored.files}
    name = dice.choice([name for name, array in arrays.items() if array.size])
    array = arrays[name].reshape(-1)
    kind = array.dtype.kind
    array[dice.randrange(array.size)] = dice.choice(
        [-1, 0, 1, 7, 10**6] if kind in "iub" else [np.nan, np.inf, -1.0, 0.0]
    )
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    payload = file.getvalue()
    return head.pack(magic, len(payload), zlib.crc32(payload)) + payload + data[head.size + size :]


def fuzz(name: str, folder: Path, seeds: range) -> list[str]:
    """Damage a file of some name once for each seed; return what did not end as it must, a line each."""
    kind = KINDS[name]
    path = kind.make(folder)
    kind.read(path)
    whole, wrong = path.read_bytes(), []
    for seed in seeds:
        path.write_bytes(mutated(whole, name, random.Random(f"{name}-{seed}")))
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # what is passed over is told, by the thousand
                kind.read(path)
        except BildError as error:
            if "\n" in str(error) or len(str(error)) > 1000:
                wrong.append(f"{name} {seed}: not one sentence: {error}")
        except Exception as error:
            wrong.append(f"{name} {seed}: {type(error).__name__}: {str(error)[:200]}")
    return wrong
