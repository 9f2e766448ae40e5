"""The plan of a sweep in numbers: its points and examples, what is done and what is to do, time, disk and memory.

It needs neither data nor checkpoints: sizes and lengths come with the configuration, times from an earlier sweep on
this machine or, without one, from a probe of how fast it reads and multiplies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bild.config import Checkpoints, ShapeConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.decoding.policies import writes_vanilla
from bild.errors import BildError
from bild.measure.environment import describe, uuid_of
from bild.measure.interleave import Measurement
from bild.metrics.claims import examples_needed
from bild.metrics.speedup import width_of
from bild.models import EMBEDDED, resolve_device
from bild.models.pair_spec import checkpoints_of
from bild.models.shapes import Need
from bild.results.locking import device_lock
from bild.results.prices import PRICES, read_prices
from bild.sweep.config import Goal, LengthConfig, SweepConfig
from bild.sweep.context import Stored, SweepWork, look_into, results_folder
from bild.sweep.estimates import (
    Span,
    examples_of,
    large_sizes,
    lengths_of,
    needs_of,
    planned,
    probe,
    taken_before,
    text_ms,
)
from bild.sweep.grid import GRID, SweptPoint, vanilla_point

PROBE_SLACK = (1.2, 2.5)
"""An engine takes this many times the least that the probe says (`python -m bild.bench` measures it)."""
_PROBE_TEXTS, _PROBE_BYTES = 8, 1 << 30
"""Texts that are decoded where a pair is local whose large model is no larger than this."""
_NODES_A_TOKEN, _NODE_BYTES = 6, 40
_SAMPLE_BYTES = 2500
_SD = 9.0
"""Points per example by which a method's texts differ from vanilla's in score, where nothing is known."""
_BETWEEN = 0.02
"""Of the log of a speedup, between processes on a quiet machine (docs/claims.md)."""


@dataclass(frozen=True)
class ClaimSize:
    """The examples that a claim takes where the method is as good as vanilla, at a chance of 80 % to show it."""

    margin: float
    sd: float
    """Of the difference, in points per example."""
    source: str
    examples: int | None


@dataclass(frozen=True)
class SessionWidth:
    """What several processes can know of a speedup, however many examples they time."""

    count: int
    between: float
    """Standard deviation of the log of a speedup between processes."""
    source: str

    @property
    def width(self) -> float:
        """The half-width of the interval that is left, relative; infinite for one process, which cannot know it."""
        return width_of(self.count, self.between)


@dataclass(frozen=True)
class Plan:
    """Everything that a sweep would do and take, by what is there already; the rest is estimated."""

    config: SweepConfig
    points: Sequence[SweptPoint]
    machine: str
    """Its fingerprint."""
    stored: Stored
    examples: int
    """In the tree."""
    examples_source: str
    lengths: LengthConfig
    lengths_source: str
    measured: int
    """Points that are measured live."""
    text: tuple[Span, str] | None
    """Seconds of one text by vanilla decoding, and the source of that; None where nothing tells the pair's size."""
    learned: int
    """Stages of earlier sweeps that the times go by; 0: they are guesses."""
    stages: dict[str, Span]
    """The time of each stage; empty where that of a text is not known."""
    needs: dict[str, Need]
    """The bytes on the device by dtype, the chosen one first; empty where nothing tells how large the pair is."""

    @classmethod
    def of(cls, config: SweepConfig, points: Sequence[SweptPoint], shapes: Mapping[str, ShapeConfig]) -> Plan:
        """Plan a sweep over these points; `shapes` are those of published checkpoints, by name.

        Runs nothing longer than a probe of the machine, where nothing else tells how long a text takes. BildError
        where the pair does not fit, or no size of the split is known.
        """
        checkpoints, goal = checkpoints_of(config), config.goal
        machine = str(describe(resolve_device(config.engine.device))["machine"]["fingerprint"])
        stored = look_into(results_folder(config), machine)
        examples, examples_source = examples_of(config.task)
        lengths, lengths_source = lengths_of(config)
        live, front = sum(point.origin == GRID and point.live for point in points), config.sweep.front
        measured = sum(point.origin != GRID for point in points) + (live if front < 0 else min(front, live))
        confirmed, tried = None, 0
        if goal is not None:
            measured, confirmed, tried = 1 + _wanted(config, goal), _confirmed_on(config, examples), len(points)
            examples -= confirmed if config.task.confirm is None or config.sweep.share is not None else 0
        text = _known(config, stored, machine, lengths) or _probed(config, checkpoints, lengths, shapes)
        known = taken_before(config.results, machine, config.engine.name)
        counts = {"examples": examples, "measured": measured, "tried": tried}
        return cls(
            config=config,
            points=points,
            machine=machine,
            stored=stored,
            examples=examples,
            examples_source=examples_source,
            lengths=lengths,
            lengths_source=lengths_source,
            measured=measured,
            text=text,
            learned=len(known),
            stages={} if text is None else planned(config, text[0], known, confirmed=confirmed, **counts),
            needs=needs_of(config, checkpoints, shapes),
        )

    @property
    def tree_bytes(self) -> int:
        """Bytes of the tree on the disk."""
        return self.examples * self.lengths.target * _NODES_A_TOKEN * _NODE_BYTES

    @property
    def samples_bytes(self) -> int:
        """Bytes of the measured examples on the disk, at most."""
        return self.measured * self.examples * _SAMPLE_BYTES

    @property
    def ungrown(self) -> float:
        """Return the share of the examples that no tree reaches as far as the points go."""
        return self.stored.ungrown(self.config, self.points, self.examples)

    @property
    def left(self) -> Sequence[SweptPoint]:
        """Return the points that are not measured yet, on all examples."""
        there = self.stored.measured_as(self.config, self.examples)
        return [point for point in self.points if point.recorded() not in there]

    @property
    def finished(self) -> bool:
        """Tell whether the sweep is there."""
        return self.stored.has_sweep(self.config, self.points, self.examples)

    @property
    def claim(self) -> ClaimSize:
        """The examples that a claim takes, by what earlier sweeps saw of how differences vary."""
        seen = [
            point.difference.sd * math.sqrt(sweep.examples)
            for sweep in self.stored.sweeps
            for point in sweep.points
            if point.front and point.difference is not None and point.difference.sd > 0
        ]
        sd, source = (median(seen), "an earlier sweep's front") if seen else (_SD, "an assumption")
        goal, measure = self.config.goal, self.config.measure
        margin = goal.bound if goal is not None and goal.wanted != "quality" else measure.margin
        return ClaimSize(margin, sd, source, examples_needed(sd, margin, 0.0, measure.confidence))

    @property
    def sessions(self) -> SessionWidth:
        """The width that is left of a speedup's interval, by what sessions of this machine differed by."""
        seen = [each for each in self.stored.between if each > 0]
        between, source = (median(seen), "points measured here") if seen else (_BETWEEN, "an assumption")
        return SessionWidth(self.config.measure.sessions, between, source)


