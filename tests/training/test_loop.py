"""The loop: as a plain one does, step for step through a kill, and ended early."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from bild.errors import BildError
from bild.training import loop
from bild.training.config import TrainSettings
from bild.training.corpus import Corpus, epoch_order, make_batch
from bild.training.folder import export_model
from bild.training.job import train
from bild.training.judge import Judge
from bild.training.loop import Trainer, Validation
from bild.training.optimization import likelihood_loss
from tests.training.tiny import record, timeless, tiny_config, tiny_module, write_corpus


def corpus() -> Corpus:
    sources = [[3 + (i * j) % 50 for j in range(1, 3 + i % 4)] + [1] for i in range(20)]
    return Corpus(sources, [[*source[:-1][::-1], 1] for source in sources])


def trainer(folder: Path, settings: TrainSettings, judged: Any = None, **options: Any) -> Trainer:
    def loss(module: Any, batch: Any) -> Any:
        return likelihood_loss(module, batch, settings.exit, settings.label_smoothing)

    scores = iter(judged or range(1, 100))
    return Trainer(
        tiny_module(dropout=options.pop("dropout", 0.0)),
        corpus(),
        settings,
        folder,
        "identity",
        loss=loss,
        validate=lambda _: Validation(1.0, float(next(scores)), {}),
        announce=lambda _: None,
        **options,
    )


@pytest.mark.spread(1)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_loss_falls_as_a_plain_loops_does(tmp_path: Path, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.optimization import Adafactor

    monkeypatch.setattr(loop, "_LOG_STEPS", 1)
    settings = TrainSettings(rate=5e-3, batch=10 // accumulate, accumulate=accumulate, epochs=8)
    ours = trainer(tmp_path, settings)
    ours.run()
    found = [entry["loss"] for entry in ours.progress.history if "loss" in entry]

    module, data = tiny_module(), corpus()
    optimizer = Adafactor(module.parameters(), lr=5e-3, scale_parameter=False, relative_step=False)
    wanted = []
    lengths = [(len(t), len(s)) for s, t in zip(data.sources, data.targets, strict=True)]
    for epoch in range(8):
        order = epoch_order(lengths, 10 // accumulate, 0, epoch)
        for at in range(0, len(order), accumulate):
            indices = [i for part in order[at : at + accumulate] for i in part]
            parts = [[table[i] for i in indices] for table in (data.sources, data.targets)]
            batch = make_batch(*parts, 0, torch.device("cpu"))
            optimizer.zero_grad()
            out = module(input_ids=batch.sources, attention_mask=batch.source_mask, labels=batch.targets)
            out.loss.backward()
            optimizer.step()
            wanted.append(float(out.loss.detach()))
    assert len(found) == 16
    assert found == pytest.approx(wanted, rel=2e-3)
    assert found[-1] < 0.8 * found[0]


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(corpus_folder: Path) -> Path:
    """A training left in peace, by dropout, BPE-dropout, clipping, warm-up and all."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "_LOG_STEPS", 1)
        return train(tiny_config(corpus_folder, corpus_folder.with_name("whole")))


class _Killed(Exception):
    pass


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    ("method", "after", "saved"),
    [
        ("_step", 2, 0.0),
        ("_step", 6, 0.0),
        ("_step", 7, 0.0),
        ("_step", 9, 60.0),
        ("_judge", 12, 0.0),  # all steps are done and saved, the last epoch's validation is not
        ("_judge", 6, 0.0),
        ("_judge", 12, 60.0),
    ],
)
def test_a_resumed_training_is_the_uninterrupted_one(
    corpus_folder: Path, whole: Path, tmp_path: Path, method: str, after: int, saved: float, monkeypatch: Any
) -> None:
    """The last state is the last step's, or the last epoch's."""
    monkeypatch.setattr(loop, "_LOG_STEPS", 1)
    real = getattr(Trainer, method)

    def killed(self: Trainer, *arguments: Any) -> Any:
        if self.progress.step == after:
            raise _Killed
        return real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, method, killed)
        with pytest.raises(_Killed):
            train(tiny_config(corpus_folder, tmp_path, checkpoint_minutes=saved))
    train(tiny_config(corpus_folder, tmp_path))
    assert timeless(tmp_path) == timeless(whole)
    assert [record(path)["progress"]["sessions"] for path in (whole, tmp_path)] == [1, 2]


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    ("kind", "method", "call", "step"),
    [
        (Trainer, "_step", 12, 12),
        (Judge, "__call__", 2, 12),
        (Trainer, "_validated", 1, 6),
        (Judge, "__call__", 1, 6),
        (Trainer, "_step", 8, 8),
    ],
)
def test_a_signal_to_end_loses_no_step(
    corpus_folder: Path, whole: Path, tmp_path: Path, kind: type, method: str, call: int, step: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(loop, "_LOG_STEPS", 1)
    real, calls, before = getattr(kind, method), iter(range(1, 99)), signal.getsignal(signal.SIGINT)

    def signalled(*given: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(kind, method, signalled)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_config(corpus_folder, tmp_path, checkpoint_minutes=60.0))
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(tmp_path / "state.pt")["progress"]["step"] == step
    train(tiny_config(corpus_folder, tmp_path))
    assert timeless(tmp_path) == timeless(whole)


def test_a_second_signal_to_end_ends_at_once(tmp_path: Path) -> None:
    one = trainer(tmp_path, TrainSettings(batch=10, epochs=1))

    def loss(*_: object) -> Any:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    one.loss = loss
    with pytest.raises(KeyboardInterrupt):
        one.run()
    assert not list(tmp_path.iterdir())


def test_training_ends_where_it_gets_no_better_and_keeps_the_best(tmp_path: Path) -> None:
    one = trainer(tmp_path, TrainSettings(batch=10, epochs=9, patience=2), [1, 5, 4, 3, 9])
    kept = one.run()
    assert (one.progress.epoch, one.progress.best_epoch, one.progress.best) == (4, 2, 5.0)
    assert any(not torch.equal(kept[name], value) for name, value in one.module.state_dict().items())


def test_the_last_weights_are_kept_where_that_is_asked(tmp_path: Path) -> None:
    one = trainer(tmp_path, TrainSettings(batch=10, epochs=3, select="last"), [3, 2, 1])
    kept = one.run()
    assert all(torch.equal(kept[name], value) for name, value in one.module.state_dict().items())


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "corpus")
    train(tiny_config(folder, tmp_path / "out", steps=1))
    (tmp_path / "out" / "training.json").unlink()
    with pytest.raises(BildError, match="holds a training with other settings"):
        train(tiny_config(folder, tmp_path / "out", steps=2))


