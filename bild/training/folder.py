"""The folder of a training: its lock, the state that a kill leaves whole, and the model, card and record at the end."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bild.errors import BildError, refusing, told
from bild.models.source import TOKENIZER_FILES
from bild.progress import say
from bild.results.codec import decode
from bild.results.files import clear_drafts, write_atomically, write_error
from bild.results.locking import let_go, take

STATE = "state.pt"
RECORD = "training.json"
LINES, HEAD = "targets.jsonl", "targets.json"
"""The outputs of the large model, and what they are outputs of."""
LESSONS = "lessons.f16"
"""What it says of each of them: see `bild.training.targets`."""
_MADE = (RECORD, STATE, HEAD, LINES, LESSONS, "tokenizer.json", "model.safetensors", "README.md")
_ASIDE = ".unfinished"


@contextmanager
def training_folder(path: Path, resume: bool) -> Iterator[bool]:
    """Make the folder, wait until no other process trains in it, and yield whether there is something left to do."""
    with refusing(lambda why: f"out={path} cannot be written ({why}): choose another folder.", OSError):
        lock = take(path / ".lock", f"is training in {path}")
    try:
        clear_drafts(path)  # several gigabytes, where a kill fell while the state was written
        for name in () if resume else _MADE:
            (path / name).unlink(missing_ok=True)
        finished = (path / RECORD).exists()
        if finished:
            (path / LESSONS).unlink(missing_ok=True)
            say(f"{path} is finished (resume=false trains it again)")
        yield not finished
    finally:
        let_go(lock, *TOKENIZER_FILES)  # made first, from texts that are still there


@dataclass
class Progress:
    """The place at which a training stands, between two steps."""

    step: int = 0
    """Steps done."""
    epoch: int = 0
    batch: int = 0
    """Batches of this epoch that are done."""
    examples: int = 0
    seconds: float = 0.0
    sessions: int = 1
    skipped: int = 0
    """Steps that fp16 left out, because their gradients were beyond its range."""
    best: float | None = None
    """The best of the epochs validated so far, by the chosen measure; higher is better."""
    best_epoch: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry per logged stretch of training and per validation."""


def save_state(folder: Path, identity: str, progress: Progress, parts: dict[str, Any]) -> None:
    """Write everything that the next step depends on, the random numbers too."""
    state = {"identity": identity, "progress": asdict(progress), "rng": _rng(), **parts}
    write_atomically(folder / STATE, lambda file: torch.save(state, file))


def load_state(folder: Path, identity: str, take_up: Callable[[Progress, dict[str, Any]], None]) -> bool:
    """Have the last state taken up, on the CPU, and set its random numbers; return whether there is one.

    BildError where it is damaged, to its last byte, or another training's.
    """
    path = folder / STATE
    if not path.exists():
        return False
    with refusing(lambda why: f"{path} cannot be read ({why}): start anew with resume=false."):
        with zipfile.ZipFile(path) as parts:  # torch itself reads over flipped bits
            if (part := parts.testzip()) is not None:
                raise ValueError(f"{part} was changed")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state.pop("identity") != identity:
            raise BildError(
                f"{folder} holds a training with other settings, data or versions: choose another folder with out=..., "
                "or start it anew with resume=false."
            )
        _set_rng(state.pop("rng"))
        take_up(decode(Progress, state.pop("progress")), state)
    return True


