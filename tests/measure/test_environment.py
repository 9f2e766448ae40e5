"""What a record says of the machine, the packages and the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import bild
from bild.measure import environment as machine

CPU = torch.device("cpu")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def test_the_environment_has_what_a_record_needs() -> None:
    found = machine.describe(CPU)
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"machine", "packages", "python", "platform", "git"}
    assert len(found["machine"]["fingerprint"]) == 16
    assert found["machine"]["name"].endswith(f"{os.cpu_count()} threads")
    assert found["packages"]["torch"] == torch.__version__
    assert found["packages"]["bild"] == bild.__version__
    assert set(machine.PACKAGES) <= set(found["packages"])
    assert "absent" not in found["packages"].values()
    assert set(found["git"]) == {"sha", "dirty"}


def test_the_fingerprint_is_of_the_hardware_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.describe(CPU)["machine"]
    assert machine.describe(CPU)["machine"] == before
    monkeypatch.setattr(machine, "_cpu_name", lambda: "Another Processor")
    after = machine.describe(CPU)["machine"]
    assert after["fingerprint"] != before["fingerprint"]
    assert after["name"].startswith("Another Processor, ")


def test_a_package_that_is_not_there_is_absent() -> None:
    assert machine._version("no-such-package-of-any-kind") == "absent"


def test_the_state_before_a_run() -> None:
    now = machine.state(CPU)
    assert set(now) == {"load_1min", "torch_threads", "cpu_mhz"}
    assert now["torch_threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    ("cores", "load", "threads", "busy"),
    [(8, 0.1, 1, False), (8, 7.0, 1, False), (8, 7.5, 1, True), (8, 6.5, 2, True), (2, 9.0, 1, True)],
)
def test_a_machine_is_busy_where_it_has_no_core_left(
    monkeypatch: pytest.MonkeyPatch, cores: int, load: float, threads: int, busy: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    warning = machine.busy_warning({"load_1min": load, "torch_threads": threads})
    assert (warning is not None) == busy
    if warning is not None:
        assert warning.startswith(f"The machine is busy (load {load:.1f} on {cores} threads)")
        assert "\n" not in warning


# --- the state of the repository


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the package in it, committed."""
    package = tmp_path / "bild" / "measure"
    package.mkdir(parents=True)
    (package / "environment.py").write_text("x = 1\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table.md").write_text("one\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return package


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    (tmp_path / "environment.py").write_text("")
    assert machine.git_state(tmp_path) == {"sha": None, "dirty": None}


@needs_git
def test_a_clean_checkout_and_a_dirty_one(checkout: Path) -> None:
    sha = git(checkout, "rev-parse", "HEAD")
    assert machine.git_state(checkout) == {"sha": sha, "dirty": False}
    (checkout / "notes.txt").write_text("untracked files change no result")
    (checkout.parents[1] / "results" / "table.md").unlink()
    assert machine.git_state(checkout) == {"sha": sha, "dirty": False}
    (checkout / "environment.py").write_text("x = 2\n")
    assert machine.git_state(checkout) == {"sha": sha, "dirty": True}


@needs_git
def test_the_package_finds_the_commit_of_its_own_checkout() -> None:
    folder = Path(machine.__file__).parent
    if not (folder.parents[1] / ".git").exists():
        pytest.skip("the package is not in a checkout of its own")
    assert machine.git_state(folder)["sha"] == git(folder, "rev-parse", "HEAD")


@needs_git
def test_somebody_elses_repository_around_an_installed_package_is_not_its_state(checkout: Path) -> None:
    installed = checkout.parents[1] / ".venv" / "bild" / "measure"
    installed.mkdir(parents=True)
    (installed / "environment.py").write_text("x = 1\n")
    assert machine.git_state(installed) == {"sha": None, "dirty": None}


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.git_state(Path(machine.__file__).parent) == {"sha": None, "dirty": None}
