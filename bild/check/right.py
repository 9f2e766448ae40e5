"""The steps that ask whether all is right: cases in which captured programs have been wrong, engines that must agree,
a run, a tree that runs out of memory on the way, and training steps."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from bild.check.machine import Scale
from bild.config import EngineConfig, MeasureConfig, MethodConfig, RunConfig, TaskConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.engines import Engine, build_engine, common_prefix
from bild.errors import BildError
from bild.measure.environment import watch
from bild.measure.live import engines_of, prepare, run_live
from bild.measure.session import measure_points
from bild.models import Pair, load_pair
from bild.models.checkpoint import free_memory
from bild.models.device import has_bf16
from bild.models.shapes import model_config
from bild.results.bench import OK, SKIPPED, SLOW, WRONG, Checked
from bild.results.record import overrun
from bild.tasks import load_task
from bild.training.config import TrainSettings
from bild.training.corpus import Corpus
from bild.training.loop import Trainer, Validation
from bild.training.optimization import likelihood_loss
from bild.tree.grow import Wave, grow

ENGINES = ("graph", "fused", "hf")
TRITON = ("graph-triton",)
_TEXT = 60
"""Tokens of a text that is longer than the room which the engines were built with."""


def cases(scale: Scale) -> Iterator[Checked]:
    """Run what has gone wrong before: an overflow, growth beside another engine, a dropped pair, another GPU."""
    pair = load_pair("embedded", device=str(scale.device))
    known = {"an overflow is forgotten": _poison, "two engines grow": _grow, "engines are dropped": _drop}
    known |= {"others clear workspaces": _clear} if scale.on_gpu else {}
    for name, case in known.items():
        wrong = _tried(partial(case, scale, pair))
        yield Checked("cases", name, WRONG if wrong else OK, wrong or "the text is the one before")
    if not scale.on_gpu or torch.cuda.device_count() < 2:
        yield Checked("cases", "cuda:1", SKIPPED, "there is one GPU")
        return
    other = load_pair("embedded", device="cuda:1")
    wrong = _tried(lambda: _parted(_texts(pair, "graph", 5), _texts(other, "graph", 5)))
    yield Checked("cases", "cuda:1", WRONG if wrong else OK, wrong or "the texts are those of cuda:0")


def _tried(case: Callable[[], str | None]) -> str | None:
    try:
        return case()
    except Exception as error:  # a library's error in a case is that case's verdict
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def _engine(pair: Pair, role: str, capacity: int, beside: Engine | None = None) -> Engine:
    options: dict[str, Any] = {"dtype": pair.dtype, "eos": -1, "vocabulary": pair.vocabulary, "capacity": capacity}
    return build_engine("graph", pair.model(role), **options, small=role == "small", beside=beside)


def _source(pair: Pair) -> list[int]:
    return pair.encode("Zwei Hunde spielen im Schnee.")[0]


def _written(engine: Engine, pair: Pair, tokens: int) -> list[int]:
    engine.start(_source(pair))
    return engine.draft([pair.start], tokens, 0.0)[0]


def _poison(scale: Scale, pair: Pair) -> str | None:
    """Decode an example whose activations overflow, then a healthy one."""
    engine = _engine(pair, "large", 64)
    before = _written(engine, pair, 12)
    embed, token = engine.weights.embed, _source(pair)[0]  # type: ignore[attr-defined]
    kept = embed[token].clone()
    embed[token] = torch.inf
    try:
        _written(engine, pair, 12)
        return "an infinite embedding was not noticed"
    except BildError:
        pass
    finally:
        embed[token] = kept
    return _parted([before], [_written(engine, pair, 12)])


def _grow(scale: Scale, pair: Pair) -> str | None:
    """Let two engines, in turn, write beyond the room that they were built with."""
    roomy = {role: _written(_engine(pair, role, 2 * _TEXT), pair, _TEXT) for role in ("large", "small")}
    large = _engine(pair, "large", scale.capacity)
    small = _engine(pair, "small", scale.capacity, beside=large)
    for _ in range(2):
        for role, engine in (("large", large), ("small", small)):
            if wrong := _parted([roomy[role]], [_written(engine, pair, _TEXT)]):
                return f"{role}: {wrong}"
    return None


def _drop(scale: Scale, pair: Pair) -> str | None:
    """Drop one of two pairs of engines, and run the other."""
    stays, goes = _engine(pair, "large", 64), _engine(pair, "small", 64)
    before = _written(stays, pair, 24)
    _written(goes, pair, 24)
    del goes
    free_memory()
    return _parted([before], [_written(stays, pair, 24)])


def _clear(scale: Scale, pair: Pair) -> str | None:
    """Clear cuBLAS's workspaces and give their memory back, as torch.compile's recordings do, and run on."""
    engine = _engine(pair, "large", 64)
    before = _written(engine, pair, 24)
    torch._C._cuda_clearCublasWorkspaces()
    free_memory()
    return _parted([before], [_written(engine, pair, 24)])


def _texts(pair: Pair, engine: str, count: int, method: str = "vanilla") -> list[list[int]]:
    task = TaskConfig(samples=count)
    point = MethodConfig(method), ThresholdConfig()
    policy, found = policy_for(*point), []
    sources = [pair.encode(example.source)[0] for example in load_task(task).examples]
    prepare(pair, engine, [point], lambda: [len(source) for source in sources], task.target_limit)
    for source in sources:
        made = policy(start=pair.start, eos=pair.eos, max_length=task.target_limit)
        run = run_live(made, source, *engines_of(pair, method, engine))
        found.append(run.decoded.tokens)
    return found


def _parted(mine: list[list[int]], theirs: list[list[int]]) -> str | None:
    """Say how many texts differ and where the first one parts, or None where all are equal."""
    different = [i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b]
    if not different:
        return None
    a, b = mine[different[0]], theirs[different[0]]
    return f"{len(different)} of {len(mine)} texts differ, the first at token {common_prefix(a, b)}"


def agreement(scale: Scale) -> Iterator[Checked]:
    """Decode the same texts by every engine: id for id in fp32, and a second time bit for bit; counted in fp16."""
    for dtype in scale.dtypes:
        pair = load_pair("embedded", device=str(scale.device), dtype=dtype, triton=scale.on_gpu)
        exact = {name: _texts(pair, name, scale.texts) for name in (*ENGINES, *TRITON * scale.on_gpu)}
        for name in filter(lambda name: name != "hf", exact):
            wrong = _parted(exact[name], exact["hf"])
            share = sum(a == b for a, b in zip(exact[name], exact["hf"], strict=True)) / scale.texts
            # In half precision near-ties go either way; more than one in five is no rounding.
            good = wrong is None or (dtype != "fp32" and share >= 0.8)
            seen = wrong or f"{scale.texts} texts are equal"
            yield Checked("agreement", f"{name} = hf, {dtype}", OK if good else WRONG, seen, {"equal": share})
        again = _parted(exact["graph"], _texts(pair, "graph", scale.texts))
        yield Checked("agreement", f"graph twice, {dtype}", WRONG if again else OK, again or "the same ids")
        both = {name: _texts(pair, name, scale.texts, "bild") for name in ("graph", "fused")}
        wrong = _parted(both["graph"], both["fused"])
        good = wrong is None or dtype != "fp32"
        yield Checked("agreement", f"BiLD, {dtype}", OK if good else WRONG, wrong or "graph = fused")
        del pair
        free_memory()


def run(scale: Scale) -> Iterator[Checked]:
    """Measure vanilla and BiLD on a few captions, as `bild run` does."""
    with tempfile.TemporaryDirectory(prefix="bild-check-") as folder:
        config = RunConfig(
            task=TaskConfig(samples=scale.samples),
            model=scale.model,
            engine=EngineConfig(name="graph", device=str(scale.device)),
            measure=MeasureConfig(library=min(scale.samples, 8), warmup=2, sessions=1, calm_minutes=0),
            results=folder,
        )
        points = measure_points(config, [(MethodConfig(name), ThresholdConfig()) for name in ("vanilla", "bild")])
        for point in points:
            record = point.record
            speedup = record.speedup
            seen = f"{speedup.value:.2f}x ({speedup.low:.2f} to {speedup.high:.2f}) on {record.latency.examples} texts"
            figures = {
                "speedup": dataclasses.asdict(record.latency)["speedup"],
                "counts": dataclasses.asdict(record.counts),
                "state": record.environment["state"],
                "gpu": record.environment.get("gpu"),
            }
            disturbed = record.environment["busy"]
            verdict = WRONG if overrun(record.counts) else SLOW if disturbed and scale.on_gpu else OK
            told = "; ".join(filter(None, (seen, overrun(record.counts), disturbed)))
            yield Checked("run", record.label, verdict, told, figures)


def tree(scale: Scale) -> Iterator[Checked]:
    """Grow a tree whose first pass over several examples asks for more memory than there is."""
    pair = load_pair("embedded", device=str(scale.device))
    task = TaskConfig(samples=max(4, scale.samples), target_limit=16)
    data, points = load_task(task), [(MethodConfig("bild"), ThresholdConfig(fb, 2.0)) for fb in (0.3, 0.6)]
    sizes: list[int] = []
    real = Wave.run

    def short(wave: Any) -> None:
        sizes.append(len(wave.trees))
        if len(sizes) == 1:
            torch.empty(1 << 55, dtype=torch.uint8, device=scale.device)  # the real error of the real allocator
        real(wave)

    with tempfile.TemporaryDirectory(prefix="bild-check-") as folder:
        whole = grow(Path(folder, "whole"), pair, task, data, points, engine="graph")
        with patch.object(Wave, "run", short):
            halved = grow(Path(folder, "halved"), pair, task, data, points, engine="graph")
        same = [r.tokens for r in halved.replay_grid(points)] == [r.tokens for r in whole.replay_grid(points)]
    good = same and len(sizes) > 2
    seen = f"passes over {', '.join(map(str, sizes))} examples; {'the same' if same else 'OTHER'} texts as in one pass"
    yield Checked("tree", "out of memory on the way", OK if good else WRONG, seen, {"passes": sizes})


def training(scale: Scale) -> Iterator[Checked]:
    """Take a few training steps in every precision that the device has."""
    from transformers import T5ForConditionalGeneration

    shape = scale.known[scale.shapes[0]]
    sources = [[3 + (i * j) % 50 for j in range(1, 12)] + [1] for i in range(8)]
    for precision in ("fp32", "fp16", "bf16"):
        what = f"{shape.name}, {precision}"
        if precision == "bf16" and not has_bf16(scale.device):
            yield Checked("training", what, SKIPPED, "this GPU has no bf16 (sm_80 or newer)")
            continue
        torch.manual_seed(0)
        module = T5ForConditionalGeneration(model_config(shape)).to(scale.device)
        settings = TrainSettings(rate=1e-4, batch=4, epochs=2, precision=precision, checkpoint_minutes=60.0)
        with tempfile.TemporaryDirectory(prefix="bild-check-") as folder:
            yield _trained(module, Corpus(sources, sources), settings, Path(folder), what)
        watch(scale.device).between()


def _trained(module: Any, corpus: Corpus, settings: TrainSettings, folder: Path, what: str) -> Checked:
    before = module.shared.weight.detach().clone()
    trainer = Trainer(
        module,
        corpus,
        settings,
        folder,
        "gpu-check",
        loss=lambda module, batch: likelihood_loss(module, batch, [], 0.0),
        validate=lambda _: Validation(0.0, 0.0, {}),
        announce=lambda _: None,
    )
    try:
        weights = trainer.run()
    except Exception as error:
        return Checked("training", what, WRONG, str(error).splitlines()[0])
    losses = [entry["loss"] for entry in trainer.progress.history if "loss" in entry]
    finite = all(map(math.isfinite, losses)) and all(bool(torch.isfinite(w).all()) for w in weights.values())
    moved = not torch.equal(before, module.shared.weight)
    skipped = trainer.progress.skipped
    seen = f"{trainer.progress.step} steps, loss {losses[-1]:.2f}" if losses else "no finite loss"
    seen += f", {skipped} skipped" if skipped else ""
    good = finite and moved and bool(losses)
    return Checked("training", what, OK if good else WRONG, seen, {"losses": losses, "skipped": skipped})
