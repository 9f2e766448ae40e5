"""Pickled weights: the same model, converted once; none of their code is run, nothing half-made is taken for whole."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bild.errors import BildError
from bild.models import Pair, PairSpec, checkpoint, load_pair
from tests import hubcache
from tests.models.checkpoints import pickled, tiny_shape, write_checkpoint
from tests.tinymodels import random_weights, weight_files

KINDS = ("pickle", "sharded-pickle", "sharded-safetensors")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the conversions, which nothing is in yet."""
    hubcache.use_hub(monkeypatch, tmp_path / "hf")
    return tmp_path / "hf" / "bild-converted"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "good")


def published(folder: Path, kind: str, seed: int = 1) -> Path:
    """A checkpoint whose weights are in another form than one safetensors file."""
    write_checkpoint(folder, seed=seed)
    (folder / "model.safetensors").unlink()
    for name, content in weight_files(random_weights(tiny_shape(), seed), kind, tied=True).items():
        (folder / name).write_bytes(content)
    return folder


def load(large: Path, small: Path) -> Pair:
    return load_pair(str(large), str(small), device="cpu")


def refusal(folder: Path, good: Path) -> str:
    with pytest.raises(BildError) as caught:
        load(folder, good)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_where_the_hubs_cache_is_read_only_the_users_own_holds_the_conversion(
    tmp_path: Path, good: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not cache.is_relative_to(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    load(published(tmp_path / "large", "pickle"), good)
    assert not cache.exists()
    assert len(whole_files(tmp_path / "own" / "bild-converted")) == 1


def whole_files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.safetensors"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_model_and_another_fingerprint(tmp_path: Path, good: Path, kind: str) -> None:
    pair = load(published(tmp_path / "old", kind), good)
    states = [model.module.state_dict() for model in (pair.large, pair.small)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(weight, states[1][name]) for name, weight in states[0].items())
    assert pair.large.fingerprint != pair.small.fingerprint
    assert pair.large.module.lm_head.weight is pair.large.module.shared.weight


def test_it_is_told_once_and_converted_once(tmp_path: Path, good: Path, cache: Path, capsys: Any) -> None:
    old = published(tmp_path / "old", "sharded-pickle")
    load(old, good)
    told = [line for line in capsys.readouterr().err.splitlines() if "converting" in line]
    made = whole_files(cache)
    assert len(told) == len(made) == 2
    assert told[0].startswith(f"{old}: converting pytorch_model-00001-of-00002.bin to safetensors, once ({cache}/")
    before = [file.stat().st_mtime_ns for file in made]
    load(old, good)
    assert "converting" not in capsys.readouterr().err
    assert [file.stat().st_mtime_ns for file in whole_files(cache)] == before


def test_a_changed_pickle_is_converted_anew(tmp_path: Path, good: Path, cache: Path) -> None:
    old = published(tmp_path / "old", "pickle")
    load(old, good)
    published(tmp_path / "old", "pickle", seed=2)
    changed = load(old, good)
    assert len(whole_files(cache)) == 2
    assert not torch.equal(changed.large.module.shared.weight, changed.small.module.shared.weight)


def test_a_pickle_beside_safe_weights_is_not_touched(tmp_path: Path, good: Path, cache: Path) -> None:
    folder = write_checkpoint(tmp_path / "both", files={"pytorch_model.bin": b"this would fail"}, seed=2)
    assert load(folder, good).name == "both"
    assert not cache.exists()


def test_a_pickle_of_before_2020_is_read_too(tmp_path: Path, good: Path) -> None:
    old = pickled(tmp_path / "old")
    state = torch.load(old / "pytorch_model.bin", weights_only=True)
    torch.save(state, old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    pair = load(old, good)
    assert torch.equal(pair.large.module.shared.weight, pair.small.module.shared.weight)


class Harm:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("way", ["torch", "plain pickle", "among weights", "in a shard"])
def test_a_hostile_pickle_is_refused_and_not_run(
    tmp_path: Path, good: Path, cache: Path, way: str, capsys: Any
) -> None:
    marker, bad = (
        tmp_path / "marker",
        published(tmp_path / "bad", "sharded-pickle" if way == "in a shard" else "pickle"),
    )
    name = "pytorch_model-00002-of-00002.bin" if way == "in a shard" else "pytorch_model.bin"
    if way == "plain pickle":
        (bad / name).write_bytes(pickle.dumps(Harm(marker)))
    else:
        state = torch.load(bad / name, weights_only=True) if way != "torch" else {}
        torch.save(state | {"harm": Harm(marker)}, bad / name)
    sentence = refusal(bad, good)
    assert sentence.startswith(f"{name} of {bad} is not read: it ")
    assert "holds more than tensors" in sentence
    assert sentence.endswith("and may run code; ask for model.safetensors in its place.")
    assert not marker.exists()
    assert len(whole_files(cache)) == capsys.readouterr().err.count("converting") == (way == "in a shard")
    torch.load(bad / name, weights_only=False) if way != "plain pickle" else pickle.loads((bad / name).read_bytes())
    assert marker.exists()  # it would have been


PLAIN = (
    "in pytorch_model.bin has no name, or is sparse, quantised or without values; save plain tensors in fp32, fp16 or "
    "bf16."
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"shared.weight": [1.0]}, "pytorch_model.bin is no mapping of names to tensors."),
        ([torch.zeros(2)], "pytorch_model.bin is no mapping of names to tensors."),
        ({"a": torch.eye(2).to_sparse()}, f"'a' {PLAIN}"),
        ({"a": torch.zeros(2, device="meta")}, f"'a' {PLAIN}"),
        ({7: torch.zeros(2)}, f"7 {PLAIN}"),
    ],
)
def test_what_is_no_state_is_refused(tmp_path: Path, good: Path, content: Any, reason: str) -> None:
    bad = pickled(tmp_path / "bad")
    torch.save(content, bad / "pytorch_model.bin")
    assert refusal(bad, good) == f"The weights of {bad} cannot be loaded: {reason}"


