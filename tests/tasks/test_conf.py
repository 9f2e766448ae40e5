"""The task options that come with the project."""

from __future__ import annotations

import pytest

from tests.tasks.compose import NAMES, task


def test_every_planned_task_is_there():
    assert NAMES == (
        "cnndm",
        "embedded",
        "embedded-news",
        "file",
        "iwslt2017",
        "multi30k",
        "multi30k-files",
        "wmt14",
        "xsum",
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_option_composes_and_bears_the_name_of_its_file(name):
    assert task(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_kind_and_metric_belong_together(name):
    composed = task(name)
    assert (composed.kind, composed.metric) in {("translation-de-en", "bleu"), ("summarisation", "rouge")}
    assert composed.prompt == ("summarize: " if composed.kind == "summarisation" else "")


@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_the_papers(name):
    assert (task(name).source_limit, task(name).target_limit) == (1024, 128)


@pytest.mark.parametrize(
    ("name", "pair", "split", "rows"),
    [
        ("iwslt2017", "mt5-large", "validation", 888),
        ("wmt14", "mt5-large", "validation", 3000),
        ("xsum", "t5-large", "validation", 11332),
        ("cnndm", "t5-large", "validation", 13368),
        ("multi30k", "embedded", "validation", 1014),
    ],
)
def test_default_pair_split_and_its_published_size(name, pair, split, rows):
    composed = task(name)
    assert (composed.pair, composed.split, composed.sizes[split]) == (pair, split, rows)


@pytest.mark.parametrize("name", ["iwslt2017", "wmt14", "xsum", "cnndm", "multi30k", "multi30k-files"])
def test_what_is_chosen_on_validation_is_confirmed_on_test(name):
    composed = task(name)
    assert (composed.split, composed.confirm) == ("validation", "test")
    assert composed.sizes["test"] >= 1000


def test_captions_have_a_part_to_choose_on_and_one_to_confirm_on():
    composed = task("embedded")
    assert (composed.split, composed.confirm) == ("choose", "confirm")


@pytest.mark.parametrize(
    ("name", "pair"), [("embedded", "embedded"), ("embedded-news", "t5-large"), ("file", "embedded")]
)
def test_default_pair_of_the_tasks_that_are_not_the_papers(name, pair):
    assert task(name).pair == pair
