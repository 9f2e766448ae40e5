from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bild.errors import BildError
from bild.results import (
    SCHEMA_VERSION,
    Method,
    Record,
    Threshold,
    comparable,
    find_records,
    frame,
    identity,
    read_samples,
    read_traces,
    to_frame,
)
from bild.results.predicted import find_predicted
from bild.results.reading import to_row
from bild.results.record import from_json, to_json
from tests.records import make_record, make_sweep


def put(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(text, encoding="utf-8")
    return folder


def test_every_point_is_found_and_every_other_folder_named_with_a_reason(tmp_path: Path) -> None:
    one, two = make_record(), make_record(threshold__rb=math.inf)
    put(tmp_path / "b" / "pair" / "one", to_json(one))
    put(tmp_path / "a" / "pair" / "two", to_json(two))
    put(tmp_path / "new", json.dumps({"schema": 7}))
    put(tmp_path / "torn", to_json(one)[:200])
    put(tmp_path / "nan", to_json(one).replace("431.0", "NaN"))
    for name, file in (("begun", "config.yaml"), ("half", "samples.jsonl")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("")
    (tmp_path / "unrelated").mkdir()
    (tmp_path / "unrelated" / "notes.txt").write_text("")
    points, skipped = find_records(tmp_path)
    assert [(point.path.name, point.record) for point in points] == [("two", two), ("one", one)]
    why = {item.path.name: item.why for item in skipped}
    assert set(why) == {"new", "torn", "nan", "begun", "half"}
    assert "schema version 7" in why["new"]
    assert "not valid JSON" in why["torn"]
    assert "NaN" in why["nan"]
    assert why["begun"] == why["half"] == "unfinished: it has no record.json yet"


def test_a_point_is_found_when_its_own_folder_is_given(tmp_path: Path) -> None:
    put(tmp_path / "one", to_json(make_record()))
    assert [point.path for point in find_records(tmp_path / "one")[0]] == [tmp_path / "one"]


def test_a_folder_without_points_is_empty_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    assert find_records(tmp_path) == ([], [])
    with pytest.raises(BildError, match=r"results folder .*nowhere does not exist"):
        find_records(tmp_path / "nowhere")


DIFFERENT: list[tuple[str, Any, str]] = [
    ("environment__machine__fingerprint", "other", "environment.machine"),
    ("environment__packages__torch", "2.6.0", "environment.packages.torch"),
    ("environment__packages__bild-bench", "0.2.0", "environment.packages.bild-bench"),
    ("environment__python", "3.12.1", "environment.python"),
    ("engine__name", "hf", "engine.name"),
    ("engine__dtype", "fp16", "engine.dtype"),
    ("engine__device", "cpu", "engine.device"),
    ("engine__threads", 2, "engine.threads"),
    ("task__name", "wmt14", "task.name"),
    ("task__split", "test", "task.split"),
    ("task__prompt", "translate: ", "task.prompt"),
    ("task__source_limit", 512, "task.source_limit"),
    ("task__target_limit", 64, "task.target_limit"),
    ("quality__data", "ff" * 32, "quality.data"),
    ("quality__examples", 100, "quality.examples"),
    ("pair__large__fingerprint", "other", "pair.large.fingerprint"),
    ("pair__small__fingerprint", "other", "pair.small.fingerprint"),
    ("intervals__confidence", 0.9, "intervals.confidence"),
]


@pytest.mark.parametrize(("field", "value", "named"), DIFFERENT)
def test_what_forbids_a_comparison_is_named(field: str, value: Any, named: str) -> None:
    one, other = make_record(), make_record(**{field: value})
    assert comparable(one, other) == [named]
    assert comparable(other, one) == [named]


def test_another_signature_forbids_a_comparison() -> None:
    one = make_record()
    score = dataclasses.replace(one.headline, signature="tok:none")
    other = make_record(quality__scores={"bleu": score})
    assert comparable(one, other) == ["quality.signature"]


def test_all_differences_are_named() -> None:
    other = make_record(engine__dtype="fp16", engine__device="cpu", environment__machine__fingerprint="other")
    assert comparable(make_record(), other) == ["engine.dtype", "engine.device", "environment.machine"]


def test_a_package_that_only_one_of_them_had_forbids_a_comparison() -> None:
    packages = {**make_record().environment["packages"], "triton": "3.2"}
    assert comparable(make_record(), make_record(environment__packages=packages)) == ["environment.packages.triton"]


@pytest.mark.parametrize(
    "changes",
    [
        {"environment__packages__matplotlib": "3.9"},
        {"environment__load": 3.0},
        {"environment__git__sha": "another"},
        {"environment__machine__name": "the same under another name"},
        {"threshold__fb": 0.9, "latency__speedup__total__value": 3.0, "created": "2026-01-01", "sessions": 3},
        {"method__name": "speculative", "quality__difference": None, "intervals__confidence": 0.95},
    ],
)
def test_what_may_differ(changes: dict[str, Any]) -> None:
    assert comparable(make_record(), make_record(**changes)) == []


def test_a_sweep_may_be_compared_with_itself() -> None:
    records = make_sweep()
    assert all(comparable(records[0], record) == [] for record in records)
    assert identity(records[0]) == identity(records[-1])


def test_a_frame_has_one_row_a_point_with_units_in_its_names(tmp_path: Path) -> None:
    records = make_sweep()
    table = to_frame(records)
    assert len(table) == len(records)
    assert table["label"].tolist() == [record.label for record in records]
    row = table[table["label"] == "BiLD 0.6/4"].iloc[0]
    assert (row["fb"], row["rb"], row["method"], row["examples"]) == (0.6, 4.0, "bild", 888)
    assert (row["speedup"], row["quality"], row["metric"]) == (1.78, 39.13, "bleu")
    assert row["speedup_low"] < row["speedup"] < row["speedup_high"]
    assert row["score_bleu"] == row["quality"]
    assert row["fallback_rate"] == pytest.approx(0.059)
    assert row["ms_per_token"] == pytest.approx(1e3 * row["seconds"] / row["tokens"])
    assert table["path"].isna().all()


def test_a_frame_knows_where_points_were_found(tmp_path: Path) -> None:
    put(tmp_path / "one", to_json(make_record(latency__library=None)))
    table = frame(tmp_path)
    assert table["path"].tolist() == [str(tmp_path / "one")]
    assert table["speedup_over_library"].isna().all()


def test_every_switch_and_threshold_of_a_method_is_a_column() -> None:
    row = to_row(make_record())
    for part in (Method, Threshold):
        assert {field.name for field in dataclasses.fields(part)} - {"name"} <= set(row)
    for name in ("quality", "quality_difference", "speedup", "speedup_geometric", "ms_per_example", "score_bleu"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert {"command", "hash", "path"} <= set(row)
    assert all(value is None or isinstance(value, str | bool | int | float) for value in row.values())


def test_points_of_version_1_are_read_as_version_2() -> None:
    root = Path(__file__).with_name("version1")
    plain = json.loads((root / "record.json").read_bytes())
    assert plain["schema"] == 1
    (point,), skipped = find_records(root)
    assert not skipped
    record = point.record
    assert (record.schema, record.hash, record.method.name) == (SCHEMA_VERSION, plain["hash"], "bild")
    assert (record.threshold.fb, record.threshold.rb) == (0.3, 2.0)
    assert dataclasses.asdict(record.counts)["rollbacks"] == plain["counts"]["rollbacks"]
    assert record.headline.value == plain["quality"]["scores"]["bleu"]["value"]
    assert from_json(to_json(record)) == record
    samples = read_samples(root)
    assert [sample.id for sample in samples] == list(read_traces(root))
    lines = [json.loads(line) for line in (root / "samples.jsonl").read_text().splitlines()]
    assert [(sample.written, sample.ns.total) for sample in samples] == [
        (len(line["tokens"]) - 1, line["ns"]["total"]) for line in lines
    ]
    assert frame(root)["speedup"].tolist() == [plain["latency"]["speedup"]["total"]["value"]]


@pytest.mark.parametrize(
    ("rule", "keep"), [("v1", "difference"), ("v2", "loss"), ("v3", "share"), ("chow", "doubt"), (None, "share")]
)
def test_a_token_rule_of_version_1_is_the_keep_rule_that_it_was(rule: str | None, keep: str | None) -> None:
    plain = json.loads((Path(__file__).with_name("version1") / "record.json").read_bytes())
    plain["method"] |= {"name": "cascade", "rule": rule}
    assert from_json(json.dumps(plain)).method.keep == keep


def test_the_example_is_read_whichever_version_wrote_it() -> None:
    root = Path(__file__).parents[2] / "results" / "example"
    points, skipped = find_records(root)
    assert (len(points), skipped) == (len(list(root.rglob("record.json"))), [])
    assert all(len(read_samples(point.path)) >= point.record.latency.examples for point in points)
    assert len(find_predicted(root)[0]) == len(list(root.rglob("predicted.json"))) == 1


def test_an_empty_frame_has_no_rows() -> None:
    records: list[Record] = []
    assert len(to_frame(records)) == 0


def test_points_that_were_judged_on_the_same_examples_may_be_timed_on_fewer() -> None:
    fewer = make_record(latency__examples=40, task__data__hash="ee" * 32, quality__origin="tree")
    assert comparable(make_record(), fewer) == []
