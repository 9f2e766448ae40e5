"""Telling splits from file names."""

from __future__ import annotations

import pytest

from bild.errors import BildError
from bild.tasks.files import files_of, refuse_missing_shards, splits_in


@pytest.mark.parametrize(
    ("names", "config", "expected"),
    [
        (["data/test-00000-of-00001.parquet"], None, {"test": ("data/test-00000-of-00001.parquet",)}),
        (["test-00000-of-00001-0a1b2c3d.parquet"], None, {"test": ("test-00000-of-00001-0a1b2c3d.parquet",)}),
        (["de-en/test-00000-of-00001.parquet"], "de-en", {"test": ("de-en/test-00000-of-00001.parquet",)}),
        (["default/test/0001.parquet", "default/test/0000.parquet"], None, {
            "test": ("default/test/0000.parquet", "default/test/0001.parquet")
        }),
        (["3.0.0/test/0000.parquet"], "3.0.0", {"test": ("3.0.0/test/0000.parquet",)}),
        (["test.jsonl", "val.csv", "train.tsv"], None, {
            "test": ("test.jsonl",), "val": ("val.csv",), "train": ("train.tsv",)
        }),
        (["3x0x0/test.jsonl", "test.jsonl"], "3.0.0", {}),
        (["deep/data/test.jsonl", "test.txt", "test", "README.md", "dataset_infos.json"], None, {}),
        (["default/partial-train/0000.parquet"], None, {}),  # the hub's conversion of the first gigabytes only
    ],
)  # fmt: skip
def test_splits(names, config, expected):
    assert splits_in(names, config) == expected


def test_a_split_in_two_formats_is_read_once():
    assert splits_in(["test.jsonl", "test.csv", "test-00000-of-00001.parquet"], None) == {
        "test": ("test-00000-of-00001.parquet",)
    }


def test_the_exact_name_wins_over_its_aliases():
    names = ("val.jsonl", "validation.jsonl", "dev.jsonl")
    assert files_of(names, None, {}, "validation") == ("validation.jsonl",)
    assert files_of(names[::2], None, {}, "validation") == ("val.jsonl",)
    assert files_of(names, None, {}, "dev") == ("dev.jsonl",)
    assert files_of(names, None, {}, "test") == ()


def test_patterns_win_over_layouts_and_stand_alone():
    names = ("test.jsonl", "other/b.jsonl", "other/a.jsonl")
    assert files_of(names, None, {"test": "other/*.jsonl"}, "test") == ("other/a.jsonl", "other/b.jsonl")
    assert files_of(names, None, {"train": "other/*.jsonl"}, "test") == ()


def test_shards():
    whole = ("x-00000-of-00002.parquet", "x-00001-of-00002.parquet")
    refuse_missing_shards(whole, "there")
    refuse_missing_shards(("x.parquet", "test/0000.parquet"), "there")
    with pytest.raises(BildError, match=r"^there has 1 of the 2 files that x-00001-of-00002\.parquet belongs to"):
        refuse_missing_shards(whole[1:], "there")
