from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from bild.config import MethodConfig, ThresholdConfig
from bild.report import make_section
from bild.report.compare import difference_table
from bild.report.paper import paper_table
from bild.report.points import points_table
from bild.report.provenance import doubts, doubts_note, environment_table, signatures_table
from bild.report.table import Table, escape_latex, escape_markdown
from bild.results import Record
from bild.results.parts import SessionPace
from tests.records import SIGNATURE, make_record, make_sweep
from tests.report.sweeps import recorded

OURS = make_section(make_sweep(pair__name="mt5-large-aligned"))


def read(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv())))


def test_the_papers_table_has_ours_beside_it() -> None:
    table = paper_table([OURS])
    assert table is not None
    rows = {row[1:3]: row for row in table.rows}
    assert len(rows) == 5
    assert rows["aligned", "no loss"][4:13] == (
        "40.24", "40.09", "40.24 [39.33, 41.18]", "+0.00", "other rules",
        "1.62", "1.35", "1.620 [1.602, 1.638]", "+0.00",
    )  # fmt: skip
    assert rows["aligned", "vanilla"][7:9] == ("+0.01", "yes")
    assert rows["aligned", "-1 point"][-1] == "888 examples, rules=paper, fused fp32, NVIDIA T4, 4 cores"
    assert rows["unaligned", "no loss"][-1] == "not run: experiment=paper/iwslt2017-unaligned-rb2-fb0.6"
    assert rows["aligned", "vanilla"][6].startswith("40.33 [39.42, ")
    data = {(row["pair"], row["point"]): row for row in read(table)}
    assert float(data["aligned", "no loss"]["our_speedup"]) == 1.62
    assert data["unaligned", "no loss"]["our_score"] == ""
    assert "without a decoder cache" in " ".join(table.notes)


def test_every_experiment_that_the_table_names_is_there() -> None:
    sections = [make_section([make_record(task__name=task)]) for task in ("iwslt2017", "wmt14", "xsum", "cnndm")]
    table = paper_table(sections)
    assert table is not None
    names = [row[-1].partition("experiment=")[2] for row in table.rows]
    folder = Path(__file__).parents[2] / "conf" / "experiment"
    assert len(names) == 20
    assert all((folder / f"{name}.yaml").is_file() for name in names)


def test_a_task_that_the_paper_lacks_has_no_such_table() -> None:
    assert paper_table([make_section([make_record(task__name="embedded")])]) is None


def row_of(*records: Record) -> tuple[str, ...]:
    """The row of the aligned pair at no loss, of a section with these records besides vanilla."""
    table = paper_table([make_section([make_sweep(pair__name="mt5-large-aligned")[0], *records])])
    assert table is not None
    (row,) = [row for row in table.rows if row[1:3] == ("aligned", "no loss")]
    return row


def ours(**changes: Any) -> Record:
    at: dict[str, Any] = {"pair__name": "mt5-large-aligned", "threshold__fb": 0.9, "threshold__rb": 3.0}
    return make_record(**at | changes)


AUTHORS: dict[str, Any] = {
    "method": recorded(MethodConfig("bild", rules="authors"), ThresholdConfig(0.9, 3.0)).method,
    "quality__scores__bleu__value": 40.2,
}


def test_the_authors_rules_stand_for_the_paper_before_ours() -> None:
    row = row_of(ours(), ours(**AUTHORS))
    assert "rules=authors" in row[-1]
    assert row[7:9] == ("−0.04", "yes")
    assert row_of(ours(**AUTHORS | {"quality__scores__bleu__value": 40.0}))[8] == "no"


@pytest.mark.parametrize(
    "change", [{"method__first": "small"}, {"method__unsure": "verify"}, {"method__max_draft": 12}]
)
def test_a_point_with_another_switch_does_not_stand_for_the_papers(change: dict[str, Any]) -> None:
    assert row_of(ours(**change))[-1].startswith("not run: ")


def test_nothing_is_expected_of_a_part_of_the_examples() -> None:
    row = row_of(ours(**AUTHORS, latency__examples=80))
    assert row[8] == "yes"
    assert "888 examples, 80 timed" in row[-1]
    section = make_section([ours(**AUTHORS, quality__examples=100)])
    table = paper_table([section])
    assert table is not None
    assert "other examples" in {row[8] for row in table.rows}


