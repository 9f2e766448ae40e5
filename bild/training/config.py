"""The typed configuration of `bild.train` and `bild.align`. No torch: a wrong option is told before anything loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from bild.config import THREADS, ModelConfig, ShapeConfig, TaskConfig
from bild.errors import BildError
from bild.options import MANY, SEED, check_fields, device, folder, number, word

OPTIMIZERS = ("adafactor", "adamw")
SCHEDULES = ("constant", "linear", "cosine", "inverse-sqrt")
PRECISIONS = ("fp32", "bf16", "fp16")
FOLLOWED = {"agreement": "agreement", "tokens-per-pass": "tokens_per_pass_10"}
"""Of an alignment: the figure that tells how well the small model follows the large one (`bild.training.judge`)."""
SELECTIONS = ("score", "loss", "last", *FOLLOWED)
TOKENIZERS = ("bpe", "unigram")
ROLES = ("large", "small")
STARTS = ("pretrained", "finetuned", "scratch")
EXIT_LOSSES = ("mean", "layer")
LOSSES = ("sequence", "kl", "reverse-kl", "js")
SHARE = "it is a share,"


@dataclass
class TrainSettings:
    """The recipe of a training: `conf/train/`. docs/training.md explains rates and losses."""

    optimizer: str = word("adafactor", OPTIMIZERS)
    scale_parameter: bool = False
    """Adafactor only: the rate is relative to the size of each weight."""
    rate: float = number(5e-4, 0, 100, above=True)
    """Peak learning rate."""
    schedule: str = word("constant", SCHEDULES)
    warmup: int = number(0, 0, MANY)
    """Steps over which the rate rises from zero."""
    weight_decay: float = number(0.0, 0, 1000)
    epochs: int = number(3, 1, 10**6)
    steps: int | None = number(None, 1, MANY)
    """Ends the training (and the schedule) after this many steps, where that is sooner than the epochs."""
    batch: int = number(16, 1, 10**6)
    """Examples of one forward pass."""
    accumulate: int = number(1, 1, 10**6)
    """Forward passes of one step."""
    clip: float | None = number(None, 0, 10**6, above=True)
    """Largest norm of the gradient."""
    label_smoothing: float = number(0.0, 0, 1, what=SHARE, below=True)
    dropout: float | None = number(None, 0, 1, what=SHARE, below=True)
    """None keeps the checkpoint's."""
    subword_dropout: float = number(0.0, 0, 1, what=SHARE, below=True)
    """BPE-dropout of the sources: the probability with which a merge is left out, anew in every epoch."""
    grow: int = number(1, 1, 100)
    """Times that the decoder has each layer of the checkpoint that it starts from (`bild.training.start.grown`)."""
    exit: Any = None
    """Decoder layers (one, or a list) that are trained to be exits, each beside the last one."""
    exit_loss: str = word("mean", EXIT_LOSSES)
    """The mean over the exits and the last layer, or each weighed by the number of its layer (CALM)."""
    precision: str = word("fp32", PRECISIONS)
    """The dtype of matrix products; weights and optimiser stay in fp32."""
    seed: int = number(0, 0, SEED)
    validate_every: int = number(1, 1, 10**6)
    """Epochs."""
    validate_samples: int | None = number(None, 1, MANY)
    select: str = word("score", SELECTIONS)
    """The measure by which an epoch's weights are kept: the validation score, its loss, the last epoch; in an alignment
    also the share of the large model's tokens that are the small one's choice, or the tokens per large pass of exact
    speculation with drafts of 10 (`method=speculative`)."""
    patience: int | None = number(None, 1, 10**6)
    """Epochs without a better one after which training ends."""
    checkpoint_minutes: float = number(5.0, 0, 1440)

    def __post_init__(self) -> None:
        check_fields("train", self)
        if self.scale_parameter and self.optimizer != "adafactor":
            raise BildError("train.scale_parameter is Adafactor's: leave it out, or set train.optimizer=adafactor.")
        self.exit = _layers(self.exit)


