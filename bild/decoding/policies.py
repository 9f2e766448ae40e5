"""From a method and its thresholds to the policy that decodes by it, and to every switch as it will be used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from bild.decoding.loop import ExitRule, Policy, adaptive, alone, big_little
from bild.decoding.methods import MAX_DRAFT, MethodConfig, ThresholdConfig, rules_named, thresholds_of
from bild.decoding.rules import AUTO, BY_FB, KEEPS, DraftCosts, Pace, Rules, Tally
from bild.errors import BildError

MakePolicy = Callable[..., Policy]
"""Called per example with the keywords `start`, `eos` and `max_length`."""


def rules_for(method: MethodConfig, threshold: ThresholdConfig, costs: DraftCosts | None = None) -> Rules | None:
    """Return the loop's setting of a method, or None where one model decodes alone.

    `costs` are heeded where `max_draft` is "auto", which needs them: BildError without.
    """
    rules = _rules(method, threshold)
    if rules is None or not paced(method):
        return rules
    if costs is None:
        raise BildError(
            f"method={method.name} with max_draft=auto goes by costs that only a live run measures: "
            "give max_draft a whole number here."
        )
    pace = Pace(costs)
    return dataclasses.replace(rules, max_draft=pace.limit(Tally()), pace=pace)


def paced(method: MethodConfig) -> bool:
    """Return whether its drafts are limited by measured costs."""
    return method.max_draft == AUTO and method.spec.stop is not None


def _rules(method: MethodConfig, threshold: ThresholdConfig) -> Rules | None:
    spec = method.spec
    if spec.stop is None:
        return None
    stop, keep = rules_named(method, threshold)
    values = thresholds_of(method, threshold)
    own = KEEPS[keep].threshold
    authors = spec.rule_sets and method.rules == "authors"
    top = values.get("top") if own != "top" else None
    bound = 0.0 if own is None else values[own]
    if top is not None:  # a token beyond the cap scores infinity, which must lie above every threshold
        bound = min(bound, math.nextafter(math.inf, 0.0))
    nothing_falls = keep == "nll" and top is None and values["rb"] == math.inf
    return Rules(
        keep=keep,
        threshold=bound,
        top=None if top is None else int(top),
        fb=values.get("fb", 0.0),
        stop=stop if stop in ("likely", "oracle") else "unsure",
        adapts=stop == "adaptive",
        scan=(method.scan or ("first" if authors else "all")) if keep == "nll" else "all",
        max_draft=MAX_DRAFT if isinstance(method.max_draft, str) else method.max_draft,
        first=method.first or "large",
        after_rollback=method.after_rollback or ("large" if authors else "small"),
        unsure=method.unsure or spec.unsure,
        # Where nothing can be rolled back, the verdict on a finished draft would be thrown away.
        verify_eos=(not authors if method.verify_eos is None else method.verify_eos) and not nothing_falls,
        rollback_eos_ends=not authors,
    )


def widest_pass(method: MethodConfig, threshold: ThresholdConfig, length: int) -> tuple[int, bool]:
    """Return the most new positions of a large pass in a text of `length` tokens, and whether passes tell ranks."""
    rules = _rules(method, threshold)
    if rules is None:
        return 1, False
    longest = length if rules.adapts or paced(method) else rules.max_draft
    return min(1 + longest, length), rules.ranks


def exit_rule_for(method: MethodConfig, threshold: ThresholdConfig) -> ExitRule:
    """Return when `calm` writes a token early."""
    value = thresholds_of(method, threshold)["exit"]
    return ExitRule(value, method.confidence, method.decay, method.min_layers)  # type: ignore[arg-type]


def policy_for(method: MethodConfig, threshold: ThresholdConfig, costs: DraftCosts | None = None) -> MakePolicy:
    """Return what decodes one example by this method; `max_draft` "auto" needs costs."""
    rules = rules_for(method, threshold, costs)
    if rules is not None:
        return partial(big_little, rules)
    if method.spec.exits:
        return partial(adaptive, exit_rule_for(method, threshold))
    assert method.spec.author is not None
    return partial(alone, method.spec.author)


def writes_vanilla(method: MethodConfig, threshold: ThresholdConfig) -> bool:
    """Tell whether a method writes vanilla's text by its rules, so that only rounding could part them."""
    rules = _rules(method, threshold)
    if rules is None:
        return method.spec.author == "large"
    exact = rules.keep == "exact" or (rules.keep == "nll" and rules.threshold == 0.0 and rules.scan == "all")
    return exact and rules.verify_eos and rules.rollback_eos_ends


def settings(method: MethodConfig, threshold: ThresholdConfig) -> dict[str, Any]:
    """Return every switch of the method as it will be used, defaults filled in, for the record."""
    if method.spec.exits:
        rule = exit_rule_for(method, threshold)
        told = {"confidence": rule.confidence, "decay": rule.decay, "min_layers": rule.first_exit}
        return {"name": method.name, **told}
    rules = _rules(method, threshold)
    if rules is None:
        return {"name": method.name}
    stop, keep = rules_named(method, threshold)
    return {
        "name": method.name,
        "stop": stop,
        "keep": keep,
        "max_draft": method.max_draft,
        "first": rules.first,
        "after_rollback": rules.after_rollback,
        "verify_eos": rules.verify_eos,
        "unsure": rules.unsure if stop in BY_FB else None,
        "scan": rules.scan if keep == "nll" else None,
        "rules": method.rules if method.spec.rule_sets else None,
    }


def live_refusal(method: MethodConfig, engine: str, sample: bool = False) -> str | None:
    """Return why a method cannot run live on an engine, or `sample` there, or None where it can."""
    spec = method.spec
    if spec.exits and sample:
        return f"method={method.name} decodes greedily: leave out decode.sample=true."
    if spec.engines and engine not in spec.engines:
        return (
            f"method={method.name} does not run on engine={engine}: it stops between decoder layers, "
            f"which engine={' or '.join(spec.engines)} can."
        )
    if (method.stop or spec.stop) == "oracle":
        how = "" if method.name == "oracle" else " with method.stop=oracle"
        return (
            f"method={method.name}{how} cannot be run live: it knows the large model's verdict before the "
            "small one has drafted, which only the replay of a decision tree can."
        )
    return None
