"""The finished model on disk: fp16 weights, tokenizer, the record of the run, and a card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bild.results.folder import write_atomically

RECORD = "training.json"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")


def export_model(module: Any, weights: dict[str, Tensor], folder: Path, tokenizer_folder: Path) -> None:
    """Load `weights` into the module, round them to fp16, and write them with configuration and tokenizer.

    The module keeps the rounded weights, in fp32: what is scored next is what lies on the disk. Weights beyond the
    range of fp16 stay in fp32, for the file as a whole.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    module.load_state_dict(weights)
    fits = all(bool(torch.isfinite(p.half()).all()) for p in module.parameters())
    if fits:
        module.half()
    module.config.dtype = next(module.parameters()).dtype
    module.save_pretrained(folder)
    module.float()
    for name in _TOKENIZER:
        if (tokenizer_folder / name).is_file() and tokenizer_folder.resolve() != folder.resolve():
            shutil.copyfile(tokenizer_folder / name, folder / name)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write `training.json`, the last file of a run."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / RECORD, text)


def write_card(folder: Path, record: dict[str, Any]) -> None:
    """Write `README.md`: what the model is, how it was made, and what it scores."""
    made, scores = record["config"], record["scores"]
    lines = [
        f"# {folder.name}",
        "",
        f"A {record['model']['kind']} encoder-decoder, {record['model']['parameters']:,} parameters, "
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
        f"Greedy decoding in fp32 of the weights as they lie here; {record['signature']}.",
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
