"""Names of points for people: short labels, and beside them every switch that a label leaves out.

All functions take a method and thresholds as configured or as recorded.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from bild.decoding.loop import DEFAULT_DECAY
from bild.decoding.methods import MAX_DRAFT, METHODS, MethodConfig, MethodSpec, ThresholdConfig, thresholds_of
from bild.decoding.policies import settings
from bild.decoding.rules import KEEPS

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
