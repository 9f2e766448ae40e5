"""Every command that documents, docstrings, messages and reports suggest is one that its verb takes.

One that measures is composed, with all that its task, pair, method and options refuse, and not run.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bild.cli.compose import check_all
from bild.cli.door import OWN, VERBS
from bild.cli.overrides import to_fields
from bild.cli.run import flags
from bild.errors import BildError
from bild.report.page.points import command_of
from bild.report.report import contents, make_contents
from bild.report.sections import make_section
from tests.cli.commands import REPOSITORY, call
from tests.records import make_record
from tests.test_docs import COMMAND, TEXTS

SUGGESTED = re.compile(
    r"(?:python -m bild\.|(?<=`)bild |(?<=Next: )bild |(?<=run: )bild )([a-z_-]+)"
    r"((?: +(?:-[mc]\b|--[a-z]+|'[^'\n]*'|[\w./+]+=(?:\[[^]\n]*\]|'[^'\n]*'|[^\s`,;:()'\[]*[^\s`,;:()'.\[])))*)"
)
OPEN = re.compile(r"\.\.\.|\{\}|/$|\b[A-Z]{2,}\b")
"""What stands for the reader's own: `task.path=CORPUS`, `task=...`, what an f-string fills in."""


def strings(path: Path) -> Iterator[str]:
    """The texts in a source, docstrings among them; what an f-string fills in is braces."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@cache
def suggested() -> dict[tuple[str, ...], str]:
    """Where each command stands, by (verb, *arguments) without the reader's own; each once."""
    found: dict[tuple[str, ...], str] = {}
    sources = sorted((REPOSITORY / "bild").rglob("*.py"))
    plain = [*TEXTS, *sorted((REPOSITORY / "conf").rglob("*.yaml"))]
    told = [(path, text) for path in sources for text in strings(path)]
    for path, text in [*told, *((path, path.read_text(encoding="utf-8")) for path in plain)]:
        for verb, rest in [*COMMAND.findall(text), *SUGGESTED.findall(text)]:
            words = [word for word in shlex.split(rest) if not OPEN.search(word)]
            found.setdefault((verb, *words), path.name)
    return found


def refusal(verb: str, words: list[str], cwd: Path) -> str | None:
    """Why a command would be refused; None where it would run."""
    if verb not in {*VERBS, *OWN}:
        return None if (REPOSITORY / "bild" / verb.replace(".", "/")).exists() else "no such verb"
    schema = VERBS[verb].load_schema() if verb in VERBS else None
    words = [] if "--from" in words else words[: words.index(">")] if ">" in words else words
    try:
        if schema is not None and words:  # else a verb is spoken of, not suggested
            asked = flags().parse_intermixed_args(words)
            check_all(to_fields(asked.overrides, schema), verb, schema, multirun=asked.multirun)
        elif verb in ("report", "claims", "export", "list"):
            done = call(VERBS[verb].module if verb in VERBS else "bild.cli.door", *words, cwd=cwd)
            return done.err if "unrecognized" in done.err or "usage" in done.err else None
    except BildError as error:
        return None if "is not installed: pip install" in str(error) else str(error)
    return None


def test_the_reader_of_hints_sees_them() -> None:
    assert ("run", "model=t5-large", "threshold.fb=0.6") in suggested()
    assert suggested()["bench", "shape=t5-large", "engine=[hf,fused]", "dtype=bf16"] == "__main__.py"


def test_every_suggested_command_composes(tmp_path: Path) -> None:
    wrong = {" ".join(each): why for each in suggested() if (why := refusal(each[0], list(each[1:]), tmp_path))}
    assert wrong == {}


def test_every_suggested_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M))
    told = [path.read_text(encoding="utf-8") for path in TEXTS]
    told += [text for path in sorted((REPOSITORY / "bild").rglob("*.py")) for text in strings(path)]
    named = {name for text in told for name in re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.M)}
    assert len(named) > 5
    assert named <= targets


def test_every_command_of_a_report_composes(tmp_path: Path) -> None:
    found = contents(REPOSITORY / "results" / "example")
    part, told = found.parts[0], {each.command for each in found.missing}
    told |= {each.command for each in part.missing}
    told |= {
        command
        for point in [*part.section.records, *part.sweeps.points[::40]]
        if (command := command_of(part.section, point))
    }
    told |= {part.section.command("sweep"), part.section.command("run", "-m", "threshold=rollback-only,fallback-only")}
    exit_ = make_section([make_record(pair__name="embedded-exit1", task__name="embedded", task__split="test")])
    told |= {each.command for each in make_contents([exit_], tmp_path).parts[0].missing}
    assert len(told) > 8
    wrong = {}
    for command in told:
        (
            *_,
            verb_,
        ) = command.split()[:3]
        words = shlex.split(command)[3:]
        if why := refusal(verb_.removeprefix("bild."), words, tmp_path):
            wrong[command] = why
    assert wrong == {}


def test_messages_say_fix_use_and_report_as_people_do() -> None:
    stilted, found = re.compile(r"\b(mend(s|ed)?|heed(s|ed)?|told|tells)\b"), []
    for path in sorted((REPOSITORY / "bild").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
        found += [node.value for node in texts if id(node) not in alone and stilted.search(node.value)]
    assert found == ["{task.fields[told]}"]  # a name
