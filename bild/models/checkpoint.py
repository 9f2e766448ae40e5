"""One checkpoint: its configuration, its weights, and what identifies it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from bild.errors import BildError
from bild.models.source import Source, fingerprint


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
    """The configuration of a checkpoint, which must be a T5 or an mT5."""
    from transformers import AutoConfig

    try:
        plain = json.loads((source.folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BildError(f"{source.name} has a config.json that cannot be read ({error}).") from error
    kind = plain.get("model_type") if isinstance(plain, dict) else None
    if kind not in ("t5", "mt5"):
        what = f"is a {kind} checkpoint" if isinstance(kind, str) else "has a config.json without a model_type"
        raise BildError(f"{source.name} {what}: only T5 and mT5 encoder-decoders can be paired.")
    try:
        return AutoConfig.from_pretrained(source.folder)
    except Exception as error:  # the library checks the values, and raises all kinds
        raise BildError(f"{source.name} has a config.json that is not a {kind}'s ({told(error)}).") from error


def load_model(source: Source, config: Any, dtype: torch.dtype, device: torch.device, allow_pickle: bool) -> Model:
    """The weights of a checkpoint, complete and fitting its configuration, or a BildError that says what is wrong."""
    from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    classes = {"t5": T5ForConditionalGeneration, "mt5": MT5ForConditionalGeneration}
    transformers_logging.set_verbosity_error()  # its warnings on ties and its bars would drown ours
    transformers_logging.disable_progress_bar()
    try:
        module, report = classes[config.model_type].from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            use_safetensors=None if allow_pickle and not source.has_safetensors else True,
            ignore_mismatched_sizes=True,  # they are told below; the library would only point to its log
            output_loading_info=True,
        )
    except Exception as error:  # a damaged file: which kind depends on its format
        raise BildError(f"The weights of {source.name} cannot be loaded: {told(error)}.") from error
    # The library fills what a file lacks with random numbers; the head may be missing where it is tied.
    missing = sorted(k for k in report["missing_keys"] if not k.endswith(("embed_tokens.weight", "lm_head.weight")))
    if missing:
        raise BildError(f"The weights of {source.name} are incomplete: {len(missing)} are missing, {missing[0]} first.")
    if report["mismatched_keys"]:
        key, found, wanted = sorted(report["mismatched_keys"])[0]
        raise BildError(
            f"The weights of {source.name} do not fit its config.json: {key} is {list(found)}, not {list(wanted)}."
        )
    module = module.to(device).eval()
    parameters = sum(p.numel() for p in module.parameters())
    return Model(module, source, fingerprint(source.folder), parameters)


def first_layers(whole: Model, exit_layer: int) -> Model:
    """The small model of an early-exit pair: the same module, described as its first layers."""
    beyond = tuple(f"decoder.block.{i}." for i in range(exit_layer, whole.module.config.num_decoder_layers))
    parameters = sum(p.numel() for name, p in whole.module.named_parameters() if not name.startswith(beyond))
    return Model(whole.module, whole.source, f"{whole.fingerprint}-exit{exit_layer}", parameters)


def told(error: Exception) -> str:
    """What an error of the library says, on one line and not at length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:157]}...").rstrip(".")
