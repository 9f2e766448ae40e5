"""A session: from a configuration to the finished records of its points, resuming what an earlier one left."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from bild.config import MethodConfig, RunConfig, ThresholdConfig
from bild.decoding import Setting, settings, thresholds_of
from bild.decoding.policies import label, paced, slug, writes_vanilla
from bild.measure.aggregate import counts_of, latency_of, quality_and_joint, texts_of, work_of
from bild.measure.environment import busy_warning, describe, state, uuid_of
from bild.measure.interleave import OpenPoint
from bild.measure.processes import Conditions, Sessions
from bild.models import Pair, PairSpec, load, resolve_device
from bild.models.checkpoint import free_memory
from bild.models.device import tell_device
from bild.progress import say, timestamp, track
from bild.results import SCHEMA_VERSION, Method, Point, PointFolder, Record, Threshold, config_hash
from bild.results.folder import RECORD, pair_folder, pair_lock, read_record
from bild.results.locking import device_lock
from bild.results.parts import Decode, EngineRecord, Intervals, PairRecord, Task, recorded
from bild.tasks import Dataset, load_task

_loaded: dict[tuple[Any, ...], Pair] = {}
"""The last pair, so that a multirun over thresholds loads it once; let go before another one is loaded."""


def measure_points(config: RunConfig, points: Sequence[Setting]) -> list[Point]:
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
        if len(points) > 1:
            stack.enter_context(pair_lock(pair_folder(config.results, config.task.name, config.model.pair_name)))
        opened = [open_point(stack, config, shared, method, threshold) for method, threshold in points]
        for point in opened:
            if not config.resume:
                point.folder.clear()
            _announce(point, len(data.examples))
        pending = [point for point in opened if point.folder.record() is None]
        if pending:
            _measure(config, spec, data, pending, environment, shared)
        return [Point(point.folder.path, read_record(point.folder.path / RECORD)) for point in opened]


def _measure(
    config: RunConfig,
    spec: PairSpec,
    data: Dataset,
    pending: list[OpenPoint],
    environment: dict[str, Any],
    shared: dict[str, Any],
) -> None:
    """Measure what is missing, and write the records."""
    device, task = torch.device(shared["engine"]["device"]), config.task
    setting = Conditions(task, spec, config.engine, config.measure, config.decode)
    sessions = Sessions(setting, lambda: load_once(spec, shared["pair"]))
    tell_device(device, config.engine.dtype)
    now = state(device)
    warning = busy_warning(now)
    if warning:
        say(f"warning: {warning}")
    missing = max(len(data.examples) - len(point.folder.samples()) for point in pending)
    what = f"{task.name}, {len(pending)} point{'s' * (len(pending) > 1)}"
    with device_lock(uuid_of(device)):
        for _ in track(sessions.measure(data.examples, pending), missing, what):
            pass
    pair, seen = sessions.describe(), {"state": now} | sessions.disturbed(warning)
    warnings = {*sessions.warnings}
    for point in pending:
        record = make_record(config, pair, data, point, environment | seen, shared)
        point.folder.finish(record)
        warnings.update(record.warnings)
    for text in sorted(warnings):
        say(f"warning: {text}")


def shared_identity(
    config: RunConfig, spec: PairSpec, data: Dataset, environment: dict[str, Any], device: str
) -> dict[str, Any]:
    """Return all that can change a token, a score or a time, but for the method and its thresholds."""
    return {
        "schema": SCHEMA_VERSION,
        "task": config.task.identity | {"data": data.provenance["hash"]},
        "pair": spec.fingerprints(),
        "engine": dataclasses.asdict(config.engine) | {"device": device},
        "measure": config.measure.identity,
        "machine": environment["machine"]["fingerprint"],
        "packages": environment["packages"],
        "python": environment["python"],
        **config.decode.identity,
    } | {name: environment[name] for name in ("precision",) if name in environment}


def open_point(
    stack: ExitStack, config: RunConfig, shared: dict[str, Any], method: MethodConfig, threshold: ThresholdConfig
) -> OpenPoint:
    """Make or reopen the folder of a point, held until the stack ends; `shared` is all else of its identity."""
    resolved = settings(method, threshold)
    digest = config_hash(shared | {"method": resolved, "threshold": thresholds_of(method, threshold)})
    own = {"method": dataclasses.asdict(method), "threshold": dataclasses.asdict(threshold)}
    plain = dataclasses.asdict(config) | own
    folder = PointFolder.open(
        Path(config.results), config.task.name, config.model.pair_name, slug(label(method, threshold)), digest, plain
    )
    return OpenPoint(method, threshold, stack.enter_context(folder))


def _announce(point: OpenPoint, total: int) -> None:
    path = point.folder.path
    if point.folder.finished:
        say(f"{path} is finished; this is its record (resume=false measures it again)")
    elif done := len(point.folder.samples()):
        say(f"{path} has {done} of {total} examples; going on from there")


def load_once(spec: PairSpec, identity: dict[str, Any]) -> Pair:
    """Load a pair; the last one is kept, for the next point of a multirun. `identity` has its fingerprints."""
    key = (spec, *identity.values())
    if key not in _loaded:
        _loaded.clear()
        free_memory()
        _loaded[key] = load(spec)
    return _loaded[key]


def make_record(
    config: RunConfig,
    pair: PairRecord,
    data: Dataset,
    point: OpenPoint,
    environment: dict[str, Any],
    shared: dict[str, Any],
) -> Record:
    """Return the record of a point whose folder has all examples of `data`, perhaps among others."""
    task, measure, method = config.task, config.measure, point.method
    references = {example.id: example.reference for example in data.examples}
    samples = [sample for sample in point.folder.samples() if sample.id in references]  # as they were measured
    exact = writes_vanilla(method, point.threshold)
    one_body = config.model.exit is not None and config.engine.name != "hf"  # which makes two models of it
    own, threshold = recorded(settings(method, point.threshold), thresholds_of(method, point.threshold))
    quality, joint = quality_and_joint(
        samples,
        [references[sample.id] for sample in samples],
        task.metric,
        measure.confidence,
        exact=exact,
        data=data.provenance["hash"],
    )
    return Record(
        schema=SCHEMA_VERSION,
        hash=point.folder.digest,
        label=label(method, point.threshold),
        task=Task(
            kind=task.kind, languages=task.languages or None, split=task.split, data=data.provenance, **task.identity
        ),
        pair=dataclasses.replace(pair, name=config.model.pair_name),
        method=own,
        threshold=threshold,
        engine=EngineRecord(config.engine.name, config.engine.dtype, shared["engine"]["device"], config.engine.threads),
        intervals=Intervals(measure.confidence),
        quality=quality,
        latency=latency_of(samples, measure, point.folder.sessions()),
        counts=counts_of(samples),
        work=work_of(samples, pair, config.engine.dtype, shared=one_body),
        environment=environment | {"kernels": point.folder.kernels() if config.engine.name != "hf" else None},
        sessions=len({sample.session for sample in samples}),
        created=timestamp(),
        seconds=sum(sample.ns.total + sample.baselines_ns for sample in samples) / 1e9,
        joint=joint,
        draft_costs=point.folder.draft_costs() if paced(method) else None,
        command=command_of(config, own, threshold, data.provenance["samples"]),
        texts=texts_of(samples) if exact and method.name != "vanilla" else None,
        decode=Decode.of(config.decode),
    )


_OWN_DATA = ("path", "kind", "source_column", "reference_column", "id_column", "prompt", "metric")


def command_of(
    config: RunConfig, method: Method, threshold: Threshold, samples: int | None, *, here: bool = False
) -> str:
    """Return the `bild run` that makes a point on so many examples, whatever command it was first made by.

    It names the checkpoints where the options do, and a task by its name. Where one's own data lies, and how it is
    to be read, is told to the terminal (`here`), but stays out of records, which others read on other machines.
    """
    task, model = config.task, config.model
    words: dict[str, Any] = {"task": task.name, "model": model.name}
    words |= {f"model.{name}": getattr(model, name) for name in ("large", "small", "tokenizer", "exit")}
    if here and task.data == "file":
        words |= {f"task.{name}": getattr(task, name) or None for name in _OWN_DATA}
        words["task.languages"] = f"[{','.join(task.languages)}]" if task.languages else None
    words |= {"task.split": task.split, "task.samples": samples, "task.seed": task.seed}
    words |= {"task.source_limit": task.source_limit, "task.target_limit": task.target_limit}
    if ":" in task.metric:
        words["task.metric"] = task.metric
    words["task.tokenize"] = task.tokenize
    words |= {"method": method.name, "engine": config.engine.name}
    switches = dataclasses.asdict(method) | {"name": None}
    words |= {f"method.{name}": str(v).lower() if isinstance(v, bool) else v for name, v in switches.items()}
    if method.name == "calm" and method.decay is None:
        words["method.decay"] = "null"
    words |= {f"threshold.{name}": value for name, value in dataclasses.asdict(threshold).items()}
    words |= {f"engine.{name}": getattr(config.engine, name) for name in ("dtype", "device", "threads")}
    words |= {f"decode.{name}": str(v).lower() for name, v in config.decode.identity.get("decode", {}).items()}
    words |= {f"measure.{name}": value for name, value in config.measure.identity.items()}
    return shlex.join(["python", "-m", "bild.run", *(f"{k}={v}" for k, v in words.items() if v is not None)])
