"""A session: from a configuration to the finished records of its points, resuming what an earlier one left."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bild.config import MethodConfig, RunConfig, ThresholdConfig
from bild.decoding import settings
from bild.decoding.methods import USED, paced
from bild.engines.kernels import kernels_told
from bild.errors import BildError
from bild.measure.aggregate import counts_of, latency_of, quality_and_joint
from bild.measure.environment import busy_warning, describe, state
from bild.measure.interleave import Bench, Setting, Subject
from bild.models import Pair, PairSpec, load, resolve_device
from bild.progress import track
from bild.results import (
    SCHEMA_VERSION,
    Engine,
    Intervals,
    Method,
    Model,
    Point,
    PointFolder,
    Record,
    Task,
    Threshold,
    config_hash,
    label,
)
from bild.results import Pair as PairRecord
from bild.results.locking import device_lock
from bild.tasks import Dataset, load_task

_loaded: dict[tuple[Any, ...], Pair] = {}
"""The last pair, so that a multirun over thresholds loads it once."""


def measure_points(config: RunConfig, points: Sequence[tuple[MethodConfig, ThresholdConfig]]) -> list[Point]:
    """Measure points of one task, pair and engine side by side, and return all of them as records.

    Finished points are read back, half-done ones go on; `config.resume=false` starts all anew.
    """
    data = load_task(config.task)
    device = resolve_device(config.engine.device)
    torch.set_num_threads(config.engine.threads)
    spec = PairSpec.of_run(config)
    environment = describe(device)
    shared = shared_identity(config, spec, data, environment, str(device))
    with ExitStack() as stack:
        subjects = [open_subject(stack, config, shared, method, threshold) for method, threshold in points]
        if not config.resume:
            for subject in subjects:
                subject.folder.clear()
        for subject in subjects:
            _announce(subject, len(data.examples))
        pending = [subject for subject in subjects if subject.folder.record() is None]
        if pending:
            pair = load_once(spec, shared["pair"])
            now = state(device)
            warning = busy_warning(now)
            if warning:
                print(f"warning: {warning}", file=sys.stderr)
            warnings: set[str | None] = set()
            with device_lock(str(device)):
                _measure(config, pair, data, pending)
            for subject in pending:
                record = make_record(config, pair, data, subject, environment | {"state": now, "busy": warning}, shared)
                subject.folder.finish(record)
                warnings.add(record.latency.stationarity.warning)
            for text in sorted(filter(None, warnings)):
                print(f"warning: {text}", file=sys.stderr)
        return [Point(s.folder.path, s.folder.record() or _unfinished(s)) for s in subjects]


def _measure(config: RunConfig, pair: Pair, data: Dataset, pending: list[Subject]) -> None:
    task = config.task
    if pair.tokenizer is None:
        raise BildError(
            f"The pair {pair.name} has no tokenizer, and task={task.name} is text: "
            "give model.tokenizer=..., a folder or a hub id."
        )
    setting = Setting(pair, config.engine.name, task.prompt, task.source_limit, task.target_limit, config.measure)
    session = 1 + max((s["session"] for subject in pending for s in subject.folder.samples()), default=0)
    missing = max(len(data.examples) - len(subject.folder.samples()) for subject in pending)
    done = Bench(setting).measure(data.examples, pending, session)
    for _ in track(done, missing, f"{task.name}, {len(pending)} point{'s' * (len(pending) > 1)}"):
        pass


def shared_identity(
    config: RunConfig, spec: PairSpec, data: Dataset, environment: dict[str, Any], device: str
) -> dict[str, Any]:
    """All that can change a token, a score or a time, but for the method and its thresholds."""
    task = config.task
    return {
        "schema": SCHEMA_VERSION,
        "task": {
            "name": task.name,
            "prompt": task.prompt,
            "source_limit": task.source_limit,
            "target_limit": task.target_limit,
            "metric": task.metric,
            "data": data.provenance["hash"],
        },
        "pair": spec.fingerprints(),
        "engine": dataclasses.asdict(config.engine) | {"device": device},
        "measure": dataclasses.asdict(config.measure),
        "machine": environment["machine"]["fingerprint"],
        "packages": environment["packages"],
        "python": environment["python"],
    }


def open_subject(
    stack: ExitStack, config: RunConfig, shared: dict[str, Any], method: MethodConfig, threshold: ThresholdConfig
) -> Subject:
    """The folder of a point, made or reopened, and held until the stack ends; `shared` is all else of its identity."""
    resolved = settings(method, threshold)
    used = {name: getattr(threshold, name) for name in USED[method.name]["threshold"]}
    digest = config_hash(shared | {"method": resolved, "threshold": used})
    plain = dataclasses.asdict(dataclasses.replace(config, method=method, threshold=threshold))
    folder = PointFolder.open(
        Path(config.results), config.task.name, config.model.pair_name, label(method, threshold), digest, plain
    )
    return Subject(method, threshold, stack.enter_context(folder))


def _announce(subject: Subject, total: int) -> None:
    path = subject.folder.path
    if subject.folder.record() is not None:
        print(f"{path} is finished; this is its record (resume=false measures it again)", file=sys.stderr)
    elif done := len(subject.folder.samples()):
        print(f"{path} has {done} of {total} examples; going on from there", file=sys.stderr)


def _unfinished(subject: Subject) -> Record:
    raise BildError(f"{subject.folder.path} has no record although it was measured: run the command again.")


def load_once(spec: PairSpec, identity: dict[str, Any]) -> Pair:
    """Load a pair; the last one is kept, for the next point of a multirun. `identity` has its fingerprints."""
    key = (spec, *identity.values())
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load(spec)
    return _loaded[key]


def make_record(
    config: RunConfig, pair: Pair, data: Dataset, subject: Subject, environment: dict[str, Any], shared: dict[str, Any]
) -> Record:
    """The record of a point whose folder has all examples of `data`, perhaps among others."""
    task, measure, method = config.task, config.measure, subject.method
    by_id = {sample["id"]: sample for sample in subject.folder.samples()}
    samples = [by_id[example.id] for example in data.examples]
    switches: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Method))
    used = USED[method.name]["threshold"]
    quality, joint = quality_and_joint(samples, [example.reference for example in data.examples], task.metric, measure)
    timed = [s["ns"]["total"] + s["baseline"]["ns"] + (s["library"] or {"ns": 0})["ns"] for s in samples]
    return Record(
        schema=SCHEMA_VERSION,
        hash=subject.folder.digest,
        label=label(method, subject.threshold),
        task=Task(
            name=task.name,
            kind=task.kind,
            split=task.split,
            metric=task.metric,
            source_limit=task.source_limit,
            target_limit=task.target_limit,
            prompt=task.prompt,
            data=data.provenance,
        ),
        pair=PairRecord(
            name=config.model.pair_name,
            large=Model(**pair.large.describe()),
            small=Model(**pair.small.describe()),
            tokenizer=pair.tokenizer_name or "",
        ),
        method=Method(**(switches | settings(method, subject.threshold))),
        threshold=Threshold(**({"fb": None, "rb": None} | {name: getattr(subject.threshold, name) for name in used})),
        engine=Engine(config.engine.name, config.engine.dtype, shared["engine"]["device"], config.engine.threads),
        intervals=Intervals(measure.confidence, measure.draws, measure.seed),
        quality=quality,
        latency=latency_of(samples, measure),
        counts=counts_of(samples),
        environment=environment
        | {"kernels": kernels_told(config.engine.name, shared["engine"]["device"], config.engine.dtype)},
        sessions=len({sample["session"] for sample in samples}),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=sum(timed) / 1e9,
        joint=joint,
        draft_costs=subject.folder.draft_costs() if paced(method) else None,
    )
