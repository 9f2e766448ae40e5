"""The notebooks: stripped in git, executed on results, and one sentence where there are none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from bild.config import MethodConfig
from bild.errors import BildError
from bild.report.predictions import fastest, halves, threshold_table
from bild.results.codec import write_json
from bild.results.prices import PRICES
from bild.results.reading import find_results, find_tree
from bild.tree import open_tree
from tests.records import make_sweep
from tests.report.folders import put
from tests.report.page.test_page import PRICE_LIST
from tests.report.page.trees import usual_points, walkers, write_tree

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
FBS, RBS = (0.3, 0.6, 0.9), (1.0, 4.0, 10.0)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results/random/: measured points, and a tree with prices."""
    root = tmp_path_factory.mktemp("project")
    points = usual_points(MethodConfig("bild"), fbs=FBS, rbs=RBS)
    for record in make_sweep():
        folder = put(root / "results", record).parent
    made = write_tree(folder / "tree", walkers(6, points), make_sweep()[0].task.data["hash"])
    write_json(made / PRICES, PRICE_LIST)
    (root / "notebooks").mkdir()
    return root


def execute(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(REPOSITORY / "notebooks" / name, as_version=4)
    for cell in notebook.cells:  # of so few random texts, nothing less is shown
        cell.source = cell.source.replace("margin = 1.0", "margin = 100.0")
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def outputs(notebook: Any) -> str:
    return "\n".join(str(output) for cell in notebook.cells for output in cell.get("outputs", ()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stripped_and_holds_no_logic(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert not {"def ", "class ", "lambda", "import numpy"} & set(cell.source.split("\n"))
            assert len(cell.source.splitlines()) <= 9


@pytest.mark.slow
def test_pareto_shows_the_front_of_the_results(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = outputs(execute("pareto.ipynb", project / "notebooks", monkeypatch))
    assert "image/svg+xml" in shown
    assert "vanilla" in shown
    assert "BiLD 0.6/4" in shown


@pytest.mark.slow
def test_thresholds_chooses_a_setting(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = outputs(execute("thresholds.ipynb", project / "notebooks", monkeypatch))
    assert "6 examples of random" in shown
    assert "shown within 100" in shown
    assert "speedup" in shown


@pytest.mark.slow
def test_without_results_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CellExecutionError, match="There are no results to show: run one first, such as `make sweep`"):
        execute("pareto.ipynb", tmp_path, monkeypatch)


def test_results_are_found_from_below_and_the_example_comes_last(project: Path, tmp_path: Path) -> None:
    assert find_results(project / "notebooks") == project / "results"
    assert find_tree(project / "notebooks").parent.name == "tree"
    record = make_sweep()[0]
    put(tmp_path / "results" / "example", record)
    assert find_results(tmp_path) == tmp_path / "results" / "example"
    put(tmp_path / "results", record)
    assert find_results(tmp_path) == tmp_path / "results" / record.task.name
    with pytest.raises(BildError, match="no decision tree"):
        find_tree(tmp_path)


def test_where_ones_own_runs_have_no_tree_the_examples_is_taken(project: Path, tmp_path: Path) -> None:
    put(tmp_path / "results", make_sweep()[0])
    shutil.copytree(project / "results", tmp_path / "results" / "example")
    assert find_tree(tmp_path).is_relative_to(tmp_path / "results" / "example")


@pytest.mark.slow
def test_the_committed_example_replays_what_the_readme_and_the_notebook_ask_of_it() -> None:
    tree = open_tree(REPOSITORY / "results" / "example" / "embedded" / "embedded-bridge" / "tree")
    assert tree.replay(fb=0.2, rb=4, max_draft=24).seconds is not None
    assert len(threshold_table(tree)) >= 30


def test_the_table_of_thresholds_is_what_the_tree_replays(project: Path) -> None:
    tree = open_tree(find_tree(project))
    table = threshold_table(tree, FBS, (*RBS, 77.0))
    assert len(table) >= len(FBS) * len(RBS)
    row = table.query("fb == 0.6 and rb == 4").iloc[0]
    replay, vanilla = tree.replay(0.6, 4.0), tree.replay(method="vanilla")
    assert row.quality == pytest.approx(replay.quality.value)
    assert row.difference == pytest.approx(replay.quality.value - vanilla.quality.value)
    assert replay.seconds is not None
    assert vanilla.seconds is not None
    assert row.speedup == pytest.approx(vanilla.seconds.sum() / replay.seconds.sum())
    found = replay.difference(vanilla)
    assert (row.lower, row.upper) == pytest.approx((found.lower, found.upper))
    assert fastest(table, 100).speedup == table.speedup.max()
    safe, loose = fastest(table, 60.0), fastest(table, 60.0, by="difference")
    assert safe.lower >= -60.0
    assert loose.speedup >= safe.speedup
    with pytest.raises(BildError, match="No setting is shown to lose 1 points or less"):
        fastest(table.assign(lower=-5.0), 1.0)
    one, other = ({example.id for example in half.examples} for half in halves(tree))
    assert one.isdisjoint(other)
    assert one | other == {example.id for example in tree.examples}
    with pytest.raises(BildError, match="was not grown for any"):
        threshold_table(tree, (0.45,), (0.123,), max_draft=2, first="small")
