"""What others published, against the reference files where they lie beside the repository, and within itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bild.report.paper import DATA, kind_of_pair, overlay, paper, paper_table, reproduction, table1
from bild.report.sections import make_section
from tests.records import make_record, make_sweep

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
TASKS = ("iwslt2017", "wmt14", "xsum", "cnndm")
beside = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference files are not beside the repository")


def reference(start: str, end: str) -> str:
    text = (REFERENCE / "bild-algorithm.md").read_text(encoding="utf-8")
    return text[text.index(start) : text.index(end, text.index(start))]


def pairs(text: str, pattern: str = r"(\d*\.\d+):(\d+\.\d+)") -> list[list[float]]:
    return [[float(x), float(y)] for x, y in re.findall(pattern, text)]


def flat(curves: dict[str, dict[str, list[list[float]]]]) -> list[list[float]]:
    """In the order of the file, which is that of the reference."""
    return [point for task in curves.values() for points in task.values() for point in points]


@beside
def test_the_reproductions_table_is_the_reference_file() -> None:
    assert (DATA / "t4_reproduction.csv").read_bytes() == (REFERENCE / "t4_reproduction.csv").read_bytes()


@beside
def test_table_1_is_that_of_the_reference() -> None:
    lines = reference("Table 1; thresholds", "*Curves* of Fig. 4").splitlines()
    found = [line.strip("| ").split(" | ") for line in lines if line.startswith("|") and "---" not in line][1:]
    assert [line[0] for line in found] == [
        "vanilla",
        "unaligned, no loss",
        "unaligned, -1 point",
        "aligned, no loss",
        "aligned, -1 point",
    ]
    for column, task in enumerate(TASKS, start=1):
        rows = table1(task)
        assert [float(line[column].split()[0]) for line in found] == [row.score for row in rows]
        for line, row in zip(found[1:], rows[1:], strict=True):
            _, speedup, at = line[column].split()
            assert line[0] == f"{row.pair}, {row.pick}"
            assert float(speedup.rstrip("x")) == row.speedup
            assert [float(value) for value in at.strip("()").split(",")] == [row.rb, row.fb]


@beside
@pytest.mark.parametrize(
    ("figure", "start", "end"),
    [("fig4", "*Curves* of Fig. 4", "*Curves* of Fig. 5"), ("fig5", "*Curves* of Fig. 5", "*Curves* of Fig. 10")],
)
def test_the_curves_are_those_of_the_reference(figure: str, start: str, end: str) -> None:
    assert flat(paper()[figure]) == pairs(reference(start, end))


@beside
def test_fig_6_is_that_of_the_reference() -> None:
    text = reference("*Curves* (normalised latency, BLEU)", "Up to 1.60x")
    found = {
        task: {name: points for name, points in curves.items() if name != "vanilla"}
        for task, curves in paper()["fig6"].items()
    }
    assert flat(found) == pairs(text, r"\((\d*\.\d+), (\d+\.\d+)\)")
    assert [curves["vanilla"] for curves in paper()["fig6"].values()] == [
        float(score) for score in re.findall(r"vanilla (\d+\.\d+)", text)
    ]


@beside
def test_fig_10_is_that_of_the_reference() -> None:
    text = reference("*Curves* of Fig. 10", "Swept:")
    rows = paper()["fig10"]["xsum"]
    assert [point for row in rows.values() for point in row.values()] == pairs(text)
    assert list(rows) == [1, 2, 3, 4, 5, 6]
    assert all(list(row) == [0.3, 0.4, 0.5, 0.6] for row in rows.values())


def test_the_paper_agrees_with_itself() -> None:
    for task in TASKS:
        for row in table1(task)[1:]:
            curve = paper()["fig4"][task][row.pair]
            assert any(abs(x - row.speedup) < 0.011 and abs(y - row.score) < 0.011 for x, y in curve)


def test_the_reproduction_is_read_with_its_speedups() -> None:
    points = reproduction()
    assert len(points) == 150
    assert {point.speedup for point in points if point.pair == "vanilla"} == {1.0}
    (point,) = [p for p in points if (p.task, p.pair, p.fb, p.rb) == ("iwslt2017", "aligned", 0.9, 3.0)]
    assert point.speedup == pytest.approx(1203.5 / 894.3)
    assert point.scores == {"bleu": 40.089}


def test_an_overlay_is_for_the_papers_pairs_and_scores_only() -> None:
    found = overlay(make_record(pair__name="mt5-large-aligned"))
    assert found is not None
    assert (len(found.curve), len(found.picks), len(found.reproduced)) == (7, 2, 30)
    assert overlay(make_record()) is None
    assert overlay(make_record(pair__name="mt5-large", task__name="multi30k")) is None
    assert (kind_of_pair("t5-large"), kind_of_pair("t5-large-aligned"), kind_of_pair("x")) == (
        "unaligned",
        "aligned",
        None,
    )


def test_vanilla_has_a_row_beside_each_pair() -> None:
    names = ("mt5-large", "mt5-large-aligned")
    sections = [make_section(make_sweep(pair__name=name, task__name="iwslt2017")) for name in names]
    table = paper_table(sections)
    assert table is not None
    rows = [(row["pair"], row["point"]) for row in table.data if row["point"] == "vanilla"]
    assert rows == [("unaligned", "vanilla"), ("aligned", "vanilla")]
