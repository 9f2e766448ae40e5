"""The typed configuration of `bild.train` and `bild.align`. No torch: a wrong option is told before anything loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from bild.config import ModelConfig, ShapeConfig, TaskConfig, at_least, one_of
from bild.errors import BildError

OPTIMIZERS = ("adafactor", "adamw")
SCHEDULES = ("constant", "linear", "cosine", "inverse-sqrt")
PRECISIONS = ("fp32", "bf16", "fp16")
SELECTIONS = ("score", "loss", "last")
TOKENIZERS = ("bpe", "unigram")
ROLES = ("large", "small")
STARTS = ("pretrained", "finetuned", "scratch")
EXIT_LOSSES = ("mean", "layer")
LOSSES = ("sequence", "kl", "reverse-kl", "js")


@dataclass
class TrainSettings:
    """The recipe of a training: `conf/train/`. docs/training.md explains rates and losses."""

    optimizer: str = "adafactor"
    scale_parameter: bool = False
    """Adafactor only: the rate is relative to the size of each weight."""
    rate: float = 5e-4
    """Peak learning rate."""
    schedule: str = "constant"
    warmup: int = 0
    """Steps over which the rate rises from zero."""
    weight_decay: float = 0.0
    epochs: int = 3
    steps: int | None = None
    """Ends the training (and the schedule) after this many steps, where that is sooner than the epochs."""
    batch: int = 16
    """Examples of one forward pass."""
    accumulate: int = 1
    """Forward passes of one step."""
    clip: float | None = None
    """Largest norm of the gradient."""
    label_smoothing: float = 0.0
    dropout: float | None = None
    """None keeps the checkpoint's."""
    subword_dropout: float = 0.0
    """BPE-dropout of the sources: the probability with which a merge is left out, anew in every epoch."""
    exit: Any = None
    """Decoder layers (one, or a list) that are trained to be exits, each beside the last one."""
    exit_loss: str = "mean"
    """The mean over the exits and the last layer, or each weighed by the number of its layer (CALM)."""
    precision: str = "fp32"
    """The dtype of matrix products; weights and optimiser stay in fp32."""
    seed: int = 0
    validate_every: int = 1
    """Epochs."""
    validate_samples: int | None = None
    select: str = "score"
    """The measure by which an epoch's weights are kept: the validation score, its loss, or the last epoch."""
    patience: int | None = None
    """Epochs without a better one after which training ends."""
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        one_of("train.optimizer", self.optimizer, OPTIMIZERS)
        one_of("train.schedule", self.schedule, SCHEDULES)
        one_of("train.precision", self.precision, PRECISIONS)
        one_of("train.exit_loss", self.exit_loss, EXIT_LOSSES)
        one_of("train.select", self.select, SELECTIONS)
        for name in ("epochs", "steps", "batch", "accumulate", "validate_every", "validate_samples", "patience"):
            at_least(f"train.{name}", getattr(self, name), 1)
        for name in ("warmup", "weight_decay", "checkpoint_minutes"):
            at_least(f"train.{name}", getattr(self, name), 0)
        for name in ("label_smoothing", "dropout", "subword_dropout"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise BildError(f"train.{name}={value:g} is out of range: it is a share, from 0 to below 1.")
        for name in ("rate", "clip"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise BildError(f"train.{name}={value:g} is out of range: it must be above 0, and finite.")
        if self.scale_parameter and self.optimizer != "adafactor":
            raise BildError("train.scale_parameter is Adafactor's: leave it out, or set train.optimizer=adafactor.")
        self.exit = _layers(self.exit)


def _layers(value: Any) -> list[int]:
    layers = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(layer, int) and not isinstance(layer, bool) and layer >= 1 for layer in layers):
        raise BildError(f"train.exit={value} is not a layer: give a decoder layer from 1 on, or a list of them.")
    return sorted(set(layers))


@dataclass
class TokenizerSettings:
    """The tokenizer of a model from scratch: one that is there, or one trained on the corpus."""

    path: str | None = None
    kind: str = "bpe"
    size: int | None = None
    """Pieces, special tokens included; None takes the shape's rows."""

    def __post_init__(self) -> None:
        one_of("tokenizer.kind", self.kind, TOKENIZERS)
        at_least("tokenizer.size", self.size, 32)


@dataclass
class SplitSettings:
    """The splits of the task to train on, validate on, and score at the end (None: no final score)."""

    train: str = "train"
    validation: str = "validation"
    test: str | None = None


@dataclass
class CommonConfig:
    """The options that `python -m bild.train` and `python -m bild.align` share."""

    COMMAND: ClassVar[str]
    GROUPS: ClassVar[tuple[str, ...]] = ("task", "model", "shape", "train")

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig | None = None
    shape: ShapeConfig | None = None
    """From scratch: the sizes of the model."""
    train: TrainSettings = field(default_factory=TrainSettings)
    splits: SplitSettings = field(default_factory=SplitSettings)
    device: str = "auto"
    threads: int = 1
    out: str | None = None
    """The folder of the run; None: trained/<task>-<what is trained>."""
    resume: bool = True

    def __post_init__(self) -> None:
        at_least("threads", self.threads, 1)

    @property
    def folder(self) -> str:
        """Return the folder that the run writes to."""
        exits = "".join(f"-exit{layer}" for layer in self.train.exit)
        return self.out or f"trained/{self.task.name}-{self.subject.replace('/', '-')}{exits}"

    @property
    def subject(self) -> str:
        """Name the model that is trained, for the name of the folder."""
        raise NotImplementedError


@dataclass
class TrainConfig(CommonConfig):
    """Everything that `python -m bild.train` can be told."""

    COMMAND = "bild.train"

    role: str = "large"
    """The model of the pair to fine-tune, from its pretrained checkpoint."""
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("role", self.role, ROLES)
        if (self.model is None) == (self.shape is None):
            raise BildError(
                "Name what is trained: model=... to fine-tune a checkpoint, or shape=... to start from scratch."
            )

    @property
    def subject(self) -> str:
        """See `CommonConfig`."""
        if self.shape is not None:
            return self.shape.name
        assert self.model is not None
        return f"{self.model.name}-{self.role}"


@dataclass
class AlignSettings:
    """The way in which the small model learns the large one's outputs (paper 3.5.1)."""

    start: str = "pretrained"
    """The small model to begin with: as published (the paper), fine-tuned (as the authors advise), or new."""
    loss: str = "sequence"
    """The likelihood of the outputs, or a divergence between the two distributions at each of their tokens."""
    batch: int = 32
    """Sources that the large model decodes together."""

    def __post_init__(self) -> None:
        one_of("align.start", self.start, STARTS)
        one_of("align.loss", self.loss, LOSSES)
        at_least("align.batch", self.batch, 1)


@dataclass
class AlignConfig(CommonConfig):
    """Everything that `python -m bild.align` can be told."""

    COMMAND = "bild.align"

    align: AlignSettings = field(default_factory=AlignSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is None:
            raise BildError(
                "Name the pair: model=..., or model=folders with model.large=... (whose outputs are learnt) and "
                "model.small=..."
            )
        if (self.align.start == "scratch") != (self.shape is not None):
            raise BildError("align.start=scratch and shape=... belong together: the small model is made new.")
        if self.align.loss != "sequence" and (self.train.exit or self.train.label_smoothing):
            raise BildError(
                f"align.loss={self.align.loss} takes the large model's distribution as its target: set "
                "train.label_smoothing=0 and leave out train.exit."
            )

    @property
    def subject(self) -> str:
        """See `CommonConfig`."""
        assert self.model is not None
        kind = "" if self.align.loss == "sequence" else f"-{self.align.loss}"
        return f"{self.model.name}-aligned{kind}"