def test_a_pickle_of_a_module_is_told_from_one_that_is_damaged(tmp_path: Path, good: Path) -> None:
    bad = pickled(tmp_path / "bad")
    torch.save(torch.nn.Linear(2, 2), bad / "pytorch_model.bin")
    assert "it holds more than tensors (torch.nn.modules.linear.Linear) and may run code" in refusal(bad, good)
    (bad / "pytorch_model.bin").write_bytes(b"<!DOCTYPE html><html>Not found</html>" * 50)
    assert "it is damaged, or holds more than tensors and may run code" in refusal(bad, good)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"])
def test_what_git_left_in_the_place_of_a_file_is_refused(tmp_path: Path, good: Path, name: str) -> None:
    bad = published(tmp_path / "bad", "pickle" if name.endswith("bin") else "safetensors")
    (bad / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 24\n")
    assert refusal(bad, good) == (
        f"{bad / name} is a pointer of Git LFS and not the file itself: fetch it with `git lfs pull`."
    )


def test_half_a_pickle_is_refused(tmp_path: Path, good: Path, cache: Path) -> None:
    bad = pickled(tmp_path / "bad")
    weights = bad / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    refusal(bad, good)
    assert whole_files(cache) == []


def test_a_conversion_that_was_stopped_leaves_nothing_that_is_taken_for_one(
    tmp_path: Path, good: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = published(tmp_path / "old", "pickle")

    def torn(_state: Any, file: Path, **_options: Any) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", torn)
        with pytest.raises(KeyboardInterrupt):
            load(old, good)
    assert whole_files(cache) == []
    load(old, good)
    assert [file.suffix for file in sorted(cache.iterdir()) if file.suffix != ".lock"] == [".safetensors"]


def test_room_is_looked_for_first(tmp_path: Path, good: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    old = published(tmp_path / "old", "pickle")
    sentence = refusal(old, good)
    assert sentence.startswith(
        f"pytorch_model.bin of {old} must be converted to safetensors, for which {cache} needs 0.1 GB"
    )
    assert sentence.endswith("make room, or set HF_HOME to a larger disk.")


def test_a_cache_that_cannot_be_written(tmp_path: Path, good: Path, cache: Path) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file")
    assert "set HF_HOME to a folder with room" in refusal(published(tmp_path / "old", "pickle"), good)


def test_an_old_torch_reads_no_pickle(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = published(tmp_path / "old", "pickle")
    monkeypatch.setattr(checkpoint.torch, "__version__", "2.5.1+cpu")
    assert refusal(old, good) == (
        f"pytorch_model.bin of {old} is a pickle, which torch 2.5.1+cpu cannot read safely: install 2.6."
    )


# --- shards


@pytest.mark.parametrize("kind", ["sharded-pickle", "sharded-safetensors"])
def test_a_missing_shard_and_a_missing_index_are_named(tmp_path: Path, good: Path, kind: str) -> None:
    bad = published(tmp_path / "bad", kind)
    shard = sorted(bad.glob("*-00002-of-*"))[0]
    shard.rename(tmp_path / "away")
    index = next(bad.glob("*.index.json"))
    assert refusal(bad, good) == f"{bad} has no {shard.name}, which its {index.name} names: fetch the missing shard."
    (tmp_path / "away").rename(shard)
    index.unlink()
    assert "and no index of its shards" in refusal(bad, good)


def test_a_weight_in_two_shards_is_one_weight_or_refused(tmp_path: Path, good: Path) -> None:
    bad = published(tmp_path / "bad", "sharded-safetensors")
    first, second = sorted(bad.glob("model-*"))
    name, weight = sorted(load_file(first).items())[0]
    before = load_pair(str(bad), str(good)).large.state[name]
    save_file(load_file(second) | {name: weight}, second)
    assert torch.equal(load_pair(str(bad), str(good)).large.state[name], before)
    save_file(load_file(second) | {name: weight + 1}, second)
    assert f"are of two checkpoints: {name} in {second} is another" in refusal(bad, good)


def test_shards_and_their_index_are_in_the_fingerprint(tmp_path: Path, good: Path) -> None:
    folder = published(tmp_path / "large", "sharded-safetensors")
    seen = {PairSpec(str(folder), str(good)).fingerprints()["large"]}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"more": 1}))
    seen.add(PairSpec(str(folder), str(good)).fingerprints()["large"])
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    seen.add(PairSpec(str(folder), str(good)).fingerprints()["large"])
    assert len(seen) == 3


@pytest.mark.parametrize("place", ["../", "weights/"])
def test_a_shard_that_the_index_has_elsewhere_is_refused(tmp_path: Path, good: Path, place: str) -> None:
    bad = published(tmp_path / "bad", "sharded-safetensors")
    index = bad / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"model-00001', f'"{place}model-00001'))
    assert f"{bad} has no {place}model-00001-of-00002.safetensors, which its {index.name} names" in refusal(bad, good)


def test_an_index_that_is_none_is_refused(tmp_path: Path, good: Path) -> None:
    bad = published(tmp_path / "bad", "sharded-safetensors")
    (bad / "model.safetensors.index.json").write_text("[]")
    assert "is no index of shards" in refusal(bad, good)
