"""README and docs name only files that there are; tests/test_hints.py reads their commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.commands import REPOSITORY

TEXTS = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])
COMMAND = re.compile(r"^ {4}(?:bild|python -m bild\.) ?([a-z][a-z-]*) ?(.*?)(?: {2,}.*| +# .*)?$", re.M)


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(text: Path) -> None:
    told = text.read_text(encoding="utf-8")
    named = set(
        re.findall(r"\b(?:bild|conf|tests|scripts|docs|notebooks)/[\w/.-]*\w\.(?:py|yaml|md|json|js|svg|png)\b", told)
    )
    named |= {
        str((text.parent / link).resolve().relative_to(REPOSITORY))
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", told)
    }
    assert [name for name in sorted(named) if "NAME" not in name and not (REPOSITORY / name).exists()] == []


def test_the_reader_of_commands_sees_them() -> None:
    found = COMMAND.findall((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert ("run", "model=t5-large threshold.fb=0.6") in found
    assert {"run", "sweep", "report", "train", "bench", "doctor", "list"} <= {verb for verb, _ in found}
