from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.report import contents, make_section, write_report
from bild.report.__main__ import main
from bild.report.compare import alike, like_points, ratio
from bild.report.table import write_text
from bild.results import Interval
from bild.results.parts import Decode
from tests.records import make_record, make_sweep
from tests.report.folders import put

OTHER = {"environment__machine": {"fingerprint": "77", "name": "NVIDIA H200"}, "engine__dtype": "bf16"}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for record in make_sweep()[:5]:
        put(tmp_path / "one", record)
    for record in make_sweep(**OTHER)[1:7]:
        put(tmp_path / "two", record)
    return tmp_path / "one", tmp_path / "two"


def test_seeds_are_sections_of_their_own_and_one_row_of_a_table(tmp_path: Path) -> None:
    scores = (30.0, 32.0, 31.0)
    for seed, score in enumerate(scores):
        drawn = {"decode": Decode(0.8, 1.0, seed), "latency__speedup__total": Interval(1.5 + seed / 10, 1.2, 2.0)}
        record = make_record(**drawn, hash=f"{seed}" * 64)
        name = record.quality.headline
        own = dataclasses.replace(record.quality.scores[name], value=score)
        record = dataclasses.replace(record, quality=dataclasses.replace(record.quality, scores={name: own}))
        put(tmp_path, record)
    put(tmp_path, make_record())
    found = contents(tmp_path)
    assert len(found.parts) == 4
    assert sum("sampled: top_p 0.8, temperature 1, seed" in part.section.title for part in found.parts) == 3
    (table,) = (table for table in found.tables if table.stem == "seeds")
    (row,) = table.data
    half = 4.302653 / math.sqrt(3)  # Student's t of two degrees of freedom, and the scores' deviation of 1
    assert (row["seeds"], row["score"], row["score_low"]) == (3, pytest.approx(31), pytest.approx(31 - half, abs=1e-4))
    assert row["speedup"] == pytest.approx((1.5 * 1.6 * 1.7) ** (1 / 3))
    command = next(part.section for part in found.parts if part.section.first.decode).command("run")
    assert "decode.sample=true decode.top_p=0.8 decode.temperature=1.0 decode.seed=" in command


def test_two_folders_stand_side_by_side_and_never_on_one_front(folders: tuple[Path, Path]) -> None:
    found = contents(*folders).comparison
    assert found is not None
    (side,) = found.sides
    assert (len(side.left.records), len(side.right.records)) == (5, 6)
    figure = side.sheet.draw()
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert "separate fronts" in " ".join(text.get_text() for text in figure.texts)
    ratios, differs = side.tables
    assert len(ratios.rows) == 4  # small, speculative and two of BiLD are on both
    assert ("engine.dtype", "fp32", "bf16") in differs.rows
    assert "3 points have no like one" in ratios.notes[-1]


@pytest.mark.slow
def test_the_command_writes_both(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bild.report.report.VARIANTS", (("", "light", "print", ("svg",)),))
    one, two = folders
    assert main([str(one), "--compare", str(two), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "### Ratios of like points: " in text
    assert (tmp_path / "out" / "figures" / "side-by-side.svg").is_file()
    assert (tmp_path / "out" / "tables" / "side-by-side.tex").is_file()


def test_folders_without_anything_alike_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    put(tmp_path / "three", make_record(task__name="xsum"))
    with pytest.raises(BildError, match="nothing to lay side by side"):
        contents(folders[0], tmp_path / "three")


def test_other_weights_or_examples_are_not_alike() -> None:
    assert alike(make_record(), make_record(**OTHER))
    assert not alike(make_record(), make_record(pair__large__fingerprint="x"))
    assert not alike(make_record(), make_record(quality__examples=100))
    left, right = make_section(make_sweep()), make_section(make_sweep(method__max_draft=4))
    assert [one.label for one, _ in like_points(left, right)] == []


def test_a_ratio_of_two_intervals() -> None:
    found = ratio(Interval(3.0, 2.7, 3.3), Interval(2.0, 2.0, 2.0))
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.35, 1.65))
    both = ratio(Interval(1.0, 0.9, 1.1), Interval(1.0, 0.9, 1.1))
    assert both.high == pytest.approx(math.exp(math.hypot(math.log(1.1), math.log(1 / 0.9))))


def test_sections_of_one_title_are_headed_by_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bild.report.figure.Sheet.save", lambda *_: [])
    monkeypatch.setattr("bild.report.page.write_page", lambda _, out: write_text(out / "index.html", ""))
    for name in "ab":
        put(tmp_path / "results", make_record(pair__large__fingerprint=16 * name, hash=64 * name))
    written = write_report(tmp_path / "results", tmp_path / "out").text
    assert written is not None
    headings = [line for line in written.read_text().splitlines() if line.startswith("## ") and ", pair " in line]
    assert len(headings) == len({*headings}) == 2
    assert headings[0].endswith("-1)")
