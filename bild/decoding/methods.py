"""Methods by name. A method is one entry in `METHODS`: its stop rule, its keep rule, and the defaults of the rest.

Everything that has to know a method asks here: the checks of a configuration, the command lines, `bild.generate`, a
tree's replay, the label, the record, figures and tables. A stop rule goes with any keep rule (`bild.decoding.rules`);
an entry names a pair of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bild.decoding.actions import Author
from bild.decoding.loop import DEFAULT_DECAY
from bild.decoding.rules import AUTO, BY_FB, KEEPS, STOPS
from bild.errors import BildError
from bild.options import check_fields, number, word

RULES = ("paper", "authors")
CONFIDENCES = ("state", "softmax")
TOKEN_RULES = {"v1": "difference", "v2": "loss", "v3": "share", "chow": "doubt", "difference": "difference"}
"""The token rules of speculative cascades (Narasimhan et al., ICLR 2025) as keep rules."""
MAX_DRAFT = 10
"""Paper 7.1.2."""
USUAL: dict[str, float] = {"fb": 0.6, "rb": 5.0, "alpha": 0.1, "top": 3, "exit": 0.9}
"""Thresholds where neither the user nor the method names one; fb and rb as in the authors' code."""


@dataclass(frozen=True)
class MethodSpec:
    """One entry of the table."""

    title: str
    """The name in labels and legends."""
    words: str
    """A description in one line."""
    stop: str | None = None
    """Its stop rule; None where one model decodes alone."""
    keep: str | None = None
    """Its keep rule."""
    author: Author | None = None
    """The model that decodes alone: "large" or "small"."""
    unsure: str = "drop"
    rule_sets: bool = False
    """`method.rules` chooses among its switches."""
    token_rules: bool = False
    """`method.rule` names its keep rule."""
    exits: bool = False
    """It leaves between the layers of one model, which only `engines` can do, and no tree can replay."""
    engines: tuple[str, ...] = ()
    """The engines that it runs on; empty: all."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Its own defaults, where they differ from `USUAL`. A capped keep rule has a cap only if `top` is named here."""


METHODS: dict[str, MethodSpec] = {
    "vanilla": MethodSpec(
        "vanilla", "Greedy decoding by the large model: the baseline of every speedup.", author="large"
    ),
    "small": MethodSpec(
        "small model", "Greedy decoding by the small model: the fast end of every front.", author="small"
    ),
    "bild": MethodSpec("BiLD", "The Big Little Decoder (Kim et al., NeurIPS 2023).", "unsure", "nll", rule_sets=True),
    "speculative": MethodSpec(
        "speculative",
        "Exact greedy speculative decoding with a fixed window (Leviathan et al., 2023).",
        "window",
        "exact",
    ),
    "dynamic": MethodSpec(
        "dynamic",
        "Exact; drafts stop at an unsure token, which is verified too (transformers' assisted generation).",
        *("unsure", "exact"),
        unsure="verify",
    ),
    "cumulative": MethodSpec(
        "cumulative",
        "Exact; drafts stop when the product of their probabilities is below fb.",
        *("likely", "exact"),
        unsure="verify",
    ),
    "heuristic": MethodSpec("heuristic", "Exact; a window that learns from its rollbacks.", "adaptive", "exact"),
    "cascade": MethodSpec(
        "cascade",
        "A speculative cascade (Narasimhan et al., ICLR 2025), greedy: a token may lose at most alpha.",
        *("window", "share"),
        token_rules=True,
    ),
    "lenience": MethodSpec(
        "lenience", "A token stands if it has at least 1 - alpha of the largest probability.", "window", "share"
    ),
    "chow": MethodSpec(
        "Chow", "A token stands if the small model gives it at least 1 - alpha (Chow's rule).", "window", "doubt"
    ),
    "difference": MethodSpec(
        "difference",
        "A token stands if the small model is at most alpha less sure of it than the large one of its own.",
        *("window", "difference"),
    ),
    "relaxed": MethodSpec(
        "relaxed",
        "A token stands among the top probabilities and at most alpha below the largest (TensorRT-LLM).",
        *("window", "loss"),
        thresholds={"alpha": 0.6, "top": 10},
    ),
    "oracle": MethodSpec(
        "oracle", "An upper bound: drafts end just before the first token that would be rejected.", "oracle", "nll"
    ),
    "calm": MethodSpec(
        "CALM",
        "The large model alone, each token from the first layer sure enough (Schuster et al., NeurIPS 2022).",
        exits=True,
        engines=("fused",),
    ),
}
"""Every method by name."""


_NATS = "the rollback threshold is a negative log-likelihood in nats (inf never rolls back),"


@dataclass
class ThresholdConfig:
    """Thresholds; None takes the method's own default, see `USUAL`."""

    fb: float | None = number(None, 0, 1, what="the fallback threshold is a probability,")
    """Fallback: a probability. Given to a method whose drafts have a fixed window, it stops them at an unsure token."""
    rb: float | None = number(None, 0, math.inf, what=_NATS)
    """Rollback: a negative log-likelihood in nats; inf never rolls back."""
    exit: float | None = number(None, 0, 1, what="the confidence from which a token is written early is a share,")
    """CALM: the confidence from which a token is written early."""
    alpha: float | None = number(None, 0, 1, what="what a drafted token may lose is a probability or a share,")
    """Cascades and lenience: the loss that a drafted token may bring, a probability or a share of one."""
    top: int | None = number(None, 1, 10**6)
    """The highest rank at which a drafted token stands."""

    def __post_init__(self) -> None:
        check_fields("threshold", self)


