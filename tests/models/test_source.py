"""The origin of a checkpoint, the questions to the hub, and its fingerprint."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from bild.errors import BildError
from bild.models import PairSpec
from bild.models import source as module
from bild.models.source import fingerprint, locate, tokenizer_fingerprint, weight_files
from tests import hubcache
from tests.models.checkpoints import pickled, write_checkpoint

NAME = "kssteven/T5-large-xsum"


@pytest.fixture
def published() -> str:
    """The form of the checkpoint's weights on the hub."""
    return "safetensors"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: str) -> list[dict[str, Any]]:
    """A hub that can be reached and has one checkpoint; what was asked of it."""
    root = tmp_path / "hf"
    hubcache.use_hub(monkeypatch, root, offline=False)
    calls: list[dict[str, Any]] = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append({"name": name, "revision": revision, "patterns": allow_patterns})
        if name != NAME:
            raise RuntimeError("404 Not Found.\nRepository not found: " + name)
        folder = hubcache.add_model(root, name, weights=published)
        for file in folder.iterdir():
            if not any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                file.unlink()
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return calls


# --- places


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mine")
    found = locate(str(folder))
    assert (found.name, found.folder, found.revision) == (str(folder), folder.resolve(), None)
    assert found.has_tokenizer
    assert weight_files(found.folder) == [folder.resolve() / "model.safetensors"]


def test_a_relative_and_a_home_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / "mine" / "large")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("mine/large", "./mine/large", "~/mine/large"):
        assert locate(name).folder == folder


