"""The doctor's words on this machine, with a hub cache and without."""

from __future__ import annotations

import re
import shutil
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from bild import doctor
from bild.cli import options
from bild.errors import BildError
from tests import hubcache
from tests.cli.commands import Finished, call

HUB_TASKS = {"cnndm", "iwslt2017", "multi30k", "wmt14", "xsum"}
OWN_PAIRS = {"embedded", "embedded-aligned", "embedded-exit", "folders"}


def states(done: Finished) -> dict[str, str]:
    """State by what was looked at; every line fits 80 columns, but for a word that is longer."""
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in done.out.splitlines())
    lines = re.finditer(r"^(ok|missing|note)\s+(\S.*?): ", done.out, re.M)
    return {line[2]: line[1] for line in lines}


@pytest.fixture(scope="module")
def with_cache(hub_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The doctor, offline, with every checkpoint and data set in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        hubcache.use_hub(patch, hub_cache)
        return call("bild.doctor", cwd=tmp_path_factory.mktemp("doctor"))


def listed(folder: Path) -> dict[str, str]:
    """State of every task and pair, as the two longer lists tell it."""
    done = [call("bild.doctor", name, cwd=folder) for name in ("tasks", "models")]
    assert [each.code for each in done] == [0, 0]
    return states(done[0]) | states(done[1])


def test_everything_is_there_with_a_cache(with_cache: Finished) -> None:
    assert with_cache.code == 0
    assert with_cache.err == ""
    found = states(with_cache)
    assert {what for what, state in found.items() if state == "missing"} <= {"packages", "GPU"}
    assert len(with_cache.out.splitlines()) <= 24  # one screen
    for group in ("task", "model"):
        assert found[f"{group}s"] == "ok"
        assert all(option in " ".join(with_cache.out.split()) for option in options(group) if "/" not in option)
    assert found["Python"] == "ok"
    assert found["decoding"] == "ok"
    assert found["hub"] == "note"
    assert "offline by HF_HUB_OFFLINE" in with_cache.out


def test_it_says_what_is_missing_without_a_cache_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubcache.use_hub(monkeypatch, tmp_path / "hf")
    done = call("bild.doctor", cwd=tmp_path)
    assert done.code == 0  # the embedded pair decodes all the same
    assert {states(done)[each] for each in ("tasks", "models")} == {"missing"}
    assert "; not here: cnndm, iwslt2017, multi30k, wmt14, xsum" in " ".join(done.out.split())
    found = listed(tmp_path)
    missing = {what for what, state in found.items() if state == "missing"}
    assert {f"{group}={option}" for group in ("task", "model") for option in options(group)} == set(found)
    pairs = {f"model={option}" for option in options("model") if option not in OWN_PAIRS}
    assert missing == {f"task={task}" for task in HUB_TASKS} | pairs
    for finding in (*doctor.tasks(), *doctor.pairs()):
        assert ("hf download" in finding.mend) == (finding.what in missing), finding
        assert finding.seen


def test_a_partial_cache_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hubcache.add_model(tmp_path, "kssteven/T5-large-xsum")
    hubcache.add_data_set(tmp_path, "wmt/wmt14")
    hubcache.use_hub(monkeypatch, tmp_path)
    found = {finding.what: finding for finding in (*doctor.tasks(), *doctor.pairs())}
    assert (found["task=wmt14"].state, found["task=xsum"].state) == ("ok", "missing")
    assert found["model=t5-large"].state == "missing"
    assert found["model=t5-large"].seen == "3 of 4 checkpoints are not in the cache"
    assert found["model=t5-large"].mend.endswith("hf download kssteven/T5-large-cnndm ...")
    assert found["model=t5-large-aligned"].seen == "3 of 4 checkpoints are not in the cache"
    assert found["model=embedded"].seen == "in the package"


def test_the_command_that_it_gives_fetches_the_right_branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hubcache.use_hub(monkeypatch, tmp_path)
    (iwslt,) = (finding for finding in doctor.tasks() if finding.what == "task=iwslt2017")
    assert iwslt.mend.endswith("hf download IWSLT/iwslt2017 --repo-type dataset --revision refs/convert/parquet")


def test_a_hub_that_answers_and_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hubcache.use_hub(monkeypatch, tmp_path, offline=False)
    asked = []

    class Connection:
        def close(self) -> None:
            asked.append("closed")

    def answer(address: tuple[str, int], timeout: float) -> Connection:
        asked.append((*address, timeout))
        return Connection()

    def refuse(address: tuple[str, int], timeout: float) -> Connection:
        raise OSError("no way there")

    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    monkeypatch.setattr(socket, "create_connection", answer)
    assert doctor.hub().state == "ok"
    assert asked == [("hub.example", 443, 3), "closed"]
    monkeypatch.setattr(socket, "create_connection", refuse)
    found = doctor.hub()
    assert (found.state, "HF_HOME" in found.mend) == ("note", True)


def test_the_code_is_1_where_the_embedded_pair_does_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bild

    def broken(*_: object, **__: object) -> None:
        raise BildError("The weights are gone.")

    hubcache.use_hub(monkeypatch, tmp_path)
    monkeypatch.setattr(bild, "generate", broken, raising=False)
    done = call("bild.doctor", cwd=tmp_path)
    assert done.code == 1
    assert states(done)["decoding"] == "missing"
    assert "The weights are gone." in done.out


# --- packages and devices


@pytest.mark.parametrize(
    ("needed", "state", "seen"),
    [
        (["numpy>=1", "torch>=2", "no-such-package>=1; extra == 'dev'"], "ok", "torch 2."),
        (["numpy>=999"], "missing", f"numpy {version('numpy')} (needs >=999)"),
        (["numpy>=1", "no-such-package>=1"], "missing", "no-such-package is absent"),
    ],
)
def test_the_packages_are_compared_with_what_the_project_needs(
    monkeypatch: pytest.MonkeyPatch, needed: list[str], state: str, seen: str
) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: needed)
    (found,) = doctor._packages()
    assert (found.state, found.seen.startswith(seen)) == (state, True), found
    assert bool(found.mend) == (state == "missing")


