"""The start of a training: a module and its tokenizer, new or from a checkpoint."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bild.config import ModelConfig, TaskConfig
from bild.errors import BildError
from bild.models import resolve_device
from bild.models.checkpoint import Model, load_model
from bild.models.device import tell_device
from bild.models.pair_spec import load_tokenizer
from bild.models.shapes import model_config
from bild.models.source import (
    EMBEDDED,
    Source,
    embedded_folder,
    locate,
    locate_tokenizer,
    read_config,
    tokenizer_fingerprint,
)
from bild.tasks import Dataset
from bild.training.config import CommonConfig, TokenizerSettings
from bild.training.folder import made_aside

SPECIAL = ["<pad>", "</s>", "<unk>"]
"""Ids 0, 1 and 2, as T5 has them; id 0 also starts the decoder."""
_QUIET = 0.1
"""The share of a layer's outputs that a copy of it begins with."""
_OUTPUTS = re.compile(r"(SelfAttention|EncDecAttention)\.o\.|DenseReluDense\.wo\.")


@dataclass
class Start:
    """A module in fp32 on its device, and what it reads and writes."""

    module: Any
    tokenizer: Any
    tokenizer_folder: Path
    described: dict[str, Any]
    """The origin of the weights, for the record."""
    model: Model | None = None
    """The checkpoint that it is, whose encoder another one may read."""

    @property
    def vocabulary(self) -> int:
        """Token ids that the tokenizer knows; padding rows of the head lie beyond."""
        return len(self.tokenizer)


def from_scratch(config: CommonConfig, settings: TokenizerSettings, data: Dataset) -> Start:
    """Make new weights of the configured shape, over the tokenizer that is named or one trained on the corpus."""
    from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration

    shape, train = config.shape, config.train
    assert shape is not None
    source = _tokenizer(settings, data, Path(config.folder), shape.rows)
    tokenizer = load_tokenizer(source)
    if len(tokenizer) > shape.rows:
        raise BildError(f"The tokenizer has {len(tokenizer)} pieces, but shape.rows={shape.rows}: one row for each.")
    made = model_config(shape)
    made.tokenizer_class = None
    if train.dropout is not None:
        made.dropout_rate = train.dropout
    torch.manual_seed(train.seed)
    module = (T5ForConditionalGeneration if shape.kind == "t5" else MT5ForConditionalGeneration)(made)
    module = module.to(device_of(config))
    return Start(module, tokenizer, source.folder, {"shape": shape.name, "seed": train.seed})


def _tokenizer(settings: TokenizerSettings, data: Dataset, folder: Path, rows: int) -> Source:
    if settings.path is not None:
        return locate_tokenizer(settings.path, "tokenizer.path")
    if not (folder / "tokenizer.json").exists():
        texts = [text for example in data for text in (example.source, example.reference)]
        with made_aside(folder) as aside:
            save_tokenizer(train_tokenizer(texts, settings.kind, settings.size or rows), aside)
    return locate_tokenizer(str(folder), "out")


def from_checkpoint(
    config: CommonConfig, role: str, stage: str, dropout: float | None, large: Model | None = None, *, grow: int = 1
) -> Start:
    """Load a pair's `role` ("large" or "small") at a stage, "pretrained" or "finetuned", and its tokenizer, in fp32.

    The tokenizer is the one that the pair names, or the one beside the weights; `large` is the large model, where a
    small one may have a bridge to its encoder; `grow` makes the decoder deeper. Raises BildError where the pair does
    not say what it was at that stage, or where something is missing.
    """
    model = config.model
    assert model is not None
    name, tokenizer = embedded_folder(_checkpoint(model, config.task, role, stage), role), model.tokenizer
    if tokenizer is None and Path(name).parent == EMBEDDED:
        tokenizer = str(EMBEDDED)
    revision = model.revision_large if role == "large" else model.revision_small
    source = locate(name, revision=revision, option=f"model.{role}")
    read = read_config(source)
    if dropout is not None:
        read.dropout_rate = dropout
    owner = locate_tokenizer(tokenizer, "model.tokenizer") if tokenizer else source
    if not owner.has_tokenizer:
        raise BildError(f"{owner.name} has no tokenizer: name one with model.tokenizer=..., a folder or a hub id.")
    loaded = load_model(source, read, torch.float32, device_of(config), large)
    described = {"source": source.name, "revision": source.revision, "fingerprint": loaded.fingerprint}
    if grow > 1:
        before, loaded = read.num_decoder_layers, grown(loaded, grow)
        described["decoder_layers"] = f"{before} grown to {loaded.config.num_decoder_layers}"
    return Start(loaded.module, load_tokenizer(owner), owner.folder, described, loaded)


