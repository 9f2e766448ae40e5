"""Who may import whom (`docs/design.md`), read from the sources; and what an import really takes along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "bild"
MODULES = sorted(path.relative_to(REPOSITORY) for path in PACKAGE.rglob("*.py"))
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())

# Which rooms of the package a room may use, at the top of a file or inside a function; command lines (`__main__`) may
# use all. `config`, `errors` and `hub` are modules that every room may use.
MAY_USE: dict[str, set[str]] = {
    "decoding": set(),
    "engines": set(),
    "models": {"engines", "results"},
    "tasks": {"results", "metrics"},
    "metrics": {"results"},
    "results": set(),
    "report": {"results", "decoding", "metrics", "tree"},
    "cli": {"decoding"},
    "measure": {"decoding", "engines", "models", "tasks", "metrics", "results"},
    "bench": {"measure", "decoding", "engines", "models", "tasks", "metrics", "results"},
    "training": {"measure", "engines", "models", "tasks", "metrics", "results"},
    "check": {"decoding", "engines", "models", "tasks", "results", "measure", "bench", "tree", "training"},
    "tree": {"decoding", "engines", "models", "tasks", "metrics", "results", "measure.live"},
    "sweep": {"decoding", "engines", "models", "tasks", "metrics", "results", "measure", "bench", "tree", "report"},
}
LONG_FILES = {"engines/t5.py", "models/checkpoint.py", "results/parts.py"}
LONG_FUNCTIONS = {"report/layout.py:open_frame"}
"""The few that are longer than the 300 lines of a file, or the 60 of a function."""
COMMON = {"config", "errors", "hub", "options", "progress"}
WITHOUT_TORCH = ("decoding", "results", "report", "tasks", "metrics")
HEAVY = {"torch", "transformers", "numpy", "pandas", "hydra", "omegaconf", "matplotlib", "datasets"}


@cache
def imports(module: Path) -> frozenset[str]:
    """Dotted names of all that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((REPOSITORY / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def outside(module: Path) -> set[str]:
    """Names of the packages that a file imports."""
    return {name.partition(".")[0] for name in imports(module)}


def used(module: Path) -> set[str]:
    """Return what a file imports of the package, without the package's name."""
    return {name.removeprefix("bild.") for name in imports(module) if name.startswith("bild.")}


def is_of(name: str, places: set[str]) -> bool:
    """Tell whether a dotted name is one of these rooms or modules, or in one of them."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def dotted(module: Path) -> str:
    """Return a file's name as a statement imports it."""
    return ".".join(module.parts[:-1] if module.name == "__init__.py" else module.with_suffix("").parts)


def at_the_top(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements outside functions, those for the type checker alone among them."""
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody"):
                yield from at_the_top(getattr(statement, part, []))


def import_graph() -> dict[str, set[str]]:
    """Return for each module the modules that it names at its top.

    That the packages above a named module run first is left out: an `__init__` that gathers its files is no cycle, but
    a file that imports from its own package's `__init__` is one.
    """
    names = {dotted(module) for module in MODULES}
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        found: set[str] = set()
        for statement in at_the_top(ast.parse((REPOSITORY / module).read_text(encoding="utf-8")).body):
            if isinstance(statement, ast.Import):
                found |= {alias.name for alias in statement.names}
            else:
                parts = {f"{statement.module}.{alias.name}" for alias in statement.names}
                found |= {part if part in names else str(statement.module) for part in parts}
        graph[dotted(module)] = found & names
    return graph


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return the names around one cycle of a graph, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def modules_of(room: str) -> list[Path]:
    return [module for module in MODULES if module.parts[1] == room]


def all_of(*rooms: str) -> str:
    """A statement that imports every module of some rooms."""
    names = [".".join(module.with_suffix("").parts) for room in rooms for module in modules_of(room)]
    return f"import {', '.join(names)}"


def test_the_reader_of_imports_sees_them() -> None:
    assert {"torch", "bild.errors.BildError"} <= imports(Path("bild/models/loading.py"))
    assert "transformers.AutoTokenizer" in imports(Path("bild/models/pair_spec.py"))  # inside a function
    assert {"models", "decoding.policy_for"} <= used(Path("bild/measure/interleave.py"))
    assert is_of("measure.live.Run", {"measure.live"})
    assert not is_of("measure.lively", {"measure.live"})


@pytest.mark.parametrize("room", MAY_USE)
def test_a_room_uses_the_rooms_that_it_may(room: str) -> None:
    assert modules_of(room)
    for module in modules_of(room):
        beyond = {name for name in used(module) if not is_of(name, MAY_USE[room] | COMMON | {room, "__version__"})}
        assert module.name == "__main__.py" or not beyond, f"{module} imports {beyond}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = import_graph()
    assert "bild.decoding.methods" in graph["bild.decoding"]
    assert "bild.errors" in graph["bild.models.loading"]
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}}) in (list("abca"), list("acba"))
    assert cycle_in(graph) == []


def test_a_part_of_a_room_is_used_by_one_exception_only() -> None:
    assert {(room, name) for room, names in MAY_USE.items() for name in names if "." in name} == {
        ("tree", "measure.live")
    }


def test_a_file_fits_a_sitting_and_a_function_a_screen() -> None:
    files: dict[str, int] = {}
    functions: dict[str, int] = {}
    for module in MODULES:
        text, name = (REPOSITORY / module).read_text(encoding="utf-8"), module.relative_to("bild").as_posix()
        files[name] = text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions[f"{name}:{node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    assert {name for name, lines in files.items() if lines > 300} <= LONG_FILES
    assert {name for name, lines in functions.items() if lines > 60} <= LONG_FUNCTIONS
    assert max(files.values()) <= 400


def test_the_rooms_of_the_documentation_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `bild/(\w+)/` \| ([^|]*) \|", (REPOSITORY / "docs" / "design.md").read_text(), re.M)
    assert {room for room, _ in rows} == set(ROOMS)
    for room, about in rows:
        names = {path.stem for path in (PACKAGE / room).iterdir()}
        assert set(re.findall(r"`(\w+)`", about)) <= {*names, "bild"}, f"{room} has no longer all that its row names"


def test_docstrings_of_functions_say_what_they_do() -> None:
    """A docstring begins with a verb; a property's may name the thing."""
    fragments = re.compile(r"(What|How|Whether|Of|Where|When|Which|The|All|Its)\b|[(\[{`]")
    found = []
    for module in MODULES:
        for node in ast.walk(ast.parse((REPOSITORY / module).read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.FunctionDef)
                and not node.name.startswith("_")
                and (text := ast.get_docstring(node))
            ):
                is_property = any("property" in ast.unparse(each) for each in node.decorator_list)
                found += [f"{module}: {node.name}: {text}"] if fragments.match(text) and not is_property else []
    assert found == []


def test_tests_lie_in_the_folder_of_the_room_that_they_test() -> None:
    folders = {path.parent.name for path in (REPOSITORY / "tests").glob("*/test_*.py")}
    assert folders - {"golden"} == set(ROOMS)


def test_every_room_has_its_rule() -> None:
    assert set(ROOMS) == set(MAY_USE)


def test_engines_and_decoding_do_not_know_each_other() -> None:
    for room, other in (("engines", "decoding"), ("decoding", "engines")):
        for module in modules_of(room):
            assert not any(is_of(name, {other}) for name in used(module)), module


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_room_without_torch_imports_none(room: str) -> None:
    for module in modules_of(room):
        assert not outside(module) & {"torch", "transformers"}, module


def test_reading_and_replaying_trees_takes_no_torch_along() -> None:
    script = "import bild.tree, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "hydra"} & set(done.stdout.split())


def test_only_command_lines_at_the_top_know_hydra() -> None:
    knowing = {module for module in MODULES if outside(module) & {"hydra", "omegaconf"}}
    cli = set(modules_of("cli"))
    assert knowing & cli
    assert {module for module in knowing - cli if len(module.parts) > 2} == set()
    # `bild.api` is a door like a command line: it takes the name of a pair, for which `cli` knows the checkpoints.
    commands = {module for module in MODULES if "bild.cli" in imports(module)} - {Path("bild/api.py")}
    for module in (knowing | commands) - cli:
        assert 'if __name__ == "__main__":' in (REPOSITORY / module).read_text(), f"{module} is no command line"


def test_only_command_lines_read_the_configuration_folder() -> None:
    # A point's configuration is written as YAML, and the paper's figures are YAML: neither is an option.
    assert {module.parts[1] for module in MODULES if "yaml" in outside(module)} <= {"results", "report"}
    for module in MODULES:
        if {"cli.conf_dir", "cli.overrides.conf_dir"} & used(module):
            assert module.parts[1] == "cli" or module.name == "__main__.py" or len(module.parts) == 2, module


def test_decoding_does_no_input_and_output() -> None:
    standard = {name for module in modules_of("decoding") for name in outside(module)}
    assert standard <= {"__future__", "bild", "collections", "dataclasses", "functools", "math", "re", "typing"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import bild", HEAVY),
        pytest.param("import bild.api", {"hydra", "omegaconf"}, marks=pytest.mark.slow),  # takes torch along
        (all_of("decoding", "results", "report"), HEAVY),
        ("import bild.tasks, bild.metrics", {"torch", "transformers", "hydra"}),
        ("import bild.run, bild.demo, bild.doctor, bild.cli.door", {"torch", "transformers"}),
    ],
)
def test_what_an_import_takes_along(statement: str, absent: set[str]) -> None:
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "bild" in loaded
    assert not loaded & absent
