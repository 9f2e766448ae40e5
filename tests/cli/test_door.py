"""The command `bild`: its verbs, its lists, its help, and what a shell completes."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bild import __version__
from bild.cli import options
from bild.cli.door import LISTS, OWN, SCRIPTS, VERBS, candidates
from tests.cli.commands import QUICK, call, environment, points

DOOR = "bild.cli.door"


def test_the_help_fits_80_columns_and_tells_every_verb(tmp_path: Path) -> None:
    done = call(DOOR, "--help", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) < 80
    told = {line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")}
    assert told == {*VERBS, *OWN}
    assert call(DOOR, cwd=tmp_path).out == done.out
    assert call(DOOR, "--version", cwd=tmp_path).out == f"bild {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_command_line_with_its_schema(verb: str) -> None:
    assert callable(importlib.import_module(VERBS[verb].module).main)
    assert (VERBS[verb].load_schema() is None) == (
        verb in ("report", "doctor", "claims", "gpu-check", "paper", "export")
    )


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_fits_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = call(DOOR, verb, "--help", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    about, _, _ = done.out.partition("all keys, as they stand now:")
    assert max(map(len, about.splitlines())) < 80
    assert done.out.removeprefix("usage: ").startswith(f"bild {verb} ")
    assert f"    bild {verb}" in done.out or VERBS[verb].schema is None


def test_a_verb_does_what_the_module_does(tmp_path: Path) -> None:
    assert call(DOOR, "run", "threshold.fb=2", cwd=tmp_path).refusal().startswith("threshold.fb=2 is out of range")
    shown = call(DOOR, "run", "task=xsum", "--cfg", "job", cwd=tmp_path)
    assert shown.out == call("bild.run", "task=xsum", "--cfg", "job", cwd=tmp_path).out
    assert call(DOOR, "report", "nowhere", cwd=tmp_path).refusal()
    assert call(DOOR, "report", "--help", cwd=tmp_path).code == 0
    about = call(DOOR, "doctor", "--help", cwd=tmp_path).out
    assert about.startswith("bild doctor (or python -m bild.doctor): what")
    assert max(map(len, about.splitlines())) < 80


@pytest.mark.slow
def test_a_run_by_the_door(tmp_path: Path) -> None:
    done = call(DOOR, "run", "task.samples=2", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(points(tmp_path)) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("rnu", "rnu is not a verb (did you mean run?): give one of run, sweep, "),
        ("--nope", "--nope is not a verb"),
        ("list modles", "modles is not a list (did you mean models?): give one of tasks, models, methods, "),
        ("completion", "No shell was given: give one of bash, zsh, fish."),
        ("completion csh", "csh is not a shell"),
    ],
)
def test_a_wrong_word_is_told_in_one_sentence(tmp_path: Path, words: str, sentence: str) -> None:
    assert call(DOOR, *words.split(), cwd=tmp_path).refusal().startswith(sentence)


@pytest.mark.parametrize(("name", "group"), LISTS.items())
def test_a_list_has_every_option_with_a_line_about_it(tmp_path: Path, name: str, group: str) -> None:
    lines = call(DOOR, "list", name, cwd=tmp_path).out.splitlines()
    assert [line.split()[0] for line in lines] == options(group)
    assert all(len(line.split()) > 2 and line.endswith(".") for line in lines)
    assert call(DOOR, "list", group, cwd=tmp_path).out.splitlines() == lines
    assert any(line.split()[:3] == ["bild", "list", name] for line in call(DOOR, "list", cwd=tmp_path).out.splitlines())


@pytest.mark.spread(2)
@pytest.mark.parametrize("words", [["--help"], ["list", "models"], ["complete", "bild run thr"], ["sweep", "--help"]])
def test_nothing_of_this_waits_for_torch(tmp_path: Path, words: list[str]) -> None:
    script = f"import sys; sys.argv = ['bild', *{words}]; import {DOOR} as door; door.main(); print(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "pandas", "matplotlib"} & set(done.stdout.splitlines()[-1].split())


# --- completion


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("bild sw", ["sweep"]),
        ("bild --v", ["--version"]),
        ("bild run task=xs", ["task=xsum"]),
        ("bild run -m task=xsum,cnn", ["task=xsum,cnndm"]),
        ("bild run method=bild threshold.f", ["threshold.fb="]),
        ("bild run model=embedded-", ["model=embedded-aligned", "model=embedded-bridge", "model=embedded-exit"]),
        ("bild run resume=", ["resume=true", "resume=false"]),
        ("bild run threshold.fb=", []),
        ("bild sweep sweep=q", ["sweep=quick"]),
        ("bild bench shape=t5-l", ["shape=t5-large"]),
        ("bild train train.ep", ["train.epochs="]),
        ("bild run --c", ["--cfg"]),
        ("bild list mo", ["models"]),
        ("bild list models ", []),
        ("bild completion ", list(SCRIPTS)),
        ("bild report res", []),
        ("bild nothing x", []),
    ],
)
def test_what_is_completed(line: str, found: list[str]) -> None:
    assert candidates(line) == found


def test_every_verb_and_every_key_can_be_completed() -> None:
    assert {*VERBS, *OWN} < set(candidates("bild "))
    keys = candidates("bild run ")
    assert {"task=", "experiment=", "threshold.rb=", "method.max_draft=", "measure.warmup=", "trace="} <= set(keys)
    assert "pretrained.large=" not in keys
    assert "model.pretrained.large=" in keys


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is absent")
def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "bild").write_text(f'#!/bin/sh\nexec {sys.executable} -m {DOOR} "$@"\n')
    (tmp_path / "bild").chmod(0o755)
    (tmp_path / "try").write_text(
        f"""PATH={tmp_path}:$PATH
eval "$(bild completion bash)"
try() {{ COMP_LINE="$1" COMP_POINT=${{#1}}; _bild bild; echo "$1: ${{COMPREPLY[*]}}"; }}
try "bild doc"
try "bild run task=xs"
try "bild run threshold.f"
try "bild report "
COMP_WORDBREAKS=" "
try "bild run task=xs"
complete -p bild
"""
    )
    done = subprocess.run(
        ["bash", str(tmp_path / "try")], env=environment(), capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == [
        "bild doc: doctor",
        "bild run task=xs: xsum",  # bash replaces what follows the sign
        "bild run threshold.f: threshold.fb=",
        "bild report : ",  # bash then offers files
        "bild run task=xs: task=xsum",
        "complete -o default -F _bild bild",
    ]
    assert done.stderr == ""