def test_a_package_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", absent)
    (found,) = doctor._packages()
    assert (found.state, found.seen) == ("missing", "bild-bench is not installed")


def fake_torch(count: int, *, built: str | None = "12.8", gib: int = 16, major: int = 8) -> SimpleNamespace:
    """The part of torch that the doctor asks."""
    device = SimpleNamespace(name="Test GPU", total_memory=gib * 2**30, major=major)
    cuda = SimpleNamespace(
        is_available=lambda: count > 0, device_count=lambda: count, get_device_properties=lambda index: device
    )
    return SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda=built))


def test_gpus_are_told_by_name_memory_and_precision() -> None:
    small, large = doctor._gpu(fake_torch(1, gib=8, major=7))[0], doctor._gpu(fake_torch(2))[:2]
    assert (small.what, small.state, small.seen) == ("GPU 0", "note", "Test GPU, 8 GiB, fp16 (bf16 is emulated)")
    assert "engine.dtype=fp16" in small.mend
    assert [(f.what, f.state, f.mend) for f in large] == [("GPU 0", "ok", ""), ("GPU 1", "ok", "")]
    assert large[0].seen == "Test GPU, 16 GiB, bf16 and fp16"


@pytest.mark.parametrize(("driver", "state"), [(None, "note"), ("/usr/bin/nvidia-smi", "missing")])
def test_no_gpu_is_a_note_but_a_cpu_build_beside_one_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, driver: str | None, state: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: driver)
    (found,) = doctor._gpu(fake_torch(0, built=None))
    assert found.state == state
    assert "everything runs on the CPU" in found.seen
    assert ("CUDA build" in found.mend) == (driver is not None)
