"""Every forward pass of a live decoding, timed: an engine that notes what it was asked and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

from bild.decoding import MakePolicy
from bild.engines import Engine, Summary
from bild.measure.live import Run, run_live


@dataclass(frozen=True)
class Call:
    """One question to an engine: `feed` new positions behind `before` cached ones, then `steps` - 1 more one by one."""

    feed: int
    steps: int
    before: int
    ns: int


@dataclass
class Timed:
    """One text decoded live, with every call of both models in order."""

    setting: str
    source: int
    """Tokens."""
    total_ns: int
    encode_ns: dict[str, int]
    rest_ns: int
    """Of the policy and the driver, between the calls."""
    calls: dict[str, list[Call]]
    small_passes: list[int]
    large_passes: list[int]
    length: int
    """Tokens of the finished text."""


class TimedEngine(Engine):
    """Another engine, with a note of every call."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.name
        self.eos = engine.eos
        self.starts_together = engine.starts_together
        self.calls: list[Call] = []

    @property
    def length(self) -> int:  # type: ignore[override]
        """See `Engine`."""
        return self.engine.length

    def start(self, source: Sequence[int]) -> None:
        """See `Engine.start`."""
        self.engine.start(source)
        self.calls = []

    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`."""
        before = self.engine.length
        began = perf_counter_ns()
        summary = self.engine.step(tokens, want, ranks)
        self.calls.append(Call(len(tokens), 1, before, perf_counter_ns() - began))
        return summary

    def draft(self, tokens: Sequence[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """See `Engine.draft`."""
        before = self.engine.length
        began = perf_counter_ns()
        found = self.engine.draft(tokens, limit, stop_below)
        self.calls.append(Call(len(tokens), len(found[0]), before, perf_counter_ns() - began))
        return found

    def rewind(self, length: int) -> None:
        """See `Engine.rewind`."""
        self.engine.rewind(length)

    def synchronize(self) -> None:
        """See `Engine.synchronize`."""
        self.engine.synchronize()


@dataclass
class Timer:
    """Decodes texts by the very engines that are measured, and keeps the times of all passes."""

    large: Engine
    small: Engine
    start: int
    eos: int
    max_length: int
    texts: list[Timed] = field(default_factory=list)

    def decode(self, name: str, make: MakePolicy, method: str, source: Sequence[int]) -> Run:
        """Decode one text by a policy; `name` is what its setting is called among the times."""
        hands = {
            "large": None if method == "small" else TimedEngine(self.large),
            "small": None if method == "vanilla" else TimedEngine(self.small),
        }
        policy = make(start=self.start, eos=self.eos, max_length=self.max_length)
        run = run_live(policy, source, hands["large"], hands["small"])
        calls = {role: hand.calls if hand else [] for role, hand in hands.items()}
        encode = {role: run.phases_ns[f"encode_{role}"] for role in hands}
        inside = sum(call.ns for own in calls.values() for call in own)
        self.texts.append(
            Timed(
                setting=name,
                source=len(source),
                total_ns=run.total_ns,
                encode_ns=encode,
                rest_ns=run.total_ns - sum(encode.values()) - inside,
                calls=calls,
                small_passes=run.small_passes,
                large_passes=run.large_passes,
                length=len(run.decoded.tokens),
            )
        )
        return run
