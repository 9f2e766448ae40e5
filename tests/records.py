"""Made-up but plausible records for tests: one with `make_record`, a small sweep with `make_sweep`.

The sweep follows the paper's IWSLT2017 figures (aligned pair) in its qualities and speedups.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from bild.config import METHODS, MethodConfig, ThresholdConfig
from bild.decoding import settings
from bild.decoding.policies import label
from bild.results import SCHEMA_VERSION, Interval, Method, Record, Threshold
from bild.results.interval import Difference, Score
from bild.results.parts import (
    Baseline,
    Counts,
    EngineRecord,
    Intervals,
    Latency,
    Library,
    ModelRecord,
    PairRecord,
    Percentile,
    Percentiles,
    Phases,
    Quality,
    SessionPace,
    Speedup,
    Stationarity,
    Task,
)
from bild.results.sample import PhaseTimes, Sample, VanillaRun
from bild.results.work import PassWork, TextsWork, Work

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
VANILLA_QUALITY = 40.33
VANILLA_SECONDS = 250.0
LIBRARY_SECONDS = 30.0  # for its 32 examples
TOKENS = 25_800

# method, fb, rb, draft limit, speedup, quality, fallback %, rollback %
SWEEP: list[tuple[str, float | None, float | None, int | None, float, float, float, float]] = [
    ("vanilla", None, None, None, 1.0, 40.33, 0.0, 0.0),
    ("small", None, None, None, 2.61, 35.62, 0.0, 0.0),
    ("speculative", None, None, 10, 1.21, 40.33, 0.0, 8.9),
    ("bild", 0.9, 2.0, 10, 1.53, 40.38, 19.0, 1.0),
    ("bild", 0.9, 3.0, 10, 1.62, 40.24, 18.9, 0.65),
    ("bild", 0.8, 2.0, 10, 1.57, 39.88, 13.1, 1.48),
    ("bild", 0.8, 3.0, 10, 1.64, 40.12, 13.2, 0.82),
    ("bild", 0.7, 3.0, 10, 1.70, 39.59, 9.4, 1.06),
    ("bild", 0.7, 4.0, 10, 1.73, 39.59, 9.3, 0.73),
    ("bild", 0.6, 2.0, 10, 1.60, 39.61, 6.0, 2.33),
    ("bild", 0.6, 4.0, 10, 1.78, 39.13, 5.9, 0.97),
    ("bild", 0.6, 5.0, 10, 1.79, 38.88, 5.9, 0.65),
    ("bild", 0.5, 5.0, 10, 1.84, 38.43, 3.0, 0.8),
]


def make_record(**changes: Any) -> Record:
    """A record of BiLD at (0.6, 2) that is valid as it is.

    A change names a field of the record, or one further in with two underscores between the names:
    `make_record(engine__dtype="fp16", threshold=Threshold(0.5, math.inf))`. Label and hash follow from method,
    thresholds and engine unless they are changed themselves.
    """
    record = _base()
    for name, value in changes.items():
        record = _replace(record, name.split("__"), value)
    if "label" not in changes:
        record = dataclasses.replace(record, label=label(record.method, record.threshold))
    if "hash" not in changes:
        settings = (record.task, record.pair, record.method, record.threshold, record.engine)
        record = dataclasses.replace(record, hash=hashlib.sha256(repr(settings).encode()).hexdigest())
    return record


def make_sweep(**changes: Any) -> list[Record]:
    """Vanilla, small, speculative and ten BiLD points that may be compared; `changes` apply to each of them."""
    return [make_point(*row, **changes) for row in SWEEP]


def make_point(
    method: str,
    fb: float | None,
    rb: float | None,
    max_draft: int | None,
    speedup: float,
    quality: float,
    fallback: float,
    rollback: float,
    **changes: Any,
) -> Record:
    """One point with its thresholds, speedup and quality; rates in percent of the generated tokens."""
    alone = method in ("vanilla", "small")
    vanilla = method == "vanilla"
    seconds = VANILLA_SECONDS / speedup
    near = 0.0 if vanilla else 0.011 * speedup
    gap = 0.0 if quality == VANILLA_QUALITY else 0.06 + 0.12 * abs(quality - VANILLA_QUALITY)
    difference = quality - VANILLA_QUALITY
    over_library = speedup * LIBRARY_SECONDS / (VANILLA_SECONDS * 32 / 888)
    made: dict[str, Any] = {
        "method": made_method(method, max_draft),
        "threshold": Threshold(fb, rb),
        "quality": Quality(
            "bleu",
            {"bleu": Score(quality, quality - 0.91, quality + 0.94, SIGNATURE)},
            None if vanilla else {"bleu": made_difference(difference, difference - gap, difference + gap * 0.95)},
            *(888, "live", "d1" * 32, 0),
        ),
        "latency__seconds": seconds,
        "latency__ms_per_example": Interval(seconds / 888e-3, seconds / 888e-3 * 0.97, seconds / 888e-3 * 1.03),
        "latency__ms_per_token": seconds / TOKENS * 1e3,
        "latency__speedup": Speedup(
            Interval(speedup, speedup - near, speedup + near),
            Interval(speedup * 0.99, speedup * 0.99 - near, speedup * 0.99 + near),
        ),
        "latency__library": Library(
            32, LIBRARY_SECONDS, 32.1, Interval(over_library, over_library * 0.96, over_library * 1.04)
        ),
        "counts__large_passes": 0 if method == "small" else TOKENS if vanilla else 4650,
        "counts__fallback_rate": fallback / 100,
        "counts__rollback_rate": rollback / 100,
        "counts__tokens_per_large_pass": 1.0 if vanilla else 0.0 if alone else 100 / (fallback + rollback + 6),
    }
    return make_record(**(made | changes))


def made_difference(value: float, low: float, high: float) -> Difference:
    """A paired difference with these two-sided ends, each side a normal one."""
    part = 1.6449 / 1.96
    sd = (high - low) / 3.92
    return Difference(value, low, high, value - (value - low) * part, value + (high - value) * part, sd)


def made_method(name: str, max_draft: int | str | None = None) -> Method:
    """A method as it is recorded, all switches resolved; a name that is unknown has none."""
    given = {} if max_draft is None else {"max_draft": max_draft}
    at = ThresholdConfig(fb=0.6) if name == "bild" else ThresholdConfig()
    found = settings(MethodConfig(name, **given), at) if name in METHODS else {"name": name}  # type: ignore[arg-type]
    return Method(**{field.name: found.get(field.name) for field in dataclasses.fields(Method)})


def _base() -> Record:
    def model(name: str, parameters: int) -> ModelRecord:
        return ModelRecord(f"example/{name}", "0123abc", hashlib.sha256(name.encode()).hexdigest(), parameters)

    return Record(
        schema=SCHEMA_VERSION,
        hash="",
        label="",
        task=Task(
            name="iwslt2017",
            kind="translation-de-en",
            split="validation",
            metric="bleu",
            source_limit=1024,
            target_limit=128,
            prompt="",
            data={"hash": "d1" * 32, "revision": "0f3e", "total": 888, "samples": None, "seed": 0, "where": "the hub"},
        ),
        pair=PairRecord("mt5-aligned", model("large", 664_600_000), model("small", 153_000_000), "example/large"),
        method=made_method("bild", 10),
        threshold=Threshold(0.6, 2.0),
        engine=EngineRecord("fused", "fp32", "cuda", 1),
        intervals=Intervals(0.95),
        quality=Quality(
            "bleu",
            {"bleu": Score(39.61, 38.70, 40.55, SIGNATURE)},
            {"bleu": made_difference(-0.72, -0.87, -0.58)},
            *(888, "live", "d1" * 32, 0),
        ),
        latency=Latency(
            examples=888,
            tokens=TOKENS,
            seconds=156.25,
            ms_per_example=Interval(175.95, 170.7, 181.2),
            ms_per_token=6.056,
            phases=Phases(8.1, 4.4, 82.0, 58.9, 2.85),
            speedup=Speedup(Interval(1.6, 1.58, 1.62), Interval(1.58, 1.565, 1.6)),
            baseline=Baseline(VANILLA_SECONDS, 25_820, 281.5, 9.68),
            library=Library(32, LIBRARY_SECONDS, 32.1, Interval(5.32, 5.1, 5.55)),
            stationarity=Stationarity(0.004, None),
            sessions=[SessionPace(1, 888, 9.68, 1.6, 1.0, 0.4)],
            between=None,
            percentiles=Percentiles(
                {
                    "p50": Percentile(160.0, 150.0, 171.0),
                    "p90": Percentile(300.0, 280.0, 330.0),
                    "p99": Percentile(520.0, 450.0, None),
                },
                {
                    "p50": Percentile(256.0, 240.0, 273.0),
                    "p90": Percentile(480.0, 450.0, 530.0),
                    "p99": Percentile(830.0, 720.0, None),
                },
            ),
        ),
        counts=Counts(
            tokens=TOKENS,
            examples=888,
            rounds=4700,
            small_passes=26_300,
            large_passes=4650,
            small_positions=26_900,
            large_positions=29_400,
            large_widths={1: 210, 4: 1203, 11: 3237},
            drafted=23_900,
            kept=21_150,
            fallbacks=1548,
            full_drafts=2101,
            rollbacks=601,
            rejected=2750,
            tokens_per_large_pass=5.548,
            fallback_rate=0.06,
            rollback_rate=0.0233,
            truncated_sources=0,
            reached_limit=2,
        ),
        environment={
            "machine": {"fingerprint": "9ab1c2", "name": "NVIDIA T4, 4 cores", "driver": "550.54"},
            "packages": {"bild-bench": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "matplotlib": "3.11.2"},
            "python": "3.11.7",
            "git": {"sha": "4f2a9c1d0b7e", "dirty": False},
            "load": 0.4,
        },
        sessions=1,
        created="2025-01-02T03:04:05+00:00",
        seconds=431.0,
        work=Work(
            TextsWork(PassWork(10**9, 10**10), PassWork(10**11, 10**12), PassWork(10**12, 5 * 10**12)),
            TextsWork(PassWork(9**9, 9**10), PassWork(0, 0), PassWork(4 * 10**12, 5 * 10**12)),
        ),
    )


def _replace(thing: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    if isinstance(thing, dict):
        return {**thing, name: _replace(thing[name], rest, value) if rest else value}
    return dataclasses.replace(thing, **{name: _replace(getattr(thing, name), rest, value) if rest else value})


def make_sample(**changes: Any) -> Sample:
    """One finished example; `changes` replace its fields."""
    made = Sample(
        id="a",
        index=0,
        session=1,
        source_tokens=9,
        truncated=False,
        tokens=[0, 5, 6, 1],
        text="A dog runs.",
        ns=PhaseTimes(100, 10, 5, 50, 25, 10),
        reached_limit=False,
        small_passes=5,
        small_positions=6,
        large_passes=2,
        large_positions=7,
        large_widths={1: 1, 6: 1},
        rounds=2,
        drafted=5,
        kept=4,
        rejected=1,
        fallbacks=1,
        full_drafts=1,
        rollbacks=1,
        baseline=VanillaRun([0, 5, 6, 1], 200, "A dog ran."),
        library=None,
    )
    return dataclasses.replace(made, **changes)
