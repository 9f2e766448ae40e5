"""From the options of a run to a policy."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from bild.config import METHODS, MethodConfig, ThresholdConfig
from bild.decoding import Draft, Verify, policy_for, settings
from bild.decoding.actions import Ask
from bild.decoding.methods import KEEPS, STOPS, USUAL, heeds, setting, thresholds_of
from bild.decoding.policies import live_refusal, rules_for
from bild.errors import BildError

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
    assert first_ask(speculative) == Draft([0], 7, 0.0)
    assert first_ask(speculative, ThresholdConfig(fb=0.25)) == Draft([0], 7, 0.25)  # a fallback besides
    assert first_ask(MethodConfig("speculative", stop="window", first="small"), ThresholdConfig(0.25)).stop_below == 0


def test_a_fallback_threshold_of_zero_stays_zero() -> None:
    assert first_ask(MethodConfig("bild", first="small"), ThresholdConfig(0.0, 5.0)) == Draft([0], 10, 0.0)


def test_a_policy_can_be_made_again_and_again() -> None:
    make = policy_for(MethodConfig("bild", first="small"), ANY)
    first = next(make(start=0, eos=1, max_length=20))
    assert next(make(start=3, eos=1, max_length=5)) == Draft([3], 4, USUAL["fb"])
    assert first == Draft([0], 10, USUAL["fb"])


def test_every_method_heeds_only_what_there_is() -> None:
    options = {field.name for kind in (MethodConfig, ThresholdConfig) for field in dataclasses.fields(kind)}
    for name in METHODS:
        assert heeds(MethodConfig(name), ANY) <= options


OTHER: dict[str, Any] = {
    "stop": "likely",
    "keep": "loss",
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
THRESHOLDS = {"fb": 0.31, "rb": 1.5, "alpha": 0.25, "top": 7, "exit": 0.75}


def told(name: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    switches = {key: value for key, value in options.items() if key in OTHER}
    method = MethodConfig(name, **switches)
    threshold = ThresholdConfig(**{key: value for key, value in options.items() if key in THRESHOLDS})
    return settings(method, threshold), thresholds_of(method, threshold)


@pytest.mark.spread(60)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("option", {**OTHER, **THRESHOLDS})
def test_an_option_changes_the_settings_of_the_methods_that_heed_it_and_of_no_other(name: str, option: str) -> None:
    value = OTHER.get(option, THRESHOLDS.get(option))
    if name == "dynamic" and option == "unsure":
        value = "drop"
    if name == "cumulative" and option in ("unsure", "stop"):
        value = {"unsure": "drop", "stop": "window"}[option]
    if name == "relaxed" and option == "keep":
        value = "share"
    changed = told(name, **{option: value}) != told(name)
    assert changed == (option in heeds(MethodConfig(name), ANY))
    if not changed and option != "decay":
        with pytest.raises(BildError, match=f"{option} has no effect on method={name}"):
            setting(name, **{option: value})


@pytest.mark.parametrize("stop", [stop for stop in STOPS if stop != "auto"])
@pytest.mark.parametrize("keep", KEEPS)
def test_any_stop_goes_with_any_keep(stop: str, keep: str) -> None:
    method, threshold = setting("bild", stop=stop, keep=keep)
    assert {"stop": stop, "keep": keep}.items() <= settings(method, threshold).items()
    rules = rules_for(method, threshold)
    assert rules is not None
    assert rules.keep == keep
    assert (rules.adapts, rules.fb > 0) == (stop == "adaptive", stop in ("unsure", "likely"))
    wanted = {"fb"} if stop in ("unsure", "likely") else set()
    assert set(thresholds_of(method, threshold)) == wanted | ({KEEPS[keep].threshold} - {None})
    assert (live_refusal(method, "fused") is not None) == (stop == "oracle")


def test_stop_auto_is_the_limit_by_costs() -> None:
    assert setting("bild", stop="auto") == setting("bild", max_draft="auto")
    with pytest.raises(BildError, match="max_draft=auto has no place in it"):
        setting("heuristic", stop="auto")


def test_a_method_that_needs_another_engine_or_the_future_says_so() -> None:
    assert live_refusal(MethodConfig("calm"), "fused") is None
    assert "does not run on engine=hf" in str(live_refusal(MethodConfig("calm"), "hf"))
    assert "cannot be run live" in str(live_refusal(MethodConfig("oracle"), "fused"))
    assert "cannot be run live" in str(live_refusal(MethodConfig("bild", stop="oracle"), "hf"))


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(BildError, match="max_daft is not an option: there are after_rollback, "):
        setting("bild", max_daft=3)


def test_settings_fill_in_what_the_rule_set_says() -> None:
    expected = {"name": "bild", "rules": "authors", "max_draft": 10, "first": "large", "after_rollback": "large"}
    expected |= {"stop": "unsure", "keep": "nll"}
    expected |= {"scan": "first", "unsure": "drop", "verify_eos": False}  # type: ignore[dict-item]
    assert settings(MethodConfig("bild", rules="authors"), ANY) == expected


def test_settings_record_a_switch_that_was_given_rather_than_the_rule_sets() -> None:
    resolved = settings(MethodConfig("bild", rules="authors", scan="all", after_rollback="small", verify_eos=True), ANY)
    assert (resolved["scan"], resolved["after_rollback"], resolved["verify_eos"]) == ("all", "small", True)


def test_settings_say_that_nothing_is_verified_at_the_end_where_nothing_could_be_taken_back() -> None:
    assert settings(MethodConfig("bild"), ThresholdConfig(0.6, math.inf))["verify_eos"] is False