@dataclass
class MethodConfig:
    """A method and its switches. A switch that is None takes the value of the method, or of its `rules`."""

    name: str = word("bild", METHODS)
    rules: str = word("paper", RULES)
    max_draft: int | str = number(MAX_DRAFT, 1, 1024)
    """The most tokens of one draft; "auto" takes the limit that pays best by costs measured at the start."""
    first: str | None = word(None, ("large", "small"))
    after_rollback: str | None = word(None, ("large", "small"))
    scan: str | None = word(None, ("first", "all"))
    unsure: str | None = word(None, ("drop", "verify"))
    verify_eos: bool | None = None
    confidence: str = word("state", CONFIDENCES)
    decay: float | None = number(DEFAULT_DECAY, 0, 1000)
    min_layers: int = number(1, 1, 1000)
    rule: str | None = word(None, TOKEN_RULES)
    """A cascade's keep rule by the name of its token rule."""
    stop: str | None = word(None, STOPS)
    keep: str | None = word(None, KEEPS)

    def __post_init__(self) -> None:
        check_fields("method", self)
        if self.stop == AUTO:
            self.stop, self.max_draft = None, AUTO
        self._check_limit()

    def _check_limit(self) -> None:
        if not isinstance(self.max_draft, int) and self.max_draft != AUTO:
            raise BildError(
                f"method.max_draft={self.max_draft} is not a draft limit: give a whole number, 1 or more, or auto."
            )
        if self.max_draft == AUTO and (self.stop or self.spec.stop) == "adaptive":
            raise BildError(
                f"method={self.name} learns its window by itself, so max_draft=auto has no place in it: "
                "give the whole number that it begins with."
            )

    @property
    def spec(self) -> MethodSpec:
        """Its entry in the table."""
        return METHODS[self.name]


Setting = tuple[MethodConfig, ThresholdConfig]
"""A method with its switches, and its thresholds."""


def setting(method: str = "bild", **options: Any) -> Setting:
    """Return a method and its thresholds from options of both kinds, such as `keep="share", alpha=0.2`.

    Raises BildError for an option that is unknown, out of range, or of no effect on this method.
    """
    switches, thresholds = split_options(options)
    made, threshold = MethodConfig(method, **switches), ThresholdConfig(**thresholds)
    refuse_unheeded(made, threshold, (name for name, value in options.items() if value is not None))
    return made, threshold


def split_options(options: Mapping[str, Any], where: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the switches and the thresholds among options. BildError for another name, `where` put before it."""
    switches, thresholds = ({f.name for f in dataclasses.fields(kind)} for kind in (MethodConfig, ThresholdConfig))
    known = sorted((switches | thresholds) - {"name"})
    for name in options:
        if name not in known:
            raise BildError(f"{where}{name} is not an option: there are {', '.join(known)}.")
    return (
        {name: value for name, value in options.items() if name in switches},
        {name: value for name, value in options.items() if name in thresholds},
    )


def refuse_unheeded(method: MethodConfig, threshold: ThresholdConfig, given: Iterable[str]) -> None:
    """Raise BildError for an option that would have no effect."""
    heeded = heeds(method, threshold)
    for name in given:
        if name not in heeded:
            raise BildError(
                f"{name} has no effect on method={method.name}{_as_set(method)}: it uses {', '.join(sorted(heeded))}."
                if heeded
                else f"{name} has no effect on method={method.name}, which has no options."
            )


def _as_set(method: MethodConfig) -> str:
    given = [f"{name}={value}" for name in ("stop", "keep") if (value := getattr(method, name)) is not None]
    return f" with {' and '.join(given)}" if given else ""


def heeds(method: MethodConfig, threshold: ThresholdConfig) -> frozenset[str]:
    """Return the names of the switches and thresholds that have an effect."""
    spec = method.spec
    if spec.exits:
        return frozenset(("confidence", "decay", "min_layers", "exit"))
    if spec.stop is None:
        return frozenset()
    stop, keep = rules_named(method, threshold)
    some = {
        "rules": spec.rule_sets,
        "rule": spec.token_rules,
        "scan": keep == "nll",
        "unsure": stop in BY_FB,
        # With a window, fb has an effect because giving it makes the stop rule another one.
        "fb": stop in BY_FB or (stop == "window" and method.stop is None),
        "top": KEEPS[keep].capped,
        KEEPS[keep].threshold: True,
    }
    all_that_draft = ("stop", "keep", "max_draft", "first", "after_rollback", "verify_eos")
    return frozenset((*all_that_draft, *(name for name, heeded in some.items() if name and heeded)))


def rules_named(method: MethodConfig, threshold: ThresholdConfig) -> tuple[str, str]:
    """Return the names of (stop rule, keep rule) of a method that drafts."""
    spec = method.spec
    assert spec.stop is not None
    assert spec.keep is not None
    stop = method.stop or ("unsure" if spec.stop == "window" and threshold.fb is not None else spec.stop)
    return stop, method.keep or (TOKEN_RULES[method.rule] if method.rule and spec.token_rules else spec.keep)


def thresholds_of(method: MethodConfig, threshold: ThresholdConfig) -> dict[str, Any]:
    """Return the thresholds that the method goes by, defaults filled in."""
    spec = method.spec
    if spec.exits:
        names: tuple[str | None, ...] = ("exit",)
    elif spec.stop is None:
        return {}
    else:
        stop, keep = rules_named(method, threshold)
        capped = KEEPS[keep].capped and (threshold.top is not None or "top" in spec.thresholds)
        names = ("fb" if stop in BY_FB else None, KEEPS[keep].threshold, "top" if capped else None)
    defaults = USUAL | dict(spec.thresholds)
    given = ((name, getattr(threshold, name)) for name in names if name is not None)
    return {name: defaults[name] if value is None else value for name, value in given}
