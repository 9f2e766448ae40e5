"""What the doctor says of this machine, with a hub cache and without."""

from __future__ import annotations

import errno
import re
import shutil
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from huggingface_hub import constants

from bild import doctor
from bild.cli import options
from bild.engines.base import check_finite
from bild.errors import BildError
from bild.models import device, resolve_device
from bild.models.device import Nvidia
from tests import hubcache
from tests.cli.commands import Finished, call

HUB_TASKS = {"cnndm", "iwslt2017", "multi30k", "wmt14", "xsum"}
OWN_PAIRS = {"embedded", "embedded-aligned", "embedded-bridge", "embedded-exit", "folders"}


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


@pytest.mark.slow
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
    assert found["model=t5-large"].seen.startswith("3 of 4 checkpoints are not in the cache; on the device ")
    assert found["model=t5-large"].mend.endswith("hf download kssteven/T5-large-cnndm ...")
    assert found["model=t5-large-aligned"].seen.startswith("3 of 4 checkpoints are not in the cache")
    assert found["model=embedded"].seen.startswith("in the package; on the device 0.1 GB in fp32")


def test_a_cache_that_may_not_be_read_is_told_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        if path.is_relative_to(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return looked(path)

    looked = Path.is_file

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(Path, "is_file", refused)
    told = doctor.brief("models", doctor.pairs)
    assert told.state == doctor.MISSING
    assert re.fullmatch(
        r"The hub's cache .* cannot be read \(Permission denied\): point HF_HOME at another\.", told.seen
    )


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

    errors: tuple[tuple[Exception, str, bool], ...] = (
        (BildError("The weights are gone."), "The weights are gone.", True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "The memory of this machine is full", False),
    )
    hubcache.use_hub(monkeypatch, tmp_path)
    for error, told, again in errors:
        monkeypatch.setattr(bild, "generate", mock.Mock(side_effect=error), raising=False)
        done = call("bild.doctor", cwd=tmp_path)
        assert done.code == 1
        assert states(done)["decoding"] == "missing"
        assert told in done.out
        assert ("install again" in done.out) is again


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


def use_gpus(
    patch: pytest.MonkeyPatch, count: int, *, gib: int = 16, capability: tuple[int, int] = (8, 0), there: object = None
) -> None:
    """Let torch see so many GPUs, and the driver tell what is there."""
    properties = SimpleNamespace(name="Test GPU", total_memory=gib * 2**30)
    patch.setattr(torch.cuda, "is_available", lambda: count > 0)
    patch.setattr(torch.cuda, "device_count", lambda: max(count, 1))  # by NVML, which counts what torch cannot use
    patch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    patch.setattr(torch.cuda, "get_device_capability", lambda index=0: capability)
    patch.setattr(torch.cuda, "get_device_name", lambda index: "Test GPU")
    patch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90", "compute_120"])
    patch.setattr(device, "nvidia", lambda: there)


def test_gpus_are_told_by_name_memory_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Nvidia(("Test GPU",), "580.65.06", (13, 0))
    use_gpus(monkeypatch, 1, gib=8, capability=(7, 5), there=driver)
    small, told = doctor._gpu()
    assert (small.what, small.state, small.seen) == ("GPU 0", "note", "Test GPU, 8 GiB, fp16 (bf16 is emulated)")
    assert "engine.dtype=fp16" in small.mend
    assert (told.what, told.state) == ("GPU driver", "ok")
    assert told.seen.startswith("580.65.06, for CUDA 13.0 and older")
    use_gpus(monkeypatch, 2)
    large = doctor._gpu()
    assert [(f.what, f.state, f.mend) for f in large[:2]] == [("GPU 0", "ok", ""), ("GPU 1", "ok", "")]
    assert large[0].seen == "Test GPU, 16 GiB, bf16 and fp16"
    assert (large[2].state, large[2].mend[:26]) == ("note", "pip install nvidia-ml-py, ")


def test_no_gpu_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    use_gpus(monkeypatch, 0)
    (found,) = doctor._gpu()
    assert found.state == "note"
    assert "everything runs on the CPU" in found.seen
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(BildError, match="torch sees 0 CUDA devices"):
        resolve_device("cuda")


CASES = {
    # what the driver tells, the CUDA that torch is built for: what is wrong, and the command that mends it
    "a T4 with driver 535": (
        Nvidia(("Tesla T4",), "535.104.05", (12, 2)),
        "13.0",
        "there is a Tesla T4, but its driver 535.104.05 runs CUDA 12.2 at most, and this torch is built for CUDA 13.0",
        "make env CUDA=cu126, or pip install --force-reinstall torch==",
    ),
    "driver 570": (Nvidia(("Tesla T4",), "570.86.15", (12, 8)), "13.0", "runs CUDA 12.8 at most", "CUDA=cu126"),
    "driver 470": (Nvidia(("T",), "470.57", (11, 4)), "12.6", "runs CUDA 11.4 at most", "install driver 525 or newer"),
    "a CPU build": (
        Nvidia(("L4",), "580.1", (13, 0)),
        None,
        "this torch is a build for CPUs",
        "make env CUDA=cu130",
    ),
    "a CPU build, older driver": (
        Nvidia(("L4",), "550.1", (12, 4)),
        None,
        "a build for CPUs",
        "make env CUDA=cu126",
    ),
    "versions differ": (Nvidia((), "", (0, 0), "Driver/library version mismatch"), "13.0", "does not answer", "reboot"),
    "another reason": (Nvidia(("L4",), "580.1", (13, 0)), "13.0", "torch cannot use it (no luck)", "nvidia-smi"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_gpu_that_torch_cannot_use_is_an_error_with_the_command_that_mends_it(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, built, reason, mend = CASES[case]

    def fail() -> None:
        raise RuntimeError("no luck")

    use_gpus(monkeypatch, 0, there=there)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "init", fail)
    (found,) = doctor._gpu()
    assert found.state == "missing"
    assert reason in found.seen
    assert mend in found.mend
    for name in ("auto", "cuda", "cuda:0"):
        with pytest.raises(BildError) as caught:
            resolve_device(name)
        assert reason in str(caught.value)
        assert mend in str(caught.value)
        assert str(caught.value).endswith("device=cpu is how one says CPU.")
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resolve_device("auto") == torch.device("cpu")  # hidden on purpose


@pytest.mark.parametrize(
    ("capability", "missing"), [((7, 0), True), ((7, 5), False), ((8, 6), False), ((8, 9), False), ((12, 1), False)]
)
def test_a_gpu_without_code_in_this_torch(
    capability: tuple[int, int], missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gpus(monkeypatch, 1, capability=capability)
    assert (doctor._gpu()[0].state == "missing") == missing
    if missing:
        with pytest.raises(BildError, match=r"Test GPU \(sm_70\) is no GPU that this torch is built for .*cu126"):
            resolve_device("auto")
    else:
        assert resolve_device("auto") == torch.device("cuda", 0)


def test_the_driver_is_asked_through_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: "Tesla T4",
        nvmlSystemGetDriverVersion=lambda: "535.104.05",
        nvmlSystemGetCudaDriverVersion=lambda: 12020,
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert device.nvidia() == Nvidia(("Tesla T4",), "535.104.05", (12, 2))
    library.nvmlInit = lambda: 1 / 0
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert device.nvidia() is None
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = device.nvidia()
    assert found is not None
    assert found.silent == "division by zero"


def test_one_line_says_what_it_runs_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    device.tell_device.cache_clear()
    use_gpus(monkeypatch, 1, capability=(7, 5), there=Nvidia(("Test GPU",), "580.1", (13, 0)))
    for _ in range(2):
        device.tell_device(torch.device("cuda", 0), "bf16")
    line, warning = capsys.readouterr().err.splitlines()
    assert line == f"running on Test GPU (cuda:0) in bf16 (torch {torch.__version__}, driver 580.1)"
    assert warning.startswith("warning: Test GPU has no bf16 and emulates it")
    with pytest.raises(BildError, match=r"use engine\.dtype=fp32, or check"):
        check_finite([float("nan")])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BildError, match=r"use engine\.dtype=fp32 or bf16, or check"):
        check_finite([float("nan")])
    device.tell_device.cache_clear()