def _wanted(config: SweepConfig, goal: Goal) -> int:
    """Return at most how many settings a search confirms."""
    if goal.wanted == "methods":
        names = config.sweep.methods or [config.method.name]
        bases = [dataclasses.replace(config.method, name=name) for name in names]
        return sum(1 if writes_vanilla(base, ThresholdConfig()) else len(goal.margins) for base in bases)
    return max(1, config.sweep.front) if goal.wanted == "front" else 1


def _confirmed_on(config: SweepConfig, examples: int) -> int:
    """Return on how many of the examples a search confirms, as far as that is known without the data.

    BildError where they would be those that it chooses on.
    """
    task, share = config.task, config.sweep.share
    if task.confirm == task.split and config.sweep.choose in (None, task.split):
        raise BildError(
            f"task.confirm={task.confirm} is the split that is chosen on: confirm on another, or set "
            "sweep.choose=0.5 to choose on one half of it and confirm on the other."
        )
    if share is not None or task.confirm is None:
        return examples - math.ceil((share or 0.5) * examples)
    return examples_of(dataclasses.replace(task, split=task.confirm))[0]


def _known(config: SweepConfig, stored: Stored, machine: str, lengths: LengthConfig) -> tuple[Span, str] | None:
    """Return (seconds of one vanilla text, how that is known) from what was measured here before."""
    engine = config.engine
    for sweep in stored.sweeps:
        if (sweep.engine.name, sweep.engine.dtype) == (engine.name, engine.dtype):
            for point in sweep.points:
                if point.method.name == "vanilla":
                    return Span.of(point.seconds.mean), "an earlier sweep on this machine"
    for tree in stored.trees:
        if (tree / PRICES).is_file():
            prices = read_prices(tree / PRICES)
            found = prices.identity.get("machine"), prices.identity.get("engine", {}).get("name")
            if found == (machine, engine.name):
                seconds = prices.seconds(lengths.source, [], [1] * lengths.target)
                return Span.of(seconds), "prices that were calibrated on this machine"
    return None


def _probed(
    config: SweepConfig, checkpoints: Checkpoints, lengths: LengthConfig, shapes: Mapping[str, ShapeConfig]
) -> tuple[Span, str] | None:
    """Return the same by a few texts or by a probe of the machine; None where nothing tells the pair's size."""
    if (decoded := decoded_probe(config, checkpoints)) is not None:
        return Span.of(decoded), f"{_PROBE_TEXTS} texts decoded just now"
    sizes = large_sizes(checkpoints, shapes)
    if sizes is None:
        return None
    gb_per_s, gflop_per_s = probe(config, sizes)
    least = text_ms(sizes, lengths, config.engine.dtype, gb_per_s, gflop_per_s) / 1e3
    how = f"a probe of this machine: it reads {gb_per_s:.1f} GB/s and multiplies {gflop_per_s:.0f} GFLOP/s"
    return Span.of(least).times(*PROBE_SLACK), how


def decoded_probe(config: SweepConfig, checkpoints: Checkpoints) -> float | None:
    """Return a text's seconds by vanilla decoding, where the pair and the data are local and small; else None."""
    folder = EMBEDDED / "large" if checkpoints.large == "embedded" else Path(checkpoints.large).expanduser()
    files = list(folder.glob("*.safetensors"))
    if not files or sum(file.stat().st_size for file in files) > _PROBE_BYTES or config.task.data == "hub":
        return None
    work = SweepWork(config)
    texts = work.queue[:_PROBE_TEXTS]
    measurement = Measurement(work.pair, config.engine.name, config.task, config.measure, config.decode)
    make = policy_for(*vanilla_point().setting)
    with device_lock(uuid_of(work.device)):  # the first text warms up
        runs = [measurement.decode(make, "vanilla", work.source(example)) for example in [texts[0], *texts]]
    return sum(run.total_ns for run in runs[1:]) / len(texts) / 1e9
