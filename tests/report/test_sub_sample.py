"""Quality of all examples of a tree beside the speed of the few that were timed: report, tables, page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bild.config import MethodConfig, ThresholdConfig
from bild.report import Contents, contents
from bild.report.figures.front import front_sheet
from bild.report.figures.methods import methods_sheet, methods_table
from bild.report.format import key_of
from bild.report.page import page_data
from bild.report.points import points_table
from bild.report.sections import Section, find_sections
from bild.results import Record, frame
from bild.results.codec import dumps
from bild.results.predicted import LEDGER, LedgerEntry, MethodChoice
from bild.sweep.grid import SweptPoint
from tests.records import make_record, make_sweep
from tests.report.folders import put
from tests.report.page.trees import usual_points, walkers, write_tree
from tests.report.sweeps import guess, put_sweep

JUDGED, TIMED = 24, 6


def swept() -> list[Record]:
    """Points as a sweep leaves them: judged on all examples of its tree, timed on some."""
    changes: dict[str, Any] = {"quality__origin": "tree", "quality__settled": 2, "task__data__hash": "ee" * 32}
    return make_sweep(**changes, quality__examples=JUDGED, latency__examples=TIMED, counts__examples=TIMED)


@pytest.fixture
def found(tmp_path: Path) -> Contents:
    records = swept()
    for record in records:
        pair = put(tmp_path / "results", record).parent
    points = usual_points(MethodConfig("bild"), fbs=(0.3, 0.6), rbs=(2.0, math.inf))
    tree = write_tree(pair / "tree", walkers(JUDGED, points), records[0].quality.data)
    guesses = [guess(threshold.fb, threshold.rb) for _, threshold in points]  # type: ignore[arg-type]
    put_sweep(pair, "a", "2026-01-01T00:00:00+00:00", guesses, tree.name + "0" * 54, JUDGED)
    return contents(tmp_path / "results")


def test_predictions_and_replay_stay_with_points_that_were_timed_on_fewer(found: Contents) -> None:
    (part,) = found.parts
    assert found.left_out == ()
    assert len(part.sweeps.points) == 4
    assert {"pareto", "heat", "predicted"} <= {sheet.stem for sheet in part.sheets}
    (section,) = page_data(found.parts, found.left_out)["sections"]
    assert section["missing"] == ""
    assert len(section["sample"]["examples"]) == JUDGED
    assert {(point["examples"], point["timed"]) for point in section["points"] if point["measured"]} == {(24, 6)}
    assert {point["timed"] for point in section["points"] if not point["measured"]} == {0}


@pytest.mark.slow
def test_every_place_tells_both_counts(found: Contents) -> None:
    (part,) = found.parts
    (points,) = (table for table in part.tables if table.stem == "points")
    text = points.markdown()
    assert "BLEU n=24" in text
    assert "speedup n=6" in text
    assert "24 examples, replayed in the decision tree (2 within rounding: decided by a live decoding)" in text
    assert "6 timed examples" in text
    for sheet in part.sheets:
        words = " ".join(each.get_text() for each in sheet.draw().texts).replace("\n", " ")
        assert ("n = 6 timed" if sheet.stem == "predicted" else "24 examples, 6 timed") in words
    conditions = page_data(found.parts, found.left_out)["sections"][0]["conditions"]
    assert "24 examples, 6 timed" in conditions
    table = frame(found.root)
    assert set(zip(table["judged"], table["examples"], strict=True)) == {(24, 6)}


def write_ledger(root: Path, *looks: LedgerEntry) -> Section:
    """The section of a sweep with these confirmations beside its points; the last line is torn, as a kill leaves it."""
    for record in swept():
        pair = put(root, record).parent
    lines = [dumps(dataclasses.asdict(look)).replace("\n", "") for look in looks]
    (pair / LEDGER).write_text("\n".join([*lines, '{"torn']), encoding="utf-8")
    (section,), _ = find_sections(root)
    return section


def look_at(records: Sequence[Record], judged: str | None = None) -> LedgerEntry:
    keys = [key for record in records if (key := key_of(record))]
    data = judged or records[0].quality.data
    return LedgerEntry("ab" * 32, "validation", keys, [record.label for record in records], 0.5, "2026-01-01", data)


def test_what_was_confirmed_stands_out_and_is_picked_first(tmp_path: Path) -> None:
    (chosen,) = (record for record in swept() if (record.threshold.fb, record.threshold.rb) == (0.9, 3.0))
    section = write_ledger(tmp_path, look_at([chosen]), look_at(swept(), judged="other examples"))
    assert [record.label for record in section.records if section.confirmed(record)] == ["BiLD 0.9/3"]
    assert section.told(section.pick) == "BiLD 0.9/3 (1.62 ±0.02×, confirmed)"  # though 0.8/3 is faster
    assert "0.9/3 ✓" in [text.get_text() for text in front_sheet(section).draw().axes[0].texts]
    assert "✓ confirmed on examples that it was not chosen on" in " ".join(points_table(section).notes)


def test_points_that_were_confirmed_together_are_judged_together(tmp_path: Path) -> None:
    several = [record for record in swept() if record.method.name == "bild"]
    section = write_ledger(tmp_path, look_at(several))
    rules = {found.rule for record in several if (found := section.verdicts.get(record.hash))}
    assert rules == {f"one-sided end, Holm over {len(several)}"}


def test_the_key_of_a_record_is_that_of_its_setting() -> None:
    for method, threshold in (
        (MethodConfig("bild"), ThresholdConfig(0.6, 2.0)),
        (MethodConfig("vanilla"), ThresholdConfig()),
    ):
        own, values = SweptPoint(method, threshold, "grid").recorded()
        assert key_of(make_record(method=own, threshold=values)) == SweptPoint(method, threshold, "grid").key


def test_which_method_pays_is_a_table_and_a_figure(tmp_path: Path) -> None:
    by_label = {record.label: record for record in swept()}
    quick, safe, exact = (by_label[name] for name in ("BiLD 0.6/5", "BiLD 0.9/3", "speculative k10"))
    choices = [
        MethodChoice("bild", 1.0, key_of(quick), -0.9, 1.8),
        MethodChoice("bild", 0.5, key_of(safe), -0.4, 1.6),
        MethodChoice("bild", 0.0),
        MethodChoice("speculative", 0.0, key_of(exact), 0.0, 1.2, exact=True),
    ]
    section = write_ledger(tmp_path, dataclasses.replace(look_at([quick, safe, exact]), choices=choices))
    table = methods_table(section)
    assert table is not None
    assert [row[:3] for row in table.rows] == [
        ("BiLD", "0", "–"),
        ("BiLD", "0.5", "BiLD 0.9/3"),
        ("BiLD", "1", "BiLD 0.6/5"),
        ("speculative", "any", "speculative k10"),
    ]
    assert [row[5] for row in table.rows] == ["no setting keeps it", "shown", "refuted", "exact: 24 texts equal"]
    assert "Holm over 3" in " ".join(table.notes)
    sheet = methods_sheet(section)
    assert sheet is not None
    for width in ("print", "phone"):
        names = [label.get_text() for label in sheet.draw(width=width).axes[0].get_yticklabels()]
        assert names == ["speculative", "BiLD"]  # the fastest above
    assert methods_table(write_ledger(tmp_path, look_at([quick]))) is None