def _layers(value: Any) -> list[int]:
    layers = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(layer, int) and not isinstance(layer, bool) and 1 <= layer <= 1000 for layer in layers):
        raise BildError(f"train.exit={value} is not a layer: give a decoder layer from 1 on, or a list of them.")
    return sorted(set(layers))


@dataclass
class TokenizerSettings:
    """The tokenizer of a model from scratch: one that is there, or one trained on the corpus."""

    path: str | None = None
    kind: str = word("bpe", TOKENIZERS)
    size: int | None = number(None, 32, 2**22)
    """Pieces, special tokens included; None takes the shape's rows."""

    def __post_init__(self) -> None:
        check_fields("tokenizer", self)


@dataclass
class SplitSettings:
    """The splits of the task to train on, validate on, and score at the end (None: no final score)."""

    train: str = "train"
    validation: str = "validation"
    test: str | None = None

    def __post_init__(self) -> None:
        check_fields("splits", self)


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
    device: str = device()
    threads: int = number(1, 1, THREADS)
    out: str | None = folder(None)
    """The folder of the run; None: trained/<task>-<what is trained>."""
    resume: bool = True

    def __post_init__(self) -> None:
        check_fields("", self)

    @property
    def folder(self) -> str:
        """Return the folder that the run writes to."""
        kind = f"-grown{self.train.grow}" if self.train.grow > 1 else ""
        kind += "".join(f"-exit{layer}" for layer in self.train.exit)
        return self.out or f"trained/{self.task.name}-{self.subject.replace('/', '-')}{kind}"

    @property
    def subject(self) -> str:
        """Name the model that is trained, for the name of the folder."""
        raise NotImplementedError


@dataclass
class TrainConfig(CommonConfig):
    """Everything that `python -m bild.train` can be told."""

    COMMAND = "bild.train"

    role: str = word("large", ROLES)
    """The model of the pair to fine-tune, from its pretrained checkpoint."""
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train.select in FOLLOWED:
            raise BildError(f"train.select={self.train.select} asks for a large model to follow: it is for bild align.")
        if (self.model is None) == (self.shape is None):
            raise BildError(
                "Name what is trained: model=... to fine-tune a checkpoint, or shape=... to start from scratch."
            )
        if self.model is not None and self.tokenizer != TokenizerSettings():
            raise BildError(
                f"tokenizer has no effect here, as model={self.model.name} has its own: leave tokenizer.* out, or "
                "start from scratch with shape=... in place of model."
            )
        if self.shape is not None and self.train.grow > 1:
            raise BildError(
                f"train.grow={self.train.grow} copies the layers of a trained model, and shape={self.shape.name} is a "
                "new one: set shape.decoder_layers, or name the trained one with model=... in place of shape."
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

    start: str = word("pretrained", STARTS)
    """The small model to begin with: as published (the paper), fine-tuned (as the authors advise), or new."""
    loss: str = word("sequence", LOSSES)
    """The likelihood of the outputs, or a divergence between the two distributions at each of their tokens."""
    batch: int = number(32, 1, 10**6)
    """Sources that the large model decodes together."""
    bridge: bool = False
    """The small model gives up its encoder, and reads the large one's states through a linear map."""
    augment: int = number(0, 0, 1000)
    """Times that the sources are recombined into as many new ones, whose outputs are learnt, too."""
    on_policy: bool = False
    """Outputs that go on from the small model's own tokens are learnt, too: one more of each source."""

    def __post_init__(self) -> None:
        check_fields("align", self)


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
        if self.train.grow > 1:
            raise BildError(
                f"train.grow={self.train.grow} is for bild train: grow and train a model there, and align what it made."
            )
        if self.align.bridge and self.train.exit:
            raise BildError("align.bridge=true makes a small model, which has no exits: leave out train.exit.")

    @property
    def subject(self) -> str:
        """See `CommonConfig`."""
        assert self.model is not None
        kind = "" if self.align.loss == "sequence" else f"-{self.align.loss}"
        return f"{self.model.name}-{'bridge' if self.align.bridge else 'aligned'}{kind}"
