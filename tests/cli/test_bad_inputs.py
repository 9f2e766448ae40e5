"""Hundreds of bad inputs, each of which ends in one sentence and exit code 2 before anything is run.

`bad_inputs.txt` has a command a line and, after ` => `, how its sentence begins.
"""

from __future__ import annotations

import importlib
import shlex
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from bild.cli.door import VERBS
from bild.cli.overrides import all_options
from bild.options import Option
from tests.cli.commands import Finished, call

TABLE = Path(__file__).with_name("bad_inputs.txt")


def table() -> dict[str, list[tuple[str, str]]]:
    """Return (arguments, beginning of the sentence) by verb."""
    found = defaultdict(list)
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        command, _, beginning = line.partition(" => ")
        verb, _, arguments = command.partition(" ")
        found[verb].append((arguments, beginning))
    return found


def refused(verb: str, arguments: list[str], cwd: Path) -> str:
    """Return the sentence that a command ends in, or what it did in the place of refusing."""
    name = VERBS[verb].module if verb in VERBS else "bild.cli.door"
    module, begun = importlib.import_module(name), list[Any]()

    def job(config: Any) -> None:
        begun.append(config)

    job.__module__ = name
    checked_before = verb in VERBS and VERBS[verb].schema is not None  # else the job itself reads its options
    with mock.patch.object(module, "job", job) if checked_before else nullcontext():
        done: Finished = call(name, *arguments, cwd=cwd)
    if begun:
        return "accepted"
    lines = done.err.splitlines()
    if done.code != 2 or len(lines) != 1 or done.out or not (lines[0].startswith("error: ") and lines[0][-1] == "."):
        return repr(done)
    return lines[0].removeprefix("error: ")


@pytest.mark.slow
@pytest.mark.parametrize("verb", sorted(table()))
def test_every_bad_input_is_told_in_one_sentence(verb: str, tmp_path: Path) -> None:
    wrong = []
    for arguments, beginning in table()[verb]:
        told = refused(verb, shlex.split(arguments), tmp_path)
        if not told.startswith(beginning):
            wrong.append((arguments, told))
    assert wrong == []
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_long() -> None:
    assert sum(map(len, table().values())) >= 580


BAD = {
    float: ("nan",),
    int: ("1.5", "99999999999999999999"),
    bool: ("2",),
    str: ("",),
    list: ("x",),
    dict: ("[a]",),
}


def values_of(option: Option) -> tuple[str, ...]:
    """Return values that are none of this option."""
    if "choices" in option.metadata and option.kinds == [str]:
        return ("nobody-knows",)
    kinds = [kind for kind in BAD if option.holds(kind)]
    return BAD[kinds[0]] if len(kinds) == 1 and len(option.kinds) == 1 and "empty" not in option.metadata else ()


@pytest.mark.parametrize("verb", ["run", "sweep", "bench", "train", "align", "demo"])
def test_every_option_of_every_command_refuses_what_it_is_not(verb: str, tmp_path: Path) -> None:
    schema = VERBS[verb].load_schema()
    assert schema is not None
    aliases = {name: typed for typed, name in getattr(schema, "ALIASES", {}).items()}
    groups = [f"{name}=t5-small" for name in ("model", "shape") if verb in ("bench", "train", "align")]
    wrong, tried = [], 0
    for key, option in all_options(schema).items():
        for value in values_of(option):
            if key in aliases or (option.hint == float | None and value == "null"):
                continue
            chosen = [each for each in groups if key.startswith(each.partition("=")[0])][:1]
            told = refused(verb, [*chosen, f"{key}={value}"], tmp_path)
            tried += 1
            if key.rpartition(".")[2] not in told or told == "accepted":
                wrong.append((key, value, told))
    assert wrong == []
    assert tried > 50
