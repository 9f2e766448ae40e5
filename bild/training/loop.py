"""The loop: steps, epochs, validation, and a resume that continues exactly where a kill fell."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bild.errors import BildError
from bild.progress import clock
from bild.training.config import FOLLOWED, TrainSettings
from bild.training.corpus import IGNORED, Batch, Corpus, SubwordDropout, epoch_order, epoch_sources, make_batch
from bild.training.folder import Progress, PutOff, load_state, save_state
from bild.training.optimization import clip, make_optimizer, rate_at, set_rate

Loss = Callable[[Any, Batch], tuple[Tensor, Tensor]]
"""(what is minimised, plain nll), both summed over the target tokens of a batch."""
_LOG_STEPS = 100
_LOST = 8
"""Steps in a row whose loss is not finite, after which fp16 is given up."""


@dataclass
class Validation:
    """The figures that an epoch is judged by."""

    loss: float
    """Nats per target token, without label smoothing."""
    score: float
    """The task's metric on greedy outputs."""
    others: dict[str, float]
    """The scores of its exits, by name."""
    followed: dict[str, float] = field(default_factory=dict)
    """Where it learns from a large model: how well it follows that one."""


class Trainer:
    """One training. `run` goes on from the folder's last state, or from the beginning."""

    def __init__(
        self,
        module: Any,
        corpus: Corpus,
        settings: TrainSettings,
        folder: Path,
        identity: str,
        *,
        loss: Loss,
        validate: Callable[[Any], Validation],
        announce: Callable[[str], None],
        subwords: SubwordDropout | None = None,
    ) -> None:
        self.module, self.corpus, self.settings, self.folder, self.identity = module, corpus, settings, folder, identity
        self.loss, self.validate, self.announce, self.subwords = loss, validate, announce, subwords
        self.device = next(module.parameters()).device
        self.optimizer = make_optimizer(module, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "fp16")
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
        per_epoch = -(-len(corpus) // (settings.batch * settings.accumulate))
        self.total = min(per_epoch * settings.epochs, settings.steps or per_epoch * settings.epochs)
        self._began = time.monotonic()
        self._sums = [0.0, 0.0, 0.0]  # loss, nll, tokens since the last log entry
        self._lost = 0  # steps in a row whose loss was not finite
        self._signals = PutOff()

    def run(self) -> dict[str, Tensor]:
        """Train to the end; return the weights that are kept."""
        self._resume()
        with self._signals.heard(lambda: self.announce("stopping when this step is saved; once more stops at once")):
            # An epoch that has begun is open until its validation is saved, though a kill may fall after its last step.
            while self.progress.batch or (self.progress.step < self.total and not self._stale()):
                self._epoch()
        if self.best is None or self.settings.select == "last":
            return self._weights()
        return self.best

    def _epoch(self) -> None:
        progress, settings = self.progress, self.settings
        self.module.train()
        for indices, sources in self._groups():
            if progress.step == self.total:
                break
            self._step(indices, sources)
            if progress.step % _LOG_STEPS == 0:
                self._log()
            if self._signals.end or time.monotonic() - self._saved > 60.0 * settings.checkpoint_minutes:
                self.save()
        found = None
        if (progress.epoch + 1) % settings.validate_every == 0 or progress.step == self.total:
            found = self._judge()
        progress.epoch, progress.batch = progress.epoch + 1, 0
        if found is not None:
            self._validated(found)
        self.save()

    def _groups(self) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """Yield the batches of each remaining step of this epoch, with the epoch's sources."""
        settings, progress = self.settings, self.progress
        sources = epoch_sources(
            self.corpus, self.subwords, settings.seed, progress.epoch, self.module.config.eos_token_id
        )
        lengths = [(len(t), len(s)) for s, t in zip(self.corpus.sources, self.corpus.targets, strict=True)]
        batches = epoch_order(lengths, settings.batch, settings.seed, progress.epoch)
        for at in range(progress.batch, len(batches), settings.accumulate):
            yield batches[at : at + settings.accumulate], sources

    def _step(self, groups: Sequence[list[int]], sources: list[list[int]]) -> None:
        """Take one step over some batches: the loss is the mean over all their target tokens, in whatever batch."""
        progress, settings = self.progress, self.settings
        batches = [self._batch(indices, sources) for indices in groups]
        tokens = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
        self.optimizer.zero_grad(set_to_none=True)
        sums = [0.0, 0.0, float(tokens)]
        for batch in batches:
            with self._autocast():
                loss, nll = self.loss(self.module, batch)
            torch.autograd.backward(self.scaler.scale(loss / tokens))
            sums = [sums[0] + float(loss.detach()), sums[1] + float(nll), sums[2]]
        self.scaler.unscale_(self.optimizer)
        norm = clip(self.module, settings.clip)
        self._check(sums[0], norm)
        if math.isfinite(sums[0]):
            self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)]
        set_rate(self.optimizer, rate_at(progress.step, self.total, settings))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        progress.step += 1
        progress.batch += len(groups)
        progress.examples += sum(map(len, groups))

    def _check(self, loss: float, norm: float) -> None:
        """Count a step that fp16 skips, and raise BildError where no later one can do better.

        A gradient beyond fp16's range is skipped and its scale lowered, which is as it should be; a loss that is not
        finite has overflowed before any scale, in the forward pass.
        """
        progress, step = self.progress, self.progress.step + 1
        if norm < math.inf and math.isfinite(loss):
            self._lost = 0
            return
        if not self.scaler.is_enabled():
            raise BildError(
                f"The gradient of step {step} is not finite: lower train.rate, set train.clip, or raise "
                "train.precision."
            )
        progress.skipped += 1
        self._lost = 0 if math.isfinite(loss) else self._lost + 1
        if self._lost == _LOST or self.scaler.get_scale() < 1.0:
            raise BildError(
                f"The activations overflow in fp16: step {step} and those before it were skipped, and nothing is "
                "learnt; use train.precision=fp32, or bf16 on a GPU that has it (sm_80 or newer)."
            )

    def _batch(self, indices: list[int], sources: list[list[int]]) -> Batch:
        pad = self.module.config.pad_token_id
        targets = [self.corpus.targets[i] for i in indices]
        return make_batch([sources[i] for i in indices], targets, pad, self.device)._replace(indices=indices)

    def _autocast(self) -> Any:
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        kind = kinds.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype=kind or torch.bfloat16, enabled=kind is not None)

    def _log(self) -> None:
        loss, nll, tokens = self._sums
        if not tokens:
            return
        progress = self.progress
        entry = {
            "step": progress.step,
            "epoch": round(progress.epoch + min(1.0, progress.batch * self.settings.batch / len(self.corpus)), 3),
            "loss": loss / tokens,
            "nll": nll / tokens,
            "rate": rate_at(progress.step - 1, self.total, self.settings),
            **({"skipped": progress.skipped} if self.scaler.is_enabled() else {}),
            "seconds": round(self.seconds(), 1),
        }
        progress.history.append(entry)
        self._sums = [0.0, 0.0, 0.0]
        left = (self.seconds() / progress.step) * (self.total - progress.step)
        self.announce(
            f"step {progress.step}/{self.total} (epoch {entry['epoch']:.2f}): loss {entry['loss']:.3f}, "
            f"nll {entry['nll']:.3f}, rate {entry['rate']:.2e}, {clock(self.seconds())}, {clock(left)} left"
        )

    def _judge(self) -> Validation:
        """Validate. Until this returns the epoch is open, and where a signal ends it its steps are saved."""
        self._log()
        self.module.eval()
        try:
            with self._signals.raised():
                found = self.validate(self.module)
        except KeyboardInterrupt:
            self.save()
            raise
        self.module.train()
        if not math.isfinite(found.loss):
            raise BildError(
                f"The validation loss after step {self.progress.step} is not finite: the training broke its weights; "
                "lower train.rate or set train.clip, and train anew with resume=false."
            )
        return found

    def _validated(self, found: Validation) -> None:
        progress = self.progress
        progress.history.append(
            {"step": progress.step, "epoch": progress.epoch, "validation_loss": found.loss, "score": found.score}
            | found.others
            | found.followed
            | {"seconds": round(self.seconds(), 1)}
        )
        select = self.settings.select
        worth = ({"loss": -found.loss} | found.followed).get(FOLLOWED.get(select, select), found.score)
        better = progress.best is None or worth > progress.best
        if better or select == "last":
            progress.best, progress.best_epoch = worth, progress.epoch
            self.best = self._weights()
        others = "".join(f", {name} {value:.2f}" for name, value in found.others.items())
        others += "".join(f", {name.replace('_', ' ')} {value:.3f}" for name, value in found.followed.items())
        self.announce(
            f"epoch {progress.epoch}: validation loss {found.loss:.3f}, score {found.score:.2f}{others}"
            f"{' (best)' if better else ''}, {clock(self.seconds())}"
        )

    def _stale(self) -> bool:
        progress, patience = self.progress, self.settings.patience
        if patience is None or progress.best_epoch is None or progress.epoch - progress.best_epoch < patience:
            return False
        self.announce(f"no better epoch since {progress.best_epoch}: training ends")
        return True

    def _weights(self) -> dict[str, Tensor]:
        """Copy the weights to the CPU: beside a model, its gradients and its optimiser a GPU has no room for them."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.module.state_dict().items()}

    def seconds(self) -> float:
        """Return the seconds spent on this training so far, in all sessions."""
        return self.progress.seconds + time.monotonic() - self._began

    def save(self) -> None:
        """Write the state, the sums for the next log entry included, so that a resumed training logs the same.

        A signal that was put off then ends the process.
        """
        progress = copy.copy(self.progress)
        progress.seconds = self.seconds()
        parts = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "sums": self._sums,
        }
        save_state(self.folder, self.identity, progress, parts)
        self._saved = time.monotonic()
        if self._signals.end:
            self._signals.end()

    def _resume(self) -> None:
        self._saved = time.monotonic()
        if not load_state(self.folder, self.identity, self._take_up):
            torch.manual_seed(self.settings.seed)
            return
        self._began = time.monotonic()
        self.announce(f"going on after step {self.progress.step} of {self.total}")

    def _take_up(self, progress: Progress, parts: dict[str, Any]) -> None:
        self.progress = progress
        self.progress.sessions += 1
        self.module.load_state_dict(parts["module"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.scaler.load_state_dict(parts["scaler"])
        self.best, self._sums = parts["best"], parts["sums"]
