"""Labels of points, and the switches that they leave out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bild.decoding.methods import METHODS, MethodConfig, ThresholdConfig, setting, thresholds_of
from bild.decoding.policies import differing, label, legend, settings, slug
from bild.results import Method, Threshold


@pytest.mark.parametrize(
    ("method", "options", "wanted"),
    [
        ("bild", {"fb": 0.6, "rb": 2.0}, "BiLD 0.6/2"),
        ("bild", {"fb": 0, "rb": math.inf}, "BiLD 0/inf"),
        ("bild", {"fb": 0.123456789, "rb": 1e-7}, "BiLD 0.123456789/1e-07"),
        ("bild", {}, "BiLD 0.6/5"),
        ("bild", {"rules": "authors", "fb": 0.25, "rb": 3, "max_draft": 24}, "BiLD-A 0.25/3 k24"),
        ("bild", {"rules": "authors", "first": "small", "fb": 0.25}, "BiLD 0.25/5"),
        ("bild", {"max_draft": "auto"}, "BiLD 0.6/5 kauto"),
        ("bild", {"keep": "share", "alpha": 0.9}, "BiLD share 0.6/0.9"),
        ("bild", {"keep": "share", "alpha": 0.9, "top": 3}, "BiLD share 0.6/0.9 top3"),
        ("bild", {"stop": "likely", "keep": "top", "fb": 0.3, "top": 5}, "BiLD likely top 0.3/5"),
        ("vanilla", {}, "vanilla"),
        ("small", {}, "small"),
        ("speculative", {}, "speculative k10"),
        ("speculative", {"max_draft": 4}, "speculative k4"),
        ("speculative", {"fb": 0.3}, "speculative 0.3"),
        ("dynamic", {"max_draft": 5, "fb": 0.4}, "dynamic 0.4 k5"),
        ("heuristic", {"max_draft": 5}, "heuristic k5"),
        ("cascade", {"alpha": 0.25}, "cascade 0.25 k10"),
        ("cascade", {"rule": "v2", "fb": 0.3, "alpha": 0.25}, "cascade loss 0.3/0.25"),
        ("relaxed", {}, "relaxed 0.6 top10 k10"),
        ("oracle", {"rb": 0}, "oracle 0 k10"),
        ("calm", {"exit": 0.8}, "CALM 0.8"),
        ("calm", {"confidence": "softmax", "decay": None, "exit": 1}, "CALM softmax constant 1"),
        ("calm", {"decay": 2, "exit": 0.5}, "CALM decay2 0.5"),
    ],
)
def test_labels_are_short_and_the_same_for_what_was_configured_and_what_was_recorded(
    method: str, options: dict[str, Any], wanted: str
) -> None:
    made, threshold = setting(method, **options)
    assert label(made, threshold) == wanted
    assert label(*recorded(made, threshold)) == wanted
    assert differing(*recorded(made, threshold)) == differing(made, threshold)


def recorded(method: MethodConfig, threshold: ThresholdConfig) -> tuple[Method, Threshold]:
    names = ("name", "rules", "max_draft", "first", "after_rollback", "scan", "unsure", "verify_eos")
    return (
        Method(**(dict.fromkeys(names) | settings(method, threshold))),  # type: ignore[arg-type]
        Threshold(**({"fb": None, "rb": None} | thresholds_of(method, threshold))),
    )


@pytest.mark.parametrize(
    ("method", "options", "wanted"),
    [
        ("bild", {"fb": 0.1}, {}),
        ("bild", {"rules": "authors", "max_draft": 24}, {"rules": "authors"}),
        ("bild", {"rules": "authors", "scan": "all"}, {"rules": "authors", "scan": "all"}),
        ("bild", {"first": "small", "unsure": "verify"}, {"first": "small", "unsure": "verify"}),
        ("bild", {"keep": "share"}, {"keep": "share"}),
        ("bild", {"rb": math.inf}, {}),
        ("bild", {"rb": math.inf, "verify_eos": False}, {}),
        ("cascade", {"rule": "v1"}, {"keep": "difference"}),
        ("speculative", {"fb": 0.3}, {}),
        ("speculative", {"stop": "likely", "fb": 0.3}, {"stop": "likely"}),
        ("calm", {"confidence": "softmax"}, {"confidence": "softmax"}),
        ("calm", {"decay": None}, {"decay": None}),
        ("vanilla", {}, {}),
    ],
)
def test_what_differs_from_the_preset_is_told(method: str, options: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert differing(*setting(method, **options)) == wanted


@pytest.mark.parametrize("name", METHODS)
def test_a_preset_differs_in_nothing(name: str) -> None:
    assert differing(*setting(name)) == {}


def test_legends_and_folders() -> None:
    assert legend(MethodConfig("bild")) == "BiLD"
    assert legend(MethodConfig("bild", rules="authors")) == "BiLD, authors' rules"
    assert legend(MethodConfig("calm")) == "CALM"
    assert slug("BiLD-A 0.25/3 k24") == "bild-a-0.25-3-k24"
