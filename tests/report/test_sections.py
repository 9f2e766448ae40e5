from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bild.errors import BildError
from bild.report import find_sections, make_section
from bild.results import Record
from bild.results.record import to_json
from tests.records import make_record, make_sweep


def put(root: Path, records: list[Record]) -> Path:
    for index, record in enumerate(records):
        folder = root / f"point{index:02}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(to_json(record), encoding="utf-8")
    return root


def test_anchors_come_first_and_the_rest_from_fast_to_slow() -> None:
    section = make_section(make_sweep()[::-1])
    assert [record.method.name for record in section.records[:2]] == ["vanilla", "small"]
    speeds = [record.latency.speedup.total.value for record in section.records[2:]]
    assert speeds == sorted(speeds, reverse=True)
    assert section.vanilla() is section.records[0]


def test_what_may_not_be_compared_is_refused_by_name() -> None:
    records = [make_record(), make_record(engine__dtype="fp16", engine__threads=4)]
    with pytest.raises(BildError) as caught:
        make_section(records)
    assert "differ in engine.dtype (fp32 and fp16), engine.threads (1 and 4)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_list_of_differences_is_cut() -> None:
    other = make_record(
        engine__dtype="fp16",
        engine__threads=4,
        engine__device="cpu",
        engine__name="hf",
        task__prompt="x",
        task__split="y",
    )
    with pytest.raises(BildError, match="and 2 more: report them apart"):
        make_section([make_record(), other])


def test_no_record_is_no_section() -> None:
    with pytest.raises(BildError, match="no record"):
        make_section([])


def test_points_that_may_not_be_compared_fall_into_sections(tmp_path: Path) -> None:
    put(tmp_path, [*make_sweep(engine__dtype="fp16"), *make_sweep(), make_record(task__name="wmt14")])
    sections, skipped = find_sections(tmp_path)
    assert skipped == []
    assert [len(section.records) for section in sections] == [13, 13, 1]
    assert [section.first.engine.dtype for section in sections] == ["fp16", "fp32", "fp32"]
    assert sections[2].title == "wmt14 (validation), pair mt5-aligned, BLEU"


def test_of_the_same_point_twice_the_newer_one_stays(tmp_path: Path) -> None:
    old, new = make_record(created="2025-01-01T00:00:00"), make_record(created="2025-02-01T00:00:00", seconds=1.0)
    put(tmp_path, [old, new, dataclasses.replace(old, created="2024-01-01T00:00:00")])
    (section,), skipped = find_sections(tmp_path)
    assert section.records == (new,)
    assert [item.path.name for item in skipped] == ["point00", "point02"]
    assert all("point01" in item.why for item in skipped)


def test_the_same_settings_on_two_machines_are_two_points(tmp_path: Path) -> None:
    put(tmp_path, [make_record(), make_record(environment__machine__fingerprint="other")])
    sections, skipped = find_sections(tmp_path)
    assert (len(sections), skipped) == (2, [])


def test_a_folder_without_a_finished_point_says_why(tmp_path: Path) -> None:
    with pytest.raises(BildError, match="holds no finished point: finish a run"):
        find_sections(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("")
    with pytest.raises(BildError, match=r"holds no finished point .*begun: unfinished"):
        find_sections(tmp_path)


def test_names_that_are_shared_are_told_apart_by_the_hash() -> None:
    one, other = make_record(hash="a1b2c3d4"), make_record(hash="ffeeddcc", method__scan="all")
    assert list(make_section([one, other]).names.values()) == ["BiLD 0.6/2 #a1b2c3", "BiLD 0.6/2 #ffeedd"]
    assert list(make_section([one]).names.values()) == ["BiLD 0.6/2"]
