"""Locks: another process waits, says for whom, and goes on when the holder is done or dead."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.results import locking
from bild.results.locking import device_lock, let_go, take, waiting_lock

HOLD = """
import sys, time
from pathlib import Path
from bild.results.locking import waiting_lock
with waiting_lock(Path(sys.argv[1]), "does this"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_process_waits_until_the_first_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "a" / "lock"
    first = hold(lock, 60)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    second = hold(lock, 0)
    try:
        assert second.stderr is not None
        told = f"waiting: process {first.pid} does this; this goes on when that ends (Ctrl-C stops the waiting, kill "
        assert second.stderr.readline() == f"{told}{first.pid} the other)\n"
        first.send_signal(signal.SIGKILL)
        assert second.communicate(timeout=30)[0] == "held\n"
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


def test_who_waited_for_a_folder_that_came_to_nothing_holds_the_lock_that_is_there(tmp_path: Path) -> None:
    lock = tmp_path / "a" / "b" / "lock"
    first = take(lock, "x")
    second = hold(lock, 60)
    try:
        assert second.stderr is not None
        assert second.stderr.readline().startswith("waiting")
        let_go(first)  # and with it goes the file that the other one waits for
        assert second.stdout is not None
        assert second.stdout.readline() == "held\n"
        assert lock.read_text() == f"{second.pid}\n"
    finally:
        second.kill()
        second.communicate()


def test_of_a_folder_that_came_to_something_nothing_is_removed(tmp_path: Path) -> None:
    with waiting_lock(tmp_path / "a" / "b" / "lock", "x"):
        (tmp_path / "a" / "worth").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "worth"]
    with waiting_lock(tmp_path / "a" / "lock", "x"):
        (tmp_path / "a" / "more").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "lock", "more", "worth"]


def test_it_is_said_again_how_long_something_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, told = hold(tmp_path / "lock", 60), list[str]()
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"

    def say(line: str) -> None:
        told.append(line)
        if len(told) == 2:
            held.kill()

    monkeypatch.setattr(locking, "say", say)
    monkeypatch.setattr(locking, "_SAY_SECONDS", 0.6)
    with waiting_lock(tmp_path / "lock", "x"):
        held.communicate()
    assert told[0].startswith(f"waiting: process {held.pid} x; ")
    assert re.match(rf"waiting for 0:\d\d: process {held.pid} x; ", told[1])


def test_a_process_does_not_wait_for_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with waiting_lock(tmp_path / "lock", "x"), waiting_lock(tmp_path / "lock", "x"):
        pass
    with waiting_lock(tmp_path / "lock", "x"):
        pass
    assert capsys.readouterr().err == ""


def test_a_device_has_one_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILD_LOCKS", str(tmp_path))
    with device_lock("cuda:0"):
        assert [path.name for path in tmp_path.iterdir()] == ["bild-device-cuda-0.lock"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BildError, match="cannot be made"), waiting_lock(tmp_path / "file" / "lock", "x"):
        pass


def test_devices_are_locked_in_a_folder_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILD_LOCKS")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with device_lock("cpu"):
        (folder,) = tmp_path.iterdir()
        assert folder.name.startswith("bild-locks-")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [path.name for path in folder.iterdir()] == ["bild-device-cpu.lock"]
    folder.chmod(0o777)
    with pytest.raises(BildError, match=r"bild-locks-.* cannot be made \(others can write to it\)"), device_lock("cpu"):
        pass


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_no_lock_is_taken_on_anything_but_a_plain_file(tmp_path: Path, kind: str) -> None:
    lock, victim = tmp_path / "lock", tmp_path / "victim"
    if kind == "link":
        victim.write_text("precious")
    if kind in ("link", "dangling"):
        lock.symlink_to(victim)
    elif kind == "folder":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    with pytest.raises(BildError, match="cannot be made"), waiting_lock(lock, "x"):
        pass
    assert kind != "link" or victim.read_text() == "precious"
    assert kind != "dangling" or not victim.exists()


def test_a_file_that_is_no_lock_file_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("export PATH=...")
    with waiting_lock(tmp_path / "lock", "x"):
        assert (tmp_path / "lock").read_text() == "export PATH=..."


def test_nothing_here_needs_the_locks_of_unix() -> None:
    repository = Path(__file__).parents[2]
    assert not [path for path in (repository / "bild").rglob("*.py") if "import fcntl" in path.read_text()]
    script = "import sys; sys.modules['fcntl'] = None; import bild.results, bild.results.predicted"
    subprocess.run([sys.executable, "-c", script], cwd=repository, check=True)
