"""The live driver: answer a policy with two engines at batch size 1, time every phase, and tell a sample of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import exp
from time import perf_counter_ns
from typing import Any

from bild.config import DecodeConfig
from bild.decoding import Decoded, Draft, Drafted, Policy, Round, Setting, Verified, Write, Written
from bild.decoding.methods import METHODS
from bild.decoding.policies import widest_pass
from bild.engines import CalmEngine, Engine, PassPlan, common_prefix
from bild.errors import BildError
from bild.models import Pair
from bild.results.sample import PhaseTimes, VanillaRun
from bild.results.work import Passes

PHASES = ("encode_large", "encode_small", "small", "large", "rest")


@dataclass
class Run:
    """One example decoded by one method: the text, the time of each phase in ns, and every forward pass."""

    decoded: Decoded
    total_ns: int
    phases_ns: dict[str, int]
    small_passes: list[int] = field(default_factory=list)
    """New positions fed to the small model, pass by pass (its drafts are runs of one-token passes)."""
    large_passes: list[int] = field(default_factory=list)
    ran: dict[str, int] = field(default_factory=dict)
    """Per model: the passes that its engine ran for these, those that nobody asked for included."""
    sums: dict[str, Passes] = field(default_factory=dict)
    """Per model, and "exit" for layers that they share: what the work of the passes follows from."""
    captures: int = 0
    """What the engines compiled or captured meanwhile, which no timed run should."""


@dataclass
class SharedPasses:
    """The passes of an early-exit pair to its exit, which one model goes through for both (`SharedLayers.read`)."""

    text: list[int] = field(default_factory=list)
    shapes: list[tuple[int, int, int]] = field(default_factory=list)

    def note(self, text: list[int], steps: int) -> None:
        """Note what of a text was not there yet: one pass over its beginning, and `steps` of one token behind it."""
        n, begun = common_prefix(self.text, text), len(text) - steps
        if n < begun:
            self.shapes.append((n, begun - n, 0))
        self.shapes += [(at, 1, 0) for at in range(max(n, begun), len(text))]
        if n < len(text):
            self.text = text


@dataclass(eq=False)
class CachedModel:
    """One engine, the tokens that its cache holds, and the time and passes it used."""

    engine: Engine
    source: Sequence[int]
    decode: DecodeConfig | None = None
    lower: SharedPasses | None = None
    """The passes of the first layers, where the models share these."""
    started: bool = False
    fed: list[int] = field(default_factory=list)
    ns: int = 0
    encode_ns: int = 0
    shapes: list[tuple[int, int, int]] = field(default_factory=list)
    """(Cached positions, new ones, those asked for logits) of each pass."""

    def __post_init__(self) -> None:
        self.before = self.engine.passes, self.engine.captured

    def start(self) -> None:
        """Encode the source unless that is done already; a model that is never asked never encodes it."""
        if not self.started:
            began = perf_counter_ns()
            self.engine.start(self.source, self.decode)
            self.engine.synchronize()
            self.encode_ns = perf_counter_ns() - began
            self.started = True

    def _missing(self, prefix: list[int]) -> list[int]:
        """Return the end of `prefix` that the cache lacks: at least its last token, whose prediction is asked for."""
        n = min(common_prefix(self.fed, prefix), len(prefix) - 1)
        if n < self.engine.length:
            self.engine.rewind(n)
        return prefix[n:]

    def _note(self, prefix: list[int], missing: list[int], steps: int, tokens: Sequence[int] = ()) -> None:
        """Note a pass over what lacked of a prefix, and `tokens`, and so many steps of one token behind it."""
        if self.lower is not None:
            self.lower.note(self.fed, steps)
        width, cached = len(missing) + len(tokens), len(prefix) - len(missing)
        self.shapes.append((cached, width, len(tokens) + 1))
        self.shapes += [(len(prefix) + step, 1, 1) for step in range(steps)]

    def draft(self, ask: Draft) -> Drafted:
        """Draft as asked, after feeding what the cache lacks."""
        if ask.oracle is not None:
            raise BildError(
                "stop=oracle cannot be run live: it knows the large model's verdict before the small one has drafted, "
                "which only the replay of a decision tree can (Tree.replay)."
            )
        self.start()
        began = perf_counter_ns()
        feed = self._missing(ask.prefix)
        tokens, probs, stop = self.engine.draft(feed, ask.limit, ask.stop_below)
        self.fed = ask.prefix + tokens[:-1]
        self._note(ask.prefix, feed, len(tokens) - 1)
        self.ns += perf_counter_ns() - began
        return Drafted(tokens, probs, stop)  # type: ignore[arg-type]

    def write(self, ask: Write) -> Written:
        """Write as asked, with early exits (CALM)."""
        self.start()
        began = perf_counter_ns()
        engine = self.engine
        assert isinstance(engine, CalmEngine)
        feed = self._missing(ask.prefix)
        written, stop = engine.write(feed, ask.thresholds, ask.confidence, ask.first_exit)
        tokens = [one.token for one in written]
        self.fed = ask.prefix + tokens[:-1]
        self._note(ask.prefix, feed, len(tokens) - 1)
        self.ns += perf_counter_ns() - began
        if ask.confidence == "softmax":  # the head gave logits behind every layer from the first exit on
            early = zip(self.shapes, written, ask.thresholds, strict=False)
            first = ask.first_exit
            self.shapes = [(n, new, one.layers - first + 1 if at < 1 else 1) for (n, new, _), one, at in early]
        probs, layers = [exp(-one.nll) for one in written], [one.layers for one in written]
        return Written(tokens, probs, stop, layers, engine.layers)  # type: ignore[arg-type]

    def verify(self, prefix: list[int], tokens: list[int], ranks: bool) -> Verified:
        """Run one pass over `tokens` after `prefix`, and report on all of them (`ranks` too, if asked) and the next."""
        self.start()
        began = perf_counter_ns()
        missing = self._missing(prefix)
        verdict = Verified(*self.engine.step(missing + tokens, len(tokens) + 1, ranks))
        self.fed = prefix + tokens
        self._note(prefix, missing, 0, tokens)
        self.ns += perf_counter_ns() - began
        return verdict


def engines_of(pair: Pair, name: str, engine: str) -> tuple[Engine | None, Engine | None]:
    """Return the (large, small) engines that a method asks; None in the place of a model that it never asks."""
    spec = METHODS[name]
    if spec.exits:
        return pair.calm_engine(engine), None
    large = None if spec.author == "small" else pair.engine("large", engine)
    return large, None if spec.author == "large" else pair.engine("small", engine)


def prepare(
    pair: Pair,
    engine: str,
    points: Iterable[Setting],
    sources: Callable[[], Sequence[int]],
    length: int,
    decode: DecodeConfig | None = None,
) -> None:
    """Have both engines make all that these points can meet on sources of such lengths and texts of `length` tokens.

    The large model reads a draft and the token before it, the small one what a large pass wrote and the token before.
    """
    widths, ranks = zip(*(widest_pass(method, threshold, length) for method, threshold in points), strict=True)
    pair.engine("large", engine).prepare(PassPlan(length, sources, max(widths), any(ranks), decode))
    pair.engine("small", engine).prepare(PassPlan(length, sources, 2, decode=decode))


def gap_between(pair: Pair, engine: str, source: Sequence[int], text: list[int], other: list[int]) -> float | None:
    """Return by how many nats the large model prefers the token of `text` where `other` first differs; None if equal.

    Both are read by the engine that decodes, a token at a time: no pass is wider than those that it prepared.
    """
    if text == other:
        return None
    model, n = CachedModel(pair.engine("large", engine), source), common_prefix(text, other)
    for end in range(1, n):
        model.verify(text[:end], [], False)
    own, others = (model.verify(text[:n], each[n : n + 1] or [pair.eos], False).token_nll[0] for each in (text, other))
    return others - own


def run_live(
    policy: Policy,
    source: Sequence[int],
    large: Engine | None,
    small: Engine | None,
    decode: DecodeConfig | None = None,
) -> Run:
    """Decode one source by a policy, from its token ids to its finished text, encoders included.

    `decode` says how both models choose tokens, greedily without.

    A model encodes the source when it is first asked; a text that never asks it does without. Two models with
    one encoder start together. `vanilla` passes small=None, `small` large=None.
    """
    began = perf_counter_ns()
    engines = {"large": large, "small": small}
    shared = small is not None and small.starts_together and small.reads is None
    lower = SharedPasses() if shared else None
    models = {n: CachedModel(engine, source, decode, lower) for n, engine in engines.items() if engine is not None}
    if any(model.engine.starts_together for model in models.values()):
        for model in models.values():
            model.start()
    try:
        ask = next(policy)
        while True:
            if isinstance(ask, Draft):
                ask = policy.send(models[ask.author].draft(ask))
            elif isinstance(ask, Write):
                ask = policy.send(models["large"].write(ask))
            else:
                ask = policy.send(models["large"].verify(ask.prefix, ask.tokens, ask.ranks))
    except StopIteration as stop:
        decoded: Decoded = stop.value
    total = perf_counter_ns() - began
    phases = {f"encode_{name}": model.encode_ns for name, model in models.items()}
    phases |= {name: model.ns for name, model in models.items()}
    phases = {name: phases.get(name, 0) for name in PHASES if name != "rest"}
    phases["rest"] = total - sum(phases.values())
    passes = {name: [new for _, new, _ in model.shapes] for name, model in models.items()}
    ran = {name: model.engine.passes - model.before[0] for name, model in models.items()}
    captures = max(model.engine.captured - model.before[1] for model in models.values())
    sums = {name: Passes.of(model.shapes) for name, model in models.items()}
    sums |= {"exit": Passes.of(lower.shapes)} if lower is not None else {}
    return Run(decoded, total, phases, passes.get("small", []), passes.get("large", []), ran, sums, captures)


def run_fields(run: Run, target_limit: int, eos: int) -> dict[str, Any]:
    """Return what a `Sample` says of a run beside its text: tokens, times and counts."""
    tokens = run.decoded.tokens
    return {
        "tokens": tokens,
        "ns": PhaseTimes(run.total_ns, **run.phases_ns),
        "reached_limit": len(tokens) >= target_limit and tokens[-1] != eos,
        "small_passes": len(run.small_passes),
        "small_positions": sum(run.small_passes),
        "large_passes": len(run.large_passes),
        "large_positions": sum(run.large_passes),
        "large_widths": dict(sorted(Counter(run.large_passes).items())),
        "small_passes_run": run.ran.get("small", 0),
        "large_passes_run": run.ran.get("large", 0),
        "captures": run.captures,
        **{f"{name}_sums": sums for name, sums in run.sums.items()},
        **count_rounds(run.decoded.rounds),
        **({"layers": run.decoded.layers, "depth": run.decoded.depth} if run.decoded.depth else {}),
    }


def vanilla_run(run: Run, text: str) -> VanillaRun:
    """Return what a `Sample` says of its baseline."""
    return VanillaRun(run.decoded.tokens, run.total_ns, text, run.ran["large"], run.captures)


def count_rounds(rounds: list[Round]) -> dict[str, int]:
    """Count the fates of drafts. A dropped unsure token was never drafted; a rollback throws away its draft's rest."""
    drafted = sum(len(r.drafted) for r in rounds)
    kept = sum(r.kept for r in rounds)
    return {
        "rounds": len(rounds),
        "drafted": drafted,
        "kept": kept,
        "rejected": drafted - kept,
        "fallbacks": sum(r.stop == "unsure" for r in rounds),
        "full_drafts": sum(r.stop == "limit" for r in rounds),
        "rollbacks": sum(r.rollback for r in rounds),
    }


def trace(rounds: list[Round]) -> list[dict[str, Any]]:
    """Return the rounds as JSON, probabilities and nlls to six digits (for people: replays read the tree)."""
    return [
        each._asdict()
        | {"probs": _short(each.probs), "token_nll": _short(each.token_nll), "drafted": list(each.drafted)}
        for each in rounds
    ]


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
