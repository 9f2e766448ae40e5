"""From the options of a run to a policy."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from bild.config import METHODS, MethodConfig, ThresholdConfig
from bild.decoding import Draft, Verify, policy_for, settings
from bild.decoding.actions import Ask
from bild.decoding.methods import USED

ANY = ThresholdConfig()


def first_ask(method: MethodConfig, threshold: ThresholdConfig = ANY) -> Ask:
    return next(policy_for(method, threshold)(start=0, eos=1, max_length=20))


@pytest.mark.parametrize(("name", "author"), [("vanilla", "large"), ("small", "small")])
def test_the_baselines_are_one_model_alone(name: str, author: str) -> None:
    assert first_ask(MethodConfig(name)) == Draft([0], 19, 0.0, author)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["bild", "speculative"])
def test_the_methods_with_two_models_start_with_the_large_one(name: str) -> None:
    assert first_ask(MethodConfig(name)) == Verify([0], [])


def test_the_options_reach_the_asks() -> None:
    bild = MethodConfig("bild", max_draft=4, first="small")
    assert first_ask(bild, ThresholdConfig(0.25, 3.0)) == Draft([0], 4, 0.25)
    speculative = MethodConfig("speculative", max_draft=7, first="small")
    assert first_ask(speculative, ThresholdConfig(0.25, 3.0)) == Draft([0], 7, 0.0)


def test_a_fallback_threshold_of_zero_stays_zero() -> None:
    assert first_ask(MethodConfig("bild", first="small"), ThresholdConfig(0.0, 5.0)) == Draft([0], 10, 0.0)


def test_a_policy_can_be_made_again_and_again() -> None:
    make = policy_for(MethodConfig("bild", first="small"), ANY)
    first = next(make(start=0, eos=1, max_length=20))
    assert next(make(start=3, eos=1, max_length=5)) == Draft([3], 4, ANY.fb)
    assert first == Draft([0], 10, ANY.fb)


def test_every_method_says_what_it_heeds_and_heeds_only_what_there_is() -> None:
    assert set(USED) == set(METHODS)
    options = {"method": MethodConfig, "threshold": ThresholdConfig}
    for used in USED.values():
        for group, names in used.items():
            assert names <= {field.name for field in dataclasses.fields(options[group])}


@pytest.mark.parametrize("name", METHODS)
def test_settings_record_every_option_that_a_method_heeds(name: str) -> None:
    assert USED[name]["method"] <= set(settings(MethodConfig(name), ANY))


OTHER: dict[str, Any] = {
    "rules": "authors",
    "max_draft": 3,
    "first": "small",
    "after_rollback": "large",
    "scan": "first",
    "unsure": "verify",
    "verify_eos": False,
    "confidence": "softmax",
    "decay": None,
    "min_layers": 3,
    "rule": "v2",
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("option", OTHER)
def test_an_option_changes_the_settings_of_the_methods_that_heed_it_and_of_no_other(name: str, option: str) -> None:
    changed = settings(MethodConfig(name, **{option: OTHER[option]}), ANY) != settings(MethodConfig(name), ANY)
    assert changed == (option in USED[name]["method"])


def test_settings_fill_in_what_the_rule_set_says() -> None:
    expected = {"name": "bild", "rules": "authors", "max_draft": 10, "first": "large", "after_rollback": "large"}
    expected |= {"scan": "first", "unsure": "drop", "verify_eos": False}  # type: ignore[dict-item]
    assert settings(MethodConfig("bild", "authors"), ANY) == expected


def test_settings_record_a_switch_that_was_given_rather_than_the_rule_sets() -> None:
    resolved = settings(MethodConfig("bild", "authors", scan="all", after_rollback="small", verify_eos=True), ANY)
    assert (resolved["scan"], resolved["after_rollback"], resolved["verify_eos"]) == ("all", "small", True)


def test_settings_say_that_nothing_is_verified_at_the_end_where_nothing_could_be_taken_back() -> None:
    assert settings(MethodConfig("bild"), ThresholdConfig(0.6, math.inf))["verify_eos"] is False