def test_all_points_with_their_marks_as_text_and_as_numbers() -> None:
    records = make_sweep()
    records[4] = make_record(threshold__fb=0.11, environment__git={"sha": "feed5" * 8, "dirty": True}, created="2024")
    section = make_section(records)
    table = points_table(section)
    assert len(table.rows) == len(records)
    (row,) = [row for row in table.rows if row[1] == "BiLD 0.11/2"]
    assert row[0].endswith("†")
    assert row[-1] == (
        "dirty: measured with uncommitted changes; stale: measured at feed5feed5, the newest point at 4f2a9c1d0b"
    )
    (data,) = [row for row in read(table) if row["label"] == "BiLD 0.11/2"]
    assert (data["speedup"], data["fb"]) == ("1.6", "0.11")
    assert doubts_note(section.records) == "† 1 point: dirty, stale; see the table."
    assert not any(doubts(make_sweep()).values())


def test_drift_load_and_sessions_are_marked() -> None:
    record = make_record(
        latency__stationarity__warning="slower",
        latency__stationarity__drift=0.2,
        environment__busy="x",
        sessions=2,
        latency__sessions=[],
    )
    assert doubts([record])[record.hash] == (
        "drift: the baseline's pace changed by +20 %",
        "busy: the machine had other work when the run began",
        "resumed: 2 sessions, which its interval does not hold",
    )
    off = SessionPace(2, 40, 9.0, 1.6, 1.3, 0.4, note="its pace was 30 % off")
    apart = make_record(sessions=2, latency__sessions=[off])
    assert doubts([apart])[apart.hash] == ("session 2: its pace was 30 % off",)


def test_environment_and_signatures() -> None:
    section = make_section(make_sweep())
    environment = dict(environment_table(section).rows)
    assert environment["machine.name"] == "NVIDIA T4, 4 cores"
    assert environment["packages.torch"] == "2.13.0"
    assert signatures_table(section).rows == (("BLEU", SIGNATURE),)


def test_what_differs_is_told_field_by_field() -> None:
    sections = [make_section([make_record()]), make_section([make_record(engine__dtype="fp16", engine__threads=4)])]
    table = difference_table(sections, ["a", "b"])
    assert table is not None
    assert table.rows == (("engine.dtype", "fp32", "fp16"), ("engine.threads", "1", "4"))
    assert difference_table(sections[:1]) is None


NASTY = r"50% of a_b & {c} #1 $x$ ~^\ <b> ±1 × ∞ −2 “q” Δ 漢"


def test_latex_compiles_safely() -> None:
    text = escape_latex(NASTY)
    bare = re.sub(r"\\[a-zA-Z]+\{\}|\\[&%$#_{}]|\$\\[a-zA-Z]+\$|\$-\$", "", text)
    assert not re.search(r"[&%$#_{}~^\\<>]", bare)
    assert text.isascii()
    table = Table("t", NASTY, ("a", NASTY), ((NASTY, "1"),), (NASTY,)).latex()
    assert table.count("{") - table.count(r"\{") == table.count("}") - table.count(r"\}")
    assert [line for line in table.splitlines() if line.endswith(r"\\")][1].count(" & ") == 1
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in table


def test_markdown_shows_text_as_it_is() -> None:
    assert escape_markdown("a|b*c_<d>\n[e]") == r"a\|b\*c\_\<d\> \[e\]"
    assert Table("t", "x", ("a", "b"), (("1|2", "3"),)).markdown().splitlines()[-1] == r"| 1\|2 | 3 |"


def test_every_row_has_a_cell_a_column() -> None:
    for table in (points_table(OURS), environment_table(OURS), signatures_table(OURS), paper_table([OURS])):
        assert table is not None
        assert {len(row) for row in table.rows} == {len(table.headings)}


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv"])
def test_the_same_text_twice(kind: str) -> None:
    assert getattr(points_table(OURS), kind)() == getattr(points_table(OURS), kind)()
