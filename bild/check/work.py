"""Step seven to nine: one run, one tree that runs out of memory on the way, and training steps."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from bild.check.machine import Scale
from bild.config import EngineConfig, MeasureConfig, MethodConfig, RunConfig, TaskConfig, ThresholdConfig
from bild.measure.gpu import watch
from bild.measure.session import measure_points
from bild.models import load_pair
from bild.models.device import has_bf16
from bild.models.shapes import model_config
from bild.results.check import OK, SKIPPED, SLOW, WRONG, Checked
from bild.results.record import overrun
from bild.tasks import load_task
from bild.training.config import TrainSettings
from bild.training.corpus import Corpus
from bild.training.loop import Trainer, Validation
from bild.training.optimization import likelihood_loss
from bild.tree.grow import Wave, grow


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
            speedup = record.latency.speedup.total
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