def test_a_rate_that_breaks_the_model_is_told(tmp_path: Path) -> None:
    one = trainer(tmp_path, TrainSettings(optimizer="adamw", rate=100.0, batch=10))
    with torch.no_grad():
        one.module.shared.weight[5:].fill_(1e30)
    with pytest.raises(BildError, match=r"gradient of step \d+ is not finite"):
        one.run()


def test_bf16_trains_too(tmp_path: Path) -> None:
    one = trainer(tmp_path, TrainSettings(rate=5e-3, batch=10, epochs=6, precision="bf16", exit=1))
    one.run()
    losses = [entry["loss"] for entry in one.progress.history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert all(p.dtype == torch.float32 for p in one.module.parameters())


def fp16_trainer(folder: Path, overflows: Any, **settings: Any) -> Trainer:
    """A training whose loss is not finite where `overflows(call)` says so."""
    calls = iter(range(1, 1000))
    one = trainer(folder, TrainSettings(rate=1e-3, batch=4, precision="fp16", **settings))
    real = one.loss

    def loss(module: Any, batch: Any) -> Any:
        found, nll = real(module, batch)
        return (found * float("nan"), nll) if overflows(next(calls)) else (found, nll)

    one.loss = loss
    return one


def test_fp16_counts_the_steps_that_it_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_LOG_STEPS", 1)
    one = fp16_trainer(tmp_path, lambda call: call in (2, 3, 9), epochs=3)
    weights = one.run()
    assert one.progress.skipped == 3
    assert one.progress.step == 15
    logged = [entry for entry in one.progress.history if "loss" in entry]
    assert logged[-1]["skipped"] == 3
    json.dumps(one.progress.history, allow_nan=False)  # a step without a loss leaves no entry
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_fp16_that_overflows_in_every_forward_pass_ends_in_a_sentence(tmp_path: Path) -> None:
    one = fp16_trainer(tmp_path, lambda call: call > 2, epochs=9)
    with pytest.raises(BildError, match=r"activations overflow in fp16: step 10 .* train.precision=fp32"):
        one.run()


def test_a_training_that_its_last_step_breaks_exports_nothing(tmp_path: Path) -> None:
    one = trainer(tmp_path, TrainSettings(rate=1e-3, batch=10, steps=1))
    one.validate = lambda _: Validation(math.nan, 0.0, {})
    with pytest.raises(BildError, match="validation loss after step 1 is not finite"):
        one.run()
    module = tiny_module()
    weights = module.state_dict() | {"shared.weight": torch.full_like(module.shared.weight, math.inf)}
    with pytest.raises(BildError, match=r"weights are not finite \(shared.weight\), and nothing was exported"):
        export_model(module, weights, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_best_weights_and_the_loaded_state_are_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer(tmp_path, TrainSettings(rate=1e-3, batch=10, epochs=1, optimizer="adamw"))
    one.run()
    assert one.best is not None
    assert all(value.device.type == "cpu" for value in one.best.values())
    own = {value.data_ptr() for value in one.module.state_dict().values()}
    assert not own & {value.data_ptr() for value in one.best.values()}
    asked: list[Any] = []
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: (asked.append(k["map_location"]), real(*a, **k))[1])
    again = trainer(tmp_path, TrainSettings(rate=1e-3, batch=10, epochs=1, optimizer="adamw"))
    again._resume()
    assert asked == ["cpu"]
    assert again.progress.step == one.progress.step


def test_a_resume_may_have_fewer_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bild.training.folder import _set_rng

    state = torch.get_rng_state()
    given: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda one, index: given.append(index))
    _set_rng({"cpu": state, "cuda": [state, state]})
    assert given == [0]


def test_a_state_with_one_flipped_bit_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, TrainSettings()).save()
    trainer(tmp_path, TrainSettings())._resume()
    whole = bytearray((tmp_path / "state.pt").read_bytes())
    whole[len(whole) // 2] ^= 1  # within a tensor, where torch reads on
    (tmp_path / "state.pt").write_bytes(whole)
    with pytest.raises(BildError, match=r"state.pt cannot be read .* was changed.: start anew with resume=false"):
        trainer(tmp_path, TrainSettings())._resume()
