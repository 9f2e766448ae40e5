"""Whatever ends a command: one line, an exit code, and no traceback but in a file that is named."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bild.cli import door
from bild.errors import BildError, _is_command, guard, refusing, told
from tests.bench.test_bench_command import TINY
from tests.cli.commands import REPOSITORY, call, environment
from tests.killing import EXAMPLE, STDOUTS
from tests.sweep.test_sweep import OPTIONS, SWEEP
from tests.training.tiny import write_corpus
from tests.zygote import Zygote


def failing_over(stop: BaseException) -> NameError:
    """The error of a library whose cleaning up fails where it is stopped."""
    error = NameError("no such file")
    error.__context__ = stop
    return error


LIST = """import sys
from bild.errors import guard
raise SystemExit(guard(lambda: print('\\u2264' * 99, sys.stdout.isatty(), sys.stderr.isatty())))
"""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (BildError("It is wrong."), 2, "error: It is wrong."),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            2,
            "error: a/b could not be used .No space.*free some",
        ),
        (OSError(errno.EACCES, "Permission denied", "a/b"), 2, "error: a/b could not be used .Permission.*fix that"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 2, "error: The memory of this machine is full"),
        (ImportError("libx.so: failed to map segment from shared object"), 2, "error: The memory of this machine"),
        (SystemError("error return without exception set"), 2, "error: The memory of this machine"),
        (RuntimeError("can't start new thread"), 2, "error: The memory of this machine"),
        (RuntimeError("could not create a primitive"), 2, "error: The memory of this machine"),
        (Exception("No space left on device (os error 28)"), 2, "error: The disk is full: free some space"),
        (KeyboardInterrupt(), 130, "stopped; go on"),
        (KeyboardInterrupt("nothing was measured"), 130, "nothing was measured"),
        (failing_over(KeyboardInterrupt()), 130, "stopped; go on"),
        (RecursionError("maximum recursion depth"), 1, "error: This is a defect of bild .RecursionError: maximum"),
    ],
)
def test_whatever_ends_a_command_is_one_line(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert guard(command, "stopped; go on") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.match(told, err)


def test_a_sentence_is_on_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: refuse("a\nb\x1b[2J  c")) == 2
    assert capsys.readouterr().err == "error: There is no a b [2J  c.\n"


def refuse(name: str) -> None:
    raise BildError(f"There is no {name}.")


def test_a_closed_stdout_can_be_asked_whether_it_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "argv", ["bild", "list", "methods"])
    assert door.main() == 0


def test_what_finds_no_room_is_not_called_damaged() -> None:
    def said(error: Exception) -> str:
        with pytest.raises(BildError) as caught, refusing(lambda why: f"It is damaged ({why}): fetch it again."):
            raise error
        return str(caught.value)

    assert said(RuntimeError("DefaultCPUAllocator: can't allocate memory")).startswith("The memory of this machine is")
    assert "Permission denied" in said(PermissionError(errno.EACCES, "Permission denied", "a"))
    assert said(RuntimeError("bad magic")) == "It is damaged (bad magic): fetch it again."


def test_the_traceback_of_a_defect_is_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("bild.claims._judge", lambda *_: {}["no such"])
    done = call("bild.claims", "results", cwd=tmp_path)
    (file,) = tmp_path.glob("bild-traceback-*.txt")
    assert (done.code, done.err) == (
        1,
        f"error: This is a defect of bild (KeyError: 'no such'): please report it with {file}.\n",
    )
    assert "Traceback" in file.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert "test_guard.py, line " in call("bild.claims", "results", cwd=tmp_path).err


def test_a_command_of_hydra_is_guarded_as_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("bild.measure.session.measure_points", failing)
    for arguments in (["task.samples=1"], ["-m", "task.samples=1,2"]):
        done = call("bild.run", *arguments, cwd=tmp_path)
        assert done.code == 1
        assert done.err.count("error: This is a defect of bild (ZeroDivisionError: division by zero)") == len(arguments)
        assert "Traceback" not in done.err
    assert call("bild.run", "-m", "hydra.launcher.nothing=1", cwd=tmp_path).refusal()


@pytest.mark.parametrize(
    ("redirected", "code", "told"), [(">/dev/full", 2, "could not be written"), (">&-", 0, ""), ("| true", 0, "")]
)
def test_a_stdout_that_takes_nothing(redirected: str, code: int, told: str) -> None:
    shell = f"'{sys.executable}' -c \"$1\" {redirected}"
    env = environment({"PYTHONIOENCODING": "ascii"})
    done = subprocess.run(
        ["sh", "-c", shell, "sh", LIST], capture_output=True, text=True, env=env, cwd=REPOSITORY, check=False
    )
    assert done.returncode == code
    assert done.stderr.count("\n") == (told != "")
    assert told in done.stderr


def test_what_is_cut_of_a_librarys_words_is_marked() -> None:
    assert told(ValueError("too  much.")) == "too much"
    assert told(ValueError("x" * 500)) == "x" * 154 + " [...]"


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    (gone := tmp_path / "gone").mkdir()
    shell = 'rmdir "$PWD"; exec "$0" -c "$1"'
    env = environment({"PYTHONPATH": str(REPOSITORY)})
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, LIST], capture_output=True, text=True, env=env, cwd=gone, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: The working folder was removed or moved: change to one that is there and run again.\n"


ONE = ("task.samples=1", "task.target_limit=4", "measure.warmup=0", "measure.library=0", "measure.calm_minutes=0")
TRAIN = ("task=file", "task.path=corpus", "task.target_limit=6", "train.steps=1", "train.batch=2", "device=cpu")
TRAIN = (*TRAIN, "train.validate_samples=1", "splits.test=null", "out=out")
COMMANDS = {
    "run": ("bild.run:main", *ONE),
    "run -m": ("bild.run:main", "-m", "threshold.fb=0.3,0.7", *ONE),
    "run --help": ("bild.run:main", "--help"),
    "sweep": (SWEEP, *OPTIONS),
    "sweep plan": ("bild.sweep.__main__:main", "plan=only", *ONE),
    "paper": ("bild.paper:main", "plan=only", "only=xsum-unaligned", "task.samples=2"),
    "paper --help": ("bild.paper:main", "--help"),
    "report": ("bild.report.__main__:main", str(EXAMPLE), "--only", "points"),
    "report --help": ("bild.report.__main__:main", "--help"),
    "claims": ("bild.claims:main", str(EXAMPLE)),
    "export": ("tests.killing:export",),
    "bench": ("bild.bench.__main__:main", *TINY, "engine=[fused]", "peers=[]", "out=out"),
    "train": ("bild.train:main", *TRAIN, "shape=embedded-small", "shape.rows=150", "train=scratch"),
    "align": ("bild.align:main", *TRAIN, "model=embedded", "align.start=finetuned"),
    "demo": ("bild.demo:main", "points=[{fb: 0.3}]", "timed=null", *ONE),
    "doctor": ("bild.doctor:main",),
    "doctor models": ("bild.doctor:main", "models"),
    "list": ("bild.cli.door:main", "list", "methods"),
    "gpu-check": ("bild.gpu_check:main",),
}
NEEDY = ("gpu-check", "paper")
"""Those that a machine without a GPU, or without published checkpoints, refuses."""
SIGNALS = (("SIGINT", 1), ("SIGTERM", 20), ("SIGINT", 50), ("SIGTERM", 100), ("SIGINT", 150), ("SIGTERM", 250))
MEMORY = tuple(("memory", most) for most in (20_000_000, 100_000_000))
CODES = {"SIGINT": (130,), "SIGTERM": (143,), "memory": (1, 2), "unread": (141,), "no room": (2,)}


@pytest.mark.slow
@pytest.mark.spread(2)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(("ending", "number"), [*SIGNALS, *MEMORY, *((ending, 0) for ending in STDOUTS)])
def test_every_command_ends_in_order(mother: Zygote, tmp_path: Path, name: str, ending: str, number: int) -> None:
    write_corpus(tmp_path / "corpus")
    child = mother.start("tests.killing:main", ending, str(number), *COMMANDS[name], cwd=tmp_path)
    code, said = child.wait(), child.log.read_text()
    assert code in (0, *CODES.get(ending, ()), *((2,) if name in NEEDY else ())), said
    assert not re.search("Traceback|defect|Exception ignored", said), said
    assert code < 130 or ending == "unread" or said.splitlines()[-1].startswith("stopped"), said
    assert not [*tmp_path.rglob("*.tmp")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_ends_in_order(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = []

    def command() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            closed.append(True)

    before = signal.getsignal(number)
    assert guard(command, "stopped; go on") == 128 + number
    assert (capsys.readouterr().err, closed, signal.getsignal(number)) == ("stopped; go on\n", [True], before)


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        (["python", "-m", "bild.run", "threshold.fb=0.3"], True),
        (["python", "-X", "utf8", "-m", "bild.report", "results"], True),
        (["python", "/venv/bin/bild", "run"], True),
        (["python", "-m", "bild.measure.processes"], False),
        (["python", "-m", "pytest", "bild"], False),
        (["python", "mine.py", "bild"], False),
        (["python"], False),
    ],
)
def test_a_command_is_told_from_what_imports_the_package(words: list[str], is_one: bool) -> None:
    assert _is_command(words) is is_one


@pytest.mark.parametrize(
    ("happening", "code", "told"),
    [
        ("import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", 130, ""),
        ("raise MemoryError", 2, "error: The memory of this machine is full; .*, and run again.\n"),
        ("raise ImportError('no such')", 1, "Traceback(.|\n)*no such\n"),
    ],
)
def test_what_ends_a_command_while_it_is_imported(tmp_path: Path, happening: str, code: int, told: str) -> None:
    (tmp_path / "hydra.py").write_text(happening)
    env = environment() | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    command = [sys.executable, "-m", "bild.run", "task.samples=1"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (code, "")
    assert re.fullmatch(told, done.stderr)


@pytest.mark.parametrize(
    ("command", "megabytes"), [(f"report {EXAMPLE}", 110), (f"claims {EXAMPLE}", 150), ("doctor", 400)]
)
def test_a_limit_of_memory_that_libraries_are_not_loaded_in(command: str, megabytes: int, tmp_path: Path) -> None:
    shell = f"ulimit -v {1024 * megabytes}; exec '{sys.executable}' -m bild.{command}"
    env = environment({"OPENBLAS_NUM_THREADS": "4"})
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, env=env, cwd=tmp_path, check=False, timeout=50
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("error: The memory of this machine is full; .*, and run again.\n", done.stderr)


INVERSE = """import resource, sys
from pathlib import Path
from bild.limits import Limited
sys.meta_path.insert(0, Limited(1 << 30))
import numpy, colorsys
most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (8 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
print(numpy.linalg.inv(numpy.eye(99)).sum())
"""


def test_numpy_inverts_where_no_room_was_left_for_its_buffer(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INVERSE], capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "99.0\n", "")
