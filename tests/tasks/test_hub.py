"""Finding a hub data set: revisions, layouts, a partial cache, and a hub that cannot be reached."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

from bild.errors import BildError
from bild.tasks import load_task
from tests import hubcache
from tests.tasks.compose import task
from tests.tinydata import json_lines, parquet

ROW = {"document": "A text.", "summary": "A summary."}
XSUM = "EdinburghNLP/xsum"


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty cache of this test's own, offline."""
    folder = tmp_path / "hf"
    hubcache.use_hub(monkeypatch, folder)
    return folder


@pytest.fixture
def online(root, monkeypatch):
    """A hub with one repository: revision -> files. Returns the list of what was asked of it."""
    hubcache.use_hub(monkeypatch, root, offline=False)
    asked: list[tuple[str, ...]] = []

    def serve(published: dict[str, dict[str, bytes]]) -> list[tuple[str, ...]]:
        def info(self, repository, revision):
            asked.append(("list", repository, revision))
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in published[revision]])

        def download(repository, *, repo_type, revision, allow_patterns):
            asked.append(("download", repo_type, revision, *allow_patterns))
            wanted = {name: published[revision][name] for name in allow_patterns}
            return str(hubcache.add_repository(root, repository, wanted, kind="datasets", revision=revision))

        monkeypatch.setattr(HfApi, "dataset_info", info)
        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        return asked

    return serve


def store(root: Path, files: dict[str, bytes], revision: str = "main") -> Path:
    """Put XSUM with these files into the cache."""
    return hubcache.add_repository(root, XSUM, files, kind="datasets", revision=revision)


def refusal(**options) -> str:
    with pytest.raises(BildError) as caught:
        load_task(task("xsum", **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- offline


def test_without_parquet_on_main_the_converted_branch_is_read(root):
    store(root, {"xsum.py": b"raise SystemExit"})
    store(root, {"default/validation/0000.parquet": parquet([ROW])}, revision="refs/convert/parquet")
    provenance = load_task(task("xsum")).provenance
    assert provenance["revision"] == hubcache.commit_of(XSUM, "refs/convert/parquet")
    assert provenance["files"] == ["default/validation/0000.parquet"]


def test_main_wins_over_the_converted_branch(root):
    store(root, {"data/validation-00000-of-00001.parquet": parquet([ROW])})
    store(root, {"default/validation/0000.parquet": parquet([ROW, ROW])}, revision="refs/convert/parquet")
    assert len(load_task(task("xsum"))) == 1


@pytest.mark.parametrize("revision", ["v2", hubcache.commit_of(XSUM, "v2")])
def test_a_revision_may_be_a_tag_or_a_commit(root, revision):
    store(root, {"validation.jsonl": json_lines([ROW, ROW])}, revision="v2")
    store(root, {"validation.jsonl": json_lines([ROW])})
    dataset = load_task(task("xsum", revision=revision))
    assert (len(dataset), dataset.provenance["revision"]) == (2, hubcache.commit_of(XSUM, "v2"))


def test_a_config_is_not_confused_with_its_neighbours(hub):
    assert len(load_task(task("cnndm"))) == 6
    assert len(load_task(task("cnndm", config="1.0.0"))) == 1


def test_nothing_in_the_cache(root):
    assert refusal() == (
        "The split validation of the hub data set EdinburghNLP/xsum was not found: the cache has no copy of main; "
        "the cache has no copy of refs/convert/parquet; "
        f"the cache is {root}/hub/datasets--EdinburghNLP--xsum; HF_HUB_OFFLINE is set; "
        "get it with `hf download EdinburghNLP/xsum --repo-type dataset --include '*validation*'` where there is a "
        "connection, or point HF_HOME at a cache that has it."
    )


def test_another_split_in_the_cache_is_named(root):
    store(root, {"data/test-00000-of-00001.parquet": parquet([ROW])})
    assert "in the cached copy of main, the splits there are test;" in refusal()


def test_a_config_that_is_not_there(hub):
    with pytest.raises(
        BildError, match=r"hub data set wmt/wmt14 \(xx-en\) .* there are no data files under config xx-en"
    ):
        load_task(task("wmt14", config="xx-en"))


def test_the_advice_names_revision_and_files(root):
    with pytest.raises(BildError, match=r"--revision refs/convert/parquet --include 'iwslt2017-de-en/.*validation.*'"):
        load_task(task("iwslt2017"))
    with pytest.raises(BildError, match=r"--include 'val\.jsonl'"):
        load_task(task("multi30k", split="validation"))


def test_a_missing_shard_is_refused(root):
    store(root, {"data/validation-00001-of-00003.parquet": parquet([ROW])})
    assert "has 1 of the 3 files that data/validation-00001-of-00003.parquet belongs to" in refusal()


def test_a_link_to_a_blob_that_is_gone_is_no_file(root):
    snapshot = store(root, {"data/validation-00000-of-00001.parquet": parquet([ROW])})
    (snapshot / "data/validation-00000-of-00001.parquet").resolve().unlink()
    assert "there are no data files" in refusal()


def test_remote_code_is_never_run(root):
    store(root, {"xsum.py": b"raise SystemExit('remote code was run')"})
    assert "there are no data files" in refusal()


# --- online


def test_only_the_files_of_the_split_are_downloaded(online):
    files = {f"data/{split}-00000-of-00001.parquet": parquet([ROW]) for split in ("train", "validation", "test")}
    asked = online({"main": {"README.md": b"", **files}})
    assert load_task(task("xsum")).provenance["revision"] == hubcache.commit_of(XSUM)
    assert asked == [
        ("list", XSUM, "main"),
        ("download", "dataset", "main", "data/validation-00000-of-00001.parquet"),
    ]


def test_a_script_only_repository_is_read_from_its_conversion(online):
    converted = {"default/validation/0000.parquet": parquet([ROW]), "default/test/0000.parquet": parquet([ROW])}
    asked = online({"main": {"xsum.py": b""}, "refs/convert/parquet": converted})
    assert len(load_task(task("xsum"))) == 1
    assert asked[-1] == ("download", "dataset", "refs/convert/parquet", "default/validation/0000.parquet")


def test_a_download_of_one_split_serves_later_offline_runs(online, root, monkeypatch):
    files = {f"data/{split}-00000-of-00001.parquet": parquet([ROW]) for split in ("validation", "test")}
    online({"main": files})
    first = load_task(task("xsum"))
    hubcache.use_hub(monkeypatch, root, offline=True)
    assert load_task(task("xsum")) == first
    assert "the splits there are validation" in refusal(split="test")


def test_an_unknown_split_names_the_published_ones(online):
    online({"main": {"validation.jsonl": b"", "test.jsonl": b""}, "refs/convert/parquet": {}})
    assert "on the hub at main, the splits there are test, validation" in refusal(split="dev")


def test_a_hub_that_cannot_be_reached_is_replaced_by_the_cache(root, monkeypatch):
    def unreachable(self, repository, revision):
        raise ConnectionError("Name or service not known\nand more")

    hubcache.use_hub(monkeypatch, root, offline=False)
    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    assert "the hub said ConnectionError: Name or service not known;" in refusal()
    store(root, {"data/validation-00000-of-00001.parquet": parquet([ROW])})
    assert len(load_task(task("xsum"))) == 1
