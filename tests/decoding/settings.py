"""Rules by the thresholds and switches of a method, for tests of the loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bild.decoding.methods import setting
from bild.decoding.policies import rules_for
from bild.decoding.rules import Rules


def rules_of(method: str, **options: Any) -> Rules:
    found = rules_for(*setting(method, **options))
    assert found is not None
    return found


def bild_rules(fb: float, rb: float, rules: str = "paper", **switches: Any) -> Rules:
    # Tests of the loop also go beyond a probability: above 1 the small model is never sure.
    return replace(rules_of("bild", fb=min(fb, 1.0), rb=rb, rules=rules, **switches), fb=fb)


def speculative_rules(max_draft: int = 10, **switches: Any) -> Rules:
    return rules_of("speculative", max_draft=max_draft, **switches)
