"""One checkpoint: its configuration and its weights, which are what its files say, or are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bild.errors import BildError, told
from bild.models.convert import converted
from bild.models.source import Source, fingerprint, generation_ids, weight_files
from bild.progress import say

_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_HEAD = "lm_head.weight"
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
"""T5 v1.0 was published with it; no position bias has ever been added in its cross-attention."""


@dataclass
class Model:
    """One loaded checkpoint."""

    module: Any
    source: Source
    fingerprint: str
    parameters: int

    def describe(self) -> dict[str, Any]:
        """For the record."""
        return {
            "source": self.source.name,
            "revision": self.source.revision,
            "fingerprint": self.fingerprint,
            "parameters": self.parameters,
        }


def read_config(source: Source) -> Any:
    """Read the configuration of a checkpoint, with the start and end tokens as the library's `generate()` heeds them.

    Raises BildError for what is no T5 or mT5, and for texts that could end at several tokens.
    """
    from transformers import AutoConfig

    plain = _plain_config(source)
    kind = plain.get("model_type")
    if kind not in ("t5", "mt5"):
        what = f"is a {kind} checkpoint" if isinstance(kind, str) else "has a config.json without a model_type"
        raise BildError(f"{source.name} {what}: only T5 and mT5 encoder-decoders can be paired.")
    try:
        config = AutoConfig.from_pretrained(source.folder)
    except Exception as error:  # the library checks the values, and raises all kinds
        raise BildError(f"{source.name} has a config.json that is not a {kind}'s ({told(error)}).") from error
    for name, value in generation_ids(source.folder).items():
        setattr(config, name, value)
    end = config.eos_token_id
    if isinstance(end, list):
        if len(end) != 1:
            raise BildError(
                f"{source.name} ends a text at any of the tokens {', '.join(map(str, end))}: BiLD knows one end token; "
                "set eos_token_id to one of them in its config.json or generation_config.json."
            )
        config.eos_token_id = end[0]
    return config


def _plain_config(source: Source) -> dict[str, Any]:
    try:
        plain = json.loads((source.folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BildError(f"{source.name} has a config.json that cannot be read ({error}).") from error
    return plain if isinstance(plain, dict) else {}


def load_model(source: Source, config: Any, dtype: torch.dtype, device: torch.device) -> Model:
    """Load the weights of a checkpoint, which must be those of its configuration, no more and no fewer.

    Raises BildError where they are not; a head that is missing is the input embedding, and that is said.
    """
    from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # its warnings on ties and its bars would drown ours
    transformers_logging.disable_progress_bar()
    kind = {"t5": T5ForConditionalGeneration, "mt5": MT5ForConditionalGeneration}[config.model_type]
    try:
        with torch.device("meta"):
            wanted = {name: weight.shape for name, weight in kind(config).state_dict().items()}
    except Exception as error:  # sizes that cannot be
        raise BildError(f"{source.name} has a config.json that makes no model ({told(error)}).") from error
    state = _fitting(_read_weights(source), wanted, source)
    try:
        # Without a name the library reads no file of its own accord: no adapter, no generation settings.
        module = kind.from_pretrained(None, config=config, state_dict=state, dtype=dtype)
    except Exception as error:
        raise BildError(f"The weights of {source.name} cannot be loaded: {told(error)}.") from error
    module = module.to(device).eval()
    parameters = sum(p.numel() for p in module.parameters())
    return Model(module, source, fingerprint(source.folder), parameters)


def _read_weights(source: Source) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for file in weight_files(source.folder):
        safe = file if file.suffix == ".safetensors" else converted(file, source.name)
        try:
            state |= load_file(safe)
        except Exception as error:  # a damaged file
            raise BildError(f"The weights of {source.name} cannot be loaded: {told(error)}.") from error
    return state


def _fitting(state: dict[str, Tensor], wanted: dict[str, torch.Size], source: Source) -> dict[str, Tensor]:
    """Check the weights of a file against those that the model has, and give the embedding its one name."""
    state = {name: weight for name, weight in state.items() if not _is_harmless(name, weight)}
    found = [name for name in _EMBEDDINGS if name in state]
    if found:
        embedding = state[found[0]]
        for name in found[1:]:
            if not torch.equal(embedding, state[name]):
                raise BildError(
                    f"{source.name} has input embeddings of their own for its encoder and decoder ({name} is not "
                    f"{found[0]}): only checkpoints that share one are supported."
                )
        state = {name: weight for name, weight in state.items() if name not in found} | {_EMBEDDINGS[0]: embedding}
    plain = _plain_config(source)
    tied = plain.get("tie_word_embeddings", plain.get("model_type") == "t5")  # the library's object says true of any
    if _HEAD not in state and _EMBEDDINGS[0] in state and not tied:
        say(f"warning: {source.name} has no {_HEAD}: its input embedding is the head, too")
        state[_HEAD] = state[_EMBEDDINGS[0]]
    if beyond := sorted(set(state) - set(wanted)):
        raise BildError(
            f"The weights of {source.name} do not fit its config.json: {len(beyond)} have no place in the model, "
            f"{beyond[0]} first."
        )
    if missing := sorted(set(wanted) - set(state) - {*_EMBEDDINGS[1:], _HEAD}):
        raise BildError(f"The weights of {source.name} are incomplete: {len(missing)} are missing, {missing[0]} first.")
    for name in sorted(state):
        if state[name].shape != wanted[name]:
            raise BildError(
                f"The weights of {source.name} do not fit its config.json: {name} is {list(state[name].shape)}, not "
                f"{list(wanted[name])}."
            )
    return state


def _is_harmless(name: str, weight: Tensor) -> bool:
    """Tell whether a weight is one that old conversions left behind and no T5 has: a norm's bias of zeros, a table."""
    return name == _UNUSED or (name.endswith("layer_norm.bias") and not bool(weight.any()))


def first_layers(whole: Model, exit_layer: int) -> Model:
    """The small model of an early-exit pair: the same module, described as its first layers."""
    beyond = tuple(f"decoder.block.{i}." for i in range(exit_layer, whole.module.config.num_decoder_layers))
    parameters = sum(p.numel() for name, p in whole.module.named_parameters() if not name.startswith(beyond))
    return Model(whole.module, whole.source, f"{whole.fingerprint}-exit{exit_layer}", parameters)
