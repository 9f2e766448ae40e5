"""Methods by name: from a `MethodConfig` and thresholds to a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding.adaptive_draft import AUTO, DraftCosts, Pace, Tally
from bild.decoding.early_exit import ExitRule, adaptive
from bild.decoding.loop import Policy, alone, big_little
from bild.decoding.rules import (
    DEFAULT_MAX_DRAFT,
    Rules,
    bild_rules,
    cascade_rules,
    oracle_rules,
    speculative_rules,
)
from bild.errors import BildError

MakePolicy = Callable[..., Policy]
"""Called per example with the keywords `start`, `eos` and `max_length`."""

USED: dict[str, dict[str, set[str]]] = {
    "bild": {
        "method": {"rules", "max_draft", "first", "after_rollback", "scan", "unsure", "verify_eos"},
        "threshold": {"fb", "rb"},
    },
    "speculative": {"method": {"max_draft", "first"}, "threshold": set()},
    "dynamic": {"method": {"max_draft", "first"}, "threshold": {"fb"}},
    "cumulative": {"method": {"max_draft", "first"}, "threshold": {"fb"}},
    "heuristic": {"method": {"max_draft", "first"}, "threshold": set()},
    "cascade": {"method": {"rule", "max_draft", "first"}, "threshold": {"alpha"}},
    "oracle": {"method": {"max_draft", "first"}, "threshold": {"rb"}},
    "vanilla": {"method": set(), "threshold": set()},
    "small": {"method": set(), "threshold": set()},
    "calm": {"method": {"confidence", "decay", "min_layers"}, "threshold": {"exit"}},
}
"""Which options each method heeds; the others would have no effect, so the command lines refuse them."""

_EXACT: dict[str, dict[str, Any]] = {
    "speculative": {},
    "dynamic": {"unsure": "verify"},
    "cumulative": {"unsure": "verify", "stop": "likely"},
    "heuristic": {"adapts": True},
}
"""The methods whose text is that of `vanilla`, and what stops their drafts."""


def rules_for(method: MethodConfig, threshold: ThresholdConfig, costs: DraftCosts | None = None) -> Rules | None:
    """The loop's setting of a method, or None where one model decodes alone.

    `costs` are heeded where `max_draft` is "auto", which needs them: BildError without.
    """
    if not paced(method):
        return _rules(method, threshold, _limit(method))
    if costs is None:
        raise BildError(
            f"method={method.name} with max_draft=auto goes by costs that only a live run measures: "
            "give max_draft a whole number here."
        )
    pace = Pace(costs)
    rules = _rules(method, threshold, pace.limit(Tally()))
    return None if rules is None else dataclasses.replace(rules, pace=pace)


def paced(method: MethodConfig) -> bool:
    """Whether its drafts are limited by measured costs."""
    return method.max_draft == AUTO and "max_draft" in USED[method.name]["method"]


def _limit(method: MethodConfig) -> int:
    return DEFAULT_MAX_DRAFT if isinstance(method.max_draft, str) else method.max_draft


def _rules(method: MethodConfig, threshold: ThresholdConfig, limit: int) -> Rules | None:
    if method.name == "bild":
        return bild_rules(
            threshold.fb,
            threshold.rb,
            method.rules,
            max_draft=limit,
            first=method.first,
            after_rollback=method.after_rollback,
            scan=method.scan,
            unsure=method.unsure,
            verify_eos=method.verify_eos,
        )
    if method.name in _EXACT:
        fb = threshold.fb if "fb" in USED[method.name]["threshold"] else 0.0
        return speculative_rules(limit, first=method.first, fb=fb, **_EXACT[method.name])
    if method.name == "cascade":
        return cascade_rules(method.rule, threshold.alpha, limit, first=method.first)
    if method.name == "oracle":
        return oracle_rules(threshold.rb, limit, first=method.first)
    return None


def exit_rule_for(method: MethodConfig, threshold: ThresholdConfig) -> ExitRule:
    """When `calm` writes a token early."""
    return ExitRule(threshold.exit, method.confidence, method.decay, method.min_layers)  # type: ignore[arg-type]


def policy_for(method: MethodConfig, threshold: ThresholdConfig, costs: DraftCosts | None = None) -> MakePolicy:
    """What decodes one example by this method; `max_draft` "auto" needs costs."""
    rules = rules_for(method, threshold, costs)
    if rules is not None:
        return partial(big_little, rules)
    if method.name == "calm":
        return partial(adaptive, exit_rule_for(method, threshold))
    return partial(alone, "large" if method.name == "vanilla" else "small")


def settings(method: MethodConfig, threshold: ThresholdConfig) -> dict[str, object]:
    """Every switch of the method as it will be used, defaults filled in, for the record."""
    resolved: dict[str, object] = {"name": method.name}
    rules = _rules(method, threshold, _limit(method))
    if method.name == "calm":
        rule = exit_rule_for(method, threshold)
        return resolved | {"confidence": rule.confidence, "decay": rule.decay, "min_layers": rule.first_exit}
    if rules is None:
        return resolved
    resolved |= {"max_draft": method.max_draft, "first": rules.first, "after_rollback": rules.after_rollback}
    resolved |= {"unsure": rules.unsure, "verify_eos": rules.verify_eos}
    if method.name == "bild":
        resolved |= {"rules": method.rules, "scan": rules.scan}
    if method.name == "cascade":
        resolved |= {"rule": method.rule}
    return resolved