def test_a_folder_wins_over_a_hub_name(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert locate(NAME).folder == folder
    monkeypatch.chdir("/")
    assert locate(NAME).revision == hubcache.commit_of(NAME)


def test_a_hub_name_offline_is_the_snapshot_in_the_cache(hub: Path) -> None:
    found = locate(NAME)
    assert found.revision == hubcache.commit_of(NAME)
    assert found.folder.name == found.revision
    assert (found.folder / "config.json").is_file()


@pytest.mark.parametrize("revision", ["v2", hubcache.commit_of(NAME, "v2")])
def test_a_revision_offline_may_be_a_tag_or_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    main = hubcache.add_model(tmp_path, NAME)
    files = {file.name: file.read_bytes() for file in main.iterdir()}
    hubcache.add_repository(tmp_path, NAME, files, revision="v2")
    hubcache.use_hub(monkeypatch, tmp_path)
    assert locate(NAME, revision=revision).revision == hubcache.commit_of(NAME, "v2")
    with pytest.raises(BildError, match=f"^model={NAME} is neither a folder nor .* at revision v3, and HF_HUB_OFFLINE"):
        locate(NAME, revision="v3")


def test_the_hub_is_asked_for_safe_files_first(asked: list[dict[str, Any]]) -> None:
    found = locate(NAME, revision="abc")
    assert found.revision == hubcache.commit_of(NAME)
    (call,) = asked
    assert (call["name"], call["revision"]) == (NAME, "abc")
    assert {"config.json", "*.safetensors", "tokenizer.json", "spiece.model"} <= set(call["patterns"])
    assert not any("bin" in pattern or pattern == "*" or "h5" in pattern for pattern in call["patterns"])


@pytest.mark.parametrize("published", ["pickle", "sharded-pickle"])
def test_pickles_are_fetched_where_there_is_nothing_else(asked: list[dict[str, Any]], published: str) -> None:
    found = locate(NAME)
    assert {file.suffix for file in weight_files(found.folder)} == {".bin"}
    assert len(asked) == 2
    assert "pytorch_model*.bin" in asked[-1]["patterns"]


def test_a_tokenizer_is_fetched_without_weights(asked: list[dict[str, Any]]) -> None:
    locate(NAME, weights=False)
    assert not any("safetensors" in pattern for pattern in asked[0]["patterns"])


def test_the_cache_is_as_good_where_the_hub_does_not_answer(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    hubcache.add_model(tmp_path / "hf", "kssteven/T5-small-xsum")
    assert locate("kssteven/T5-small-xsum").revision == hubcache.commit_of("kssteven/T5-small-xsum")
    assert len(asked) == 1


def test_what_the_hub_said_is_told_on_one_line(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(BildError) as caught:
        locate("kssteven/T5-none", option="model.small")
    assert "\n" not in str(caught.value)
    assert "model.small=kssteven/T5-none is neither a folder nor" in str(caught.value)
    assert "the hub said RuntimeError: 404 Not Found:" in str(caught.value)


@pytest.mark.parametrize("name", ["/no/such", "./nowhere", "../nowhere", "~/nowhere", "a/b/c", "a b", "-x", "x" * 97])
def test_what_cannot_be_a_name_on_the_hub_is_a_missing_folder(name: str) -> None:
    with pytest.raises(BildError, match=r"^There is no folder .* for model: give one with config\.json and model"):
        locate(name)


def test_a_file_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BildError, match=r"^There is no folder weights for model"):
        locate("weights")


# --- fingerprints


def test_a_fingerprint_is_of_the_contents_and_not_of_the_name(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "one")
    shutil.copytree(one, tmp_path / "sub" / "other")
    assert fingerprint(one) == fingerprint(tmp_path / "sub" / "other")
    assert len(fingerprint(one)) == 16
    assert int(fingerprint(one), 16) >= 0


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_fingerprint_sees_every_byte_of_weights_and_configuration(tmp_path: Path, file: str) -> None:
    folder = write_checkpoint(tmp_path / "one")
    before = fingerprint(folder)
    content = bytearray((folder / file).read_bytes())
    for place in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        (folder / file).write_bytes(changed)
        assert fingerprint(folder) != before, place
    (folder / file).write_bytes(content + b"\n")
    assert fingerprint(folder) != before
    (folder / file).write_bytes(content)
    assert fingerprint(folder) == before


def test_a_fingerprint_sees_pickles_and_no_bystanders(tmp_path: Path) -> None:
    folder = pickled(tmp_path / "one")
    before = fingerprint(folder)
    (folder / "README.md").write_text("A card.")
    (folder / "tokenizer.json").unlink()
    assert fingerprint(folder) == before
    weights = folder / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert fingerprint(folder) != before


def test_large_files_are_read_in_places_that_include_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAMPLE", 16)  # so that 1 KiB is large
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "model.safetensors"
    content = bytearray(range(256)) * 40
    file.write_bytes(content)
    before = fingerprint(tmp_path)
    for place in (0, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        assert fingerprint(tmp_path) != before
    file.write_bytes(content + b"\0")
    assert fingerprint(tmp_path) != before
    unseen = bytearray(content)
    unseen[len(content) // 63 - 40] ^= 1  # between the first two places
    file.write_bytes(unseen)
    assert fingerprint(tmp_path) == before


def test_a_pair_is_identified_without_being_loaded(tmp_path: Path) -> None:
    large, small = write_checkpoint(tmp_path / "large"), write_checkpoint(tmp_path / "small", seed=2, tokenizer=None)
    found = PairSpec(str(large), str(small)).fingerprints()
    assert found == {
        "large": fingerprint(large),
        "small": fingerprint(small),
        "tokenizer": tokenizer_fingerprint(large),
    }
    shutil.move(large, tmp_path / "moved")
    assert PairSpec(str(tmp_path / "moved"), str(small)).fingerprints() == found


def test_the_tokenizer_of_a_pair_is_part_of_its_identity(tmp_path: Path) -> None:
    large = write_checkpoint(tmp_path / "large")
    other = write_checkpoint(tmp_path / "other", tokenizer="multilingual")
    bare = write_checkpoint(tmp_path / "bare", tokenizer=None)
    own, asked = (
        PairSpec(str(large), str(large)).fingerprints(),
        PairSpec(str(large), str(large), tokenizer=str(other)).fingerprints(),
    )
    assert own["tokenizer"] != asked["tokenizer"] == tokenizer_fingerprint(other)
    assert PairSpec(str(bare), str(large)).fingerprints()["tokenizer"] == own["tokenizer"]
    assert PairSpec(str(bare), str(bare)).fingerprints()["tokenizer"] is None
    (large / "tokenizer_config.json").write_text("{}")
    assert PairSpec(str(large), str(large)).fingerprints()["tokenizer"] != own["tokenizer"]


def test_the_embedded_pair_has_a_fingerprint_by_its_name() -> None:
    found = PairSpec("embedded", "embedded").fingerprints()
    assert len({*found.values()}) == 3
    assert None not in found.values()