def _rng() -> dict[str, Any]:
    found: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def _set_rng(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    for index, one in enumerate(state.get("cuda", [])[: torch.cuda.device_count()]):  # a resume may have fewer GPUs
        torch.cuda.set_rng_state(one, index)


def export_model(module: Any, weights: dict[str, Tensor], folder: Path, tokenizer_folder: Path) -> None:
    """Load `weights` into the module, round them to fp16, and write them with configuration and tokenizer.

    The module keeps the rounded weights, in fp32: what is scored next is what lies on the disk. Weights beyond the
    range of fp16 stay in fp32, for the file as a whole.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    module.load_state_dict(weights)
    if broken := [name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())]:
        raise BildError(
            f"The trained weights are not finite ({broken[0]}), and nothing was exported: lower train.rate or set "
            "train.clip, and train anew with resume=false."
        )
    fits = all(bool(torch.isfinite(p.half()).all()) for p in module.parameters())
    if fits:
        module.half()
    module.config.dtype = next(module.parameters()).dtype
    with made_aside(folder) as aside:
        module.save_pretrained(aside)
        for name in TOKENIZER_FILES:
            if (tokenizer_folder / name).is_file() and tokenizer_folder.resolve() != folder.resolve():
                shutil.copyfile(tokenizer_folder / name, aside / name)
    module.float()


@contextmanager
def made_aside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder; the files that a library makes there then take their places in `folder`, each whole.

    BildError where the disk does not take them.
    """
    from safetensors import SafetensorError

    aside, mask = folder / _ASIDE, os.umask(0)
    os.umask(mask)
    try:
        shutil.rmtree(aside, ignore_errors=True)  # what a kill left behind
        aside.mkdir()
        yield aside
        # Backwards by name: the tokenizer's own file, by which it is known to be there, after its settings.
        for file in sorted(aside.iterdir(), reverse=True):
            file.chmod(0o666 & ~mask)  # safetensors keeps its files from everybody else
            file.replace(folder / file.name)
    except OSError as error:
        raise write_error(folder, error, "the training's state is kept") from None
    except SafetensorError as error:
        raise BildError(
            f"{folder} could not be written ({told(error)}); the training's state is kept: fix that and run again."
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_card(folder: Path, record: dict[str, Any]) -> None:
    """Write `README.md`: what the model is, how it was made, and what it scores."""
    made, scores = record["config"], record["scores"]
    kind = "encoder-decoder" if record["model"]["encoder_layers"] else "decoder behind the encoder of its large model"
    lines = [
        f"# {folder.name}",
        "",
        f"A {record['model']['kind']} {kind}, {record['model']['parameters']:,} parameters, "
        f"{record['model']['encoder_layers']} + {record['model']['decoder_layers']} layers of width "
        f"{record['model']['d_model']}; trained for task {made['task']['name']} ({made['task']['kind']}).",
        "",
        "| split | loss (nats per token) | scores |",
        "| --- | --- | --- |",
        *(
            f"| {split} ({found['examples']}) | {found['loss']:.3f} | "
            f"{', '.join(f'{name} {value:.2f}' for name, value in found.items() if name not in ('loss', 'examples'))} |"
            for split, found in scores.items()
        ),
        "",
        f"Greedy decoding in fp32 of the weights as stored here; {record['signature']}.",
        "",
        f"- **Command**: `{record['command']}`",
        f"- **Start**: {', '.join(f'{k} {v}' for k, v in record['start'].items() if v is not None)}",
        f"- **Corpus**: {record['data']['path'] or record['data']['where']}, split {record['data']['split']}, "
        f"{record['data']['samples']:,} pairs (sha256 {record['data']['hash'][:16]}). None of its text is here; "
        "its own licence holds for what is made from it.",
        f"- **Recipe**: {', '.join(f'{k} {v}' for k, v in made['train'].items() if v not in (None, []))}.",
        f"- **Training**: {record['progress']['step']} steps, epoch {record['progress']['best_epoch']} kept, "
        f"{record['progress']['seconds'] / 60:.0f} minutes in {record['progress']['sessions']} session(s) on "
        f"{record['environment']['machine']['name']}.",
        f"- **Everything else** (versions, commit, each epoch's figures): `{RECORD}`.",
        "",
    ]
    write_atomically(folder / "README.md", "\n".join(lines))


class PutOff:
    """Signals that would end the process (Ctrl-C, SIGTERM, SIGHUP), put off until what they would break is whole."""

    end: Callable[[], object] | None = None
    """Do what the one that came does: raise."""
    _now = False

    @contextmanager
    def heard(self, told: Callable[[], None]) -> Iterator[None]:
        """Put the first one off and call `told`; a second one ends the process at once. Others keep what they do."""

        def hear(number: int, frame: Any) -> None:
            does = before[signal.Signals(number)]
            if self.end or self._now:
                does(number, frame)
            self.end = partial(does, number, frame)
            told()

        mine = threading.current_thread() is threading.main_thread()
        kinds = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if mine and hasattr(signal, name)]
        before = {kind: does for kind in kinds if callable(does := signal.getsignal(kind))}
        try:
            for kind in before:
                signal.signal(kind, hear)
            yield
        finally:
            for kind, does in before.items():
                signal.signal(kind, does)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Put none off meanwhile."""
        self._now = True
        try:
            if self.end:
                self.end()
            yield
        finally:
            self._now = False
