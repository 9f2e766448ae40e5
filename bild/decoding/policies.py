"""From a method and its thresholds to the policy that decodes by it, to every switch as it will be used, and to names.

A name is a short label for people; `differing` tells every switch that a label leaves out. Names take a method and
thresholds as configured or as recorded.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from bild.decoding.loop import DEFAULT_DECAY, ExitRule, Policy, adaptive, alone, big_little
from bild.decoding.methods import (
    MAX_DRAFT,
    METHODS,
    MethodConfig,
    MethodSpec,
    ThresholdConfig,
    rules_named,
    thresholds_of,
)
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


_LEADING = {"rules": "paper", "confidence": "state"}
_THRESHOLDS = ("fb", "rb", "alpha", "top", "exit")


def number(value: float) -> str:
    """Return a threshold as people write it: 0.6, 2, inf."""
    if math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    return str(float(value))


def told(method: Any, threshold: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (switches, thresholds) that are in use, by name; switches that the method has not are left out."""
    if isinstance(method, MethodConfig):
        found, values = settings(method, threshold), dict(thresholds_of(method, threshold))
    else:
        found = dataclasses.asdict(method)
        spec = METHODS.get(method.name)
        if spec is not None and spec.stop is not None:  # records of version 1 name neither
            found |= {"stop": found["stop"] or spec.stop, "keep": found["keep"] or spec.keep}
        values = {name: getattr(threshold, name) for name in _THRESHOLDS}
    return (
        {name: value for name, value in found.items() if value is not None or name == "decay"},
        {name: value for name, value in values.items() if value is not None},
    )


def label(method: Any, threshold: Any) -> str:
    """Return a short name: "BiLD 0.3/2", "BiLD-A 0.25/3 k24", "cascade 0.3/0.1", "speculative k4", "vanilla".

    The numbers are the thresholds (fallback, then the keep rule's), "-A" says that all switches are as the authors'
    code has them, k is the draft limit where it is not 10. `differing` tells what else is not as usual.
    """
    switches, values = told(method, threshold)
    name = switches["name"]
    spec = METHODS.get(name, MethodSpec(name, ""))
    if "confidence" in switches:
        return " ".join([spec.title, *_exits(switches), *(number(value) for value in values.values())])
    if "keep" not in switches:
        return spec.title if spec.author != "small" else name
    authors = switches.get("rules") == "authors" and not set(_unusual(switches, values)) - {"rules"}
    words = [spec.title + ("-A" if authors else "")]
    words += [switches["stop"]] if _other_stop(switches, spec) else []
    words += [switches["keep"]] if switches["keep"] != spec.keep else []
    own = KEEPS[switches["keep"]].threshold if switches["keep"] in KEEPS else None
    words += ["/".join(number(values[each]) for each in ("fb", own) if each in values)]
    words += [f"top{number(values['top'])}"] if "top" in values and own != "top" else []
    windowed = switches["stop"] in ("window", "adaptive", "oracle")
    words += [f"k{switches['max_draft']}"] if windowed or switches["max_draft"] != MAX_DRAFT else []
    return " ".join(word for word in words if word)


def _exits(switches: dict[str, Any]) -> list[str]:
    words = [switches["confidence"]] if switches["confidence"] != "state" else []
    decay = switches.get("decay")
    if decay != DEFAULT_DECAY:
        words.append("constant" if decay is None else f"decay{number(decay)}")
    return words


def _other_stop(switches: dict[str, Any], spec: MethodSpec) -> bool:
    """Return whether the stop rule is one that the number of fb does not tell."""
    return switches["stop"] != spec.stop and not (spec.stop == "window" and switches["stop"] == "unsure")


def slug(name: str) -> str:
    """Return a label as folder names have it: "bild-0.3-2-k24"."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def differing(method: Any, threshold: Any) -> dict[str, Any]:
    """Return every switch that is not as the method's preset has it; thresholds and draft limit are in the label."""
    switches, values = told(method, threshold)
    return _unusual(switches, values)


def _unusual(switches: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    name = switches["name"]
    if name not in METHODS:
        return {key: value for key, value in switches.items() if key not in ("name", "max_draft")}
    # The name of another rule set, or measure of confidence, tells all that it implies.
    found = {key: switches[key] for key, usual in _LEADING.items() if switches.get(key, usual) != usual}
    fb = None if switches.get("stop") == "window" else values.get("fb")
    usual = settings(MethodConfig(name, **found), ThresholdConfig(**values | {"fb": fb}))
    for key, value in switches.items():
        if key not in ("name", "max_draft", *found) and value != usual.get(key):
            found[key] = value
    return found


def legend(method: Any) -> str:
    """Return what points of one look share: the method's title, with its rule set where that is not the paper's."""
    spec = METHODS.get(method.name)
    title = method.name if spec is None else spec.title
    return f"{title}, authors' rules" if method.rules == "authors" and spec is not None and spec.rule_sets else title
