"""The typed configuration of a run: every option, its type, its range, and what it may be combined with.

Plain dataclasses without Hydra: `bild.cli` registers them as schemas of the groups in `conf/`, and they check
themselves when they are made, so a value out of range is refused wherever it came from.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any

from bild.decoding.methods import MAX_DRAFT as MAX_DRAFT
from bild.decoding.methods import METHODS as METHODS
from bild.decoding.methods import RULES as RULES
from bild.decoding.methods import MethodConfig as MethodConfig
from bild.decoding.methods import ThresholdConfig as ThresholdConfig
from bild.decoding.policies import live_refusal
from bild.errors import BildError, one_of
from bild.options import LONG, MANY, SEED, Option, check_fields, device, folder, number, options_of, text, word

GRAPH_TRITON = "graph-triton"
ENGINES = ("hf", "fused", "graph", GRAPH_TRITON)
DTYPES = ("fp32", "fp16", "bf16")
DATA_SOURCES = ("embedded", "hub", "file")
EVALUATE = "evaluate:"
"""Begins the name of a metric of the `evaluate` library: `evaluate:exact_match`, `evaluate:folder/of/mine.py`."""
TOKENIZERS = {
    "bleu": ("13a", "intl", "zh", "char", "ja-mecab", "ko-mecab", "flores101", "flores200", "none"),
    "rouge": ("default", "unicode"),
}
"""The tokenizers of each metric, its own first: sacreBLEU's, and of ROUGE those that see a to z or every script."""
WITHOUT_SPACES = "\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
KINDS = ("t5", "mt5")
POINTS = "a loss of quality is given in points of the metric,"
THREADS = 1024
"""More than any machine has, and fewer than a process may have."""


def margin_of(value: Any, told: str = "--margin") -> float:
    """Read a margin, that of a command line say. BildError for what is no number, or out of range."""
    return float(options_of(MeasureConfig)["margin"].checked(told, value))


def confidence_of(value: Any) -> float:
    """Read the confidence of an interval. BildError for what is no number, or out of range."""
    return float(options_of(MeasureConfig)["confidence"].checked("confidence", value))


@dataclass
class EngineConfig:
    """The engine that runs a forward step, and the device that it runs on."""

    name: str = word("fused", ENGINES)
    dtype: str = word("fp32", DTYPES)
    device: str = device()
    threads: int = number(1, 1, THREADS)

    def __post_init__(self) -> None:
        check_fields("engine", self)