def grown(model: Model, times: int) -> Model:
    """Return a model with each decoder layer `times` times: itself, then copies that add a tenth of what it adds.

    So it begins near the model that it was made of, and the copies learn from there. Near kin are Net2Net (Chen et
    al., 2016), whose added layers change nothing at first, and progressive stacking (Gong et al., 2019), which copies
    layers as they are.
    """
    state: dict[str, torch.Tensor] = {}
    for name, weight in model.state.items():
        layer = re.fullmatch(r"decoder\.block\.(\d+)\.(.+)", name)
        if layer is None:
            state[name] = weight
            continue
        scale = _QUIET if _OUTPUTS.search(name) else 1.0
        copies = 1 if "relative_attention_bias" in name else times  # the first layer's is all layers'
        for n in range(copies):
            # Rounded as the file is: it is the same model whether it is grown now or was written in between.
            made = (weight.float() * scale).to(weight.dtype) if n else weight
            state[f"decoder.block.{times * int(layer[1]) + n}.{layer[2]}"] = made
    config = copy.deepcopy(model.config)
    config.num_decoder_layers *= times
    return Model(model.source, model.fingerprint, config, state, model.dtype, model.device, reads=model.reads)


def device_of(config: CommonConfig) -> torch.device:
    """Return the device that a training runs on, and say it."""
    device = resolve_device(config.device)
    tell_device(device, config.train.precision)
    return device


def _checkpoint(model: ModelConfig, task: TaskConfig, role: str, stage: str) -> str:
    """Name a pair's checkpoint at a stage. BildError where the pair does not say it."""
    found = None
    if stage == "pretrained":
        found = getattr(model.pretrained, role, None)
        if found is None and model.checkpoints:
            raise BildError(
                f"model={model.name} does not say what it was pretrained as: give model.pretrained.{role}=..."
            )
    if found is None and role == "small" and model.exit is not None:
        raise BildError(
            f"The small model of model={model.name} is the large one's first layers: they are trained with it, by bild "
            f"train role=large train.exit={model.exit}."
        )
    found = found or getattr(model, role) or getattr(model.checkpoints.get(task.name), role, None)
    if not found:
        known = f" for task={', '.join(model.checkpoints)} only" if model.checkpoints else ""
        raise BildError(
            f"model={model.name} names no {role} model for task={task.name}{known}: give model.{role}=..., a folder or "
            "a hub id."
        )
    return str(found)


def identify(start: Start) -> dict[str, Any]:
    """Return all of the start that can change a training."""
    return start.described | {"tokenizer": tokenizer_fingerprint(start.tokenizer_folder)}


def train_tokenizer(texts: Iterable[str], kind: str, size: int) -> Any:
    """Train a subword tokenizer of `size` pieces over raw, cased text; words are marked by the space before."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[2]))
        trainer: Any = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=SPECIAL, unk_token=SPECIAL[2], show_progress=False
        )
    tokenizer.normalizer = normalizers.NFKC()
    # Stops stand alone, so that no piece joins a word with the full stop behind it; hyphens stay within words.
    stops = pre_tokenizers.Split(Regex(r'[.,;:!?"()]'), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), stops])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` as the library reads them."""
    from transformers import PreTrainedTokenizerFast

    pad, end, unknown = SPECIAL
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown)
    wrapped.save_pretrained(folder)