@dataclass
class DecodeConfig:
    """The choice of each token: greedy, or drawn by noise that the seed fixes (docs/algorithm.md)."""

    sample: bool = False
    top_p: float = number(1.0, 0, 1, above=True, what="it is a probability,")
    """Draw among the likeliest tokens whose probabilities together reach this."""
    temperature: float = number(1.0, 0, float("inf"), above=True, below=True)
    """The logits are divided by it before."""
    seed: int = number(0, 0, SEED)

    def __post_init__(self) -> None:
        check_fields("decode", self)
        if not self.sample and (self.top_p, self.temperature, self.seed) != (1.0, 1.0, 0):
            raise BildError(
                "decode.top_p, decode.temperature and decode.seed have no effect on greedy decoding: "
                "leave them out, or add decode.sample=true."
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Its part of hashes: none where it is greedy, as it was before there was a choice."""
        return {"decode": asdict(self)} if self.sample else {}


@dataclass
class Checkpoints:
    """A fine-tuned pair for one task: hub ids or folders. Early exit needs no small one."""

    large: str
    small: str | None = None


@dataclass
class ModelConfig:
    """A pair of checkpoints, and what it is good for.

    `fits` names the kinds of task that it was trained for: `summarisation`, `translation` between any languages,
    `translation-de-en` between these; `checkpoints` has fine-tuned pairs by task name and, where
    it is not empty, the pair fits these tasks only. `large` and `small`, where given, win over both.
    """

    name: str = "embedded"
    large: str | None = None
    small: str | None = None
    tokenizer: str | None = None
    fits: list[str] = field(default_factory=list)
    task: str | None = None
    checkpoints: dict[str, Checkpoints] = field(default_factory=dict)
    revision_large: str | None = None
    revision_small: str | None = None
    exit: int | None = number(None, 1, 1000)
    """Early exit: the small model is the large one's first `exit` decoder layers."""
    pretrained: Checkpoints | None = None
    """The two before they were fine-tuned: `bild train` and `bild align` start from them."""

    def __post_init__(self) -> None:
        check_fields("model", self)

    @property
    def pair_name(self) -> str:
        """The name of its folder under `results/<task>/`."""
        return self.name if self.exit is None else f"{self.name.removesuffix('-exit')}-exit{self.exit}"

    def fit(self, task: TaskConfig) -> Checkpoints | None:
        """Return the two checkpoints for a task, or None where the pair was not made for it."""
        found = self.checkpoints.get(task.name)
        if found is None and self.checkpoints and not (self.large and self.small):
            return None
        if not {"any", *task.kinds} & set(self.fits):
            return None
        made = found or Checkpoints("", None)
        large, small = self.large or made.large, self.small or made.small
        if not large or not (small or self.exit):
            raise BildError(
                f"model={self.name} needs two checkpoints: give model.large=... and model.small=..., each a folder or "
                "a hub id, or model.exit=n instead of a small one."
            )
        return Checkpoints(large, None if self.exit else small)


@dataclass
class ShapeConfig:
    """The sizes of a published checkpoint; the bench fills them with random weights."""

    name: str = "t5-small"
    kind: str = word("t5", KINDS)
    d_model: int = number(512, 1, LONG)
    d_kv: int = number(64, 1, LONG)
    d_ff: int = number(2048, 1, 2**20)
    heads: int = number(8, 1, 1024)
    encoder_layers: int = number(6, 1, 1000)
    decoder_layers: int = number(6, 1, 1000)
    rows: int = number(32128, 8, 2**22)
    """Rows of the embedding and of the head: the vocabulary with its padding."""
    gated: bool = False
    """Gated GELU (T5 v1.1, mT5) or ReLU (T5 v1.0)."""
    tied: bool = True
    """The head is the embedding (T5 v1.0), or else has weights of its own."""

    def __post_init__(self) -> None:
        check_fields("shape", self)


@dataclass
class TaskConfig:
    """A task: a data set, a prompt, the lengths, and the metric."""

    name: str = "embedded"
    kind: str = "translation-de-en"
    """translation or summarisation; `translation-de-en` is short for translation with languages [de, en]."""
    languages: list[str] = field(default_factory=list)
    """The language of the sources and that of the references, by their codes: [de, en]."""
    pair: str = "embedded"
    data: str = word("embedded", DATA_SOURCES)
    path: str = "captions"
    config: str | None = None
    revision: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    source_column: str = "source"
    reference_column: str = "reference"
    id_column: str | None = None
    split: str = "choose"
    confirm: str | None = None
    """The split on which a choice made on `split` is confirmed; None: the task has no other."""
    samples: int | None = number(None, 1, MANY)
    seed: int = number(0, 0, SEED)
    prompt: str = text("")
    source_limit: int = number(1024, 1, LONG)
    target_limit: int = number(128, 2, LONG)
    metric: str = "bleu"
    """bleu or rouge, with another tokenizer bleu:zh, rouge:unicode, ...; or evaluate:NAME, a metric of that library."""
    tokenize: str | None = None
    """The metric's tokenizer, as it may also stand behind its name; None: for BLEU that of the target language."""

    def __post_init__(self) -> None:
        check_fields("task", self)
        short = re.fullmatch(r"(translation)-(\w+)-(\w+)", self.kind)
        if short is not None:
            self.kind, self.languages = short[1], self.languages or [short[2], short[3]]
        if self.languages and len(self.languages) != 2:
            raise BildError(f"task.languages={self.languages} are not two: name source and target, such as [de,en].")
        self.metric = scored_by(self.metric, self.tokenize, self.languages[-1] if self.languages else None)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its kind as pairs and grids may name it, the most telling last: translation, translation-de-en."""
        return (self.kind, "-".join((self.kind, *self.languages))) if self.languages else (self.kind,)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that can change a token or a score, beside the data."""
        return {name: getattr(self, name) for name in ("name", "prompt", "source_limit", "target_limit", "metric")}


def scored_by(metric: str, tokenize: str | None = None, language: str | None = None) -> str:
    """Return the whole name of a metric: `bleu:zh` for BLEU with sacreBLEU's tokenizer zh, `bleu` with its usual one.

    A tokenizer that is not named is, for BLEU, that of the language of the references. BildError where one is not
    known, or named twice, or not installed.
    """
    if Option(str, {}).checked("task.metric", metric).startswith(EVALUATE):
        if metric == EVALUATE:
            raise BildError(f"task.metric={metric} names no metric: give one, such as {EVALUATE}exact_match.")
        if tokenize is not None:
            raise BildError(f"task.tokenize={tokenize} has no effect on task.metric={metric}: leave it out.")
        return metric
    base, _, own = metric.partition(":")
    one_of("task.metric", base, (*TOKENIZERS, f"{EVALUATE}NAME"))
    if own and own not in TOKENIZERS[base]:
        raise BildError(f"task.metric={metric} is not known: after {base}: goes one of {', '.join(TOKENIZERS[base])}.")
    one_of("task.tokenize", tokenize, TOKENIZERS[base])
    if own and tokenize not in (None, own):
        raise BildError(f"task.metric={metric} and task.tokenize={tokenize} name two tokenizers: leave one out.")
    wanted = own or tokenize or (_tokenizer_of(language) if base == "bleu" and language else None)
    return base if wanted in (None, TOKENIZERS[base][0]) else f"{base}:{wanted}"


def _tokenizer_of(language: str) -> str:
    """Return sacreBLEU's tokenizer for texts in a language, as far as it is installed."""
    base = re.split("[-_]", language.lower())[0]
    if base == "ja" and find_spec("MeCab") is None:
        raise BildError(
            "BLEU of Japanese texts needs a tokenizer that is not installed: pip install 'sacrebleu[ja]', or set "
            "task.tokenize=char."
        )
    korean = "ko-mecab" if find_spec("mecab_ko") is not None else "char"
    return {"zh": "zh", "ja": "ja-mecab", "ko": korean}.get(base, "13a")


@dataclass
class MeasureConfig:
    """Settings of the measurement: warm-up, the library's own `generate()` beside it, sessions, and intervals."""

    warmup: int = number(3, 0, MANY)
    library: int = number(32, -1, MANY)
    confidence: float = number(0.95, 0.5, 1, below=True)
    seed: int = number(0, 0, SEED)
    sessions: int = number(1, 1, 1000)
    """The examples are spread over so many fresh processes; with 1, this process times all of them."""
    calm_minutes: float = number(10.0, 0, 1440)
    """A session waits so long for a calm machine; then it goes on, and its record says so."""
    margin: float = number(0.5, 0, 100, what=POINTS)
    """The loss in the metric's points that verdicts are printed at."""

    def __post_init__(self) -> None:
        check_fields("measure", self)

    @property
    def identity(self) -> dict[str, Any]:
        """What can change a time, a score or an interval."""
        return {k: v for k, v in asdict(self).items() if k not in ("calm_minutes", "margin")}


@dataclass
class RunConfig:
    """All options of `bild run`."""

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    results: str = folder("results")
    resume: bool = True

    def __post_init__(self) -> None:
        check_fields("", self)
        refusal = live_refusal(self.method, self.engine.name, self.decode.sample)
        if refusal is not None:
            raise BildError(refusal)
