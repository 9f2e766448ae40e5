"""Put trained models in the place of the pairs that ship: `python scripts/ship_embedded.py trained/embedded`.

Takes the folders that `make embedded-pair` trains, and writes weights, records and one card to
`bild/models/embedded/`. Paths of the machine that trained stay out of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from bild.models import EMBEDDED
from bild.training.folder import RECORD

MODELS = ("large", "small", "small-aligned", "small-bridge", "exit")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
FILES = ("config.json", "generation_config.json", "model.safetensors")
LARGEST = 40 * 1024 * 1024
PAIRS = """\
| option | large model | small model |
| --- | --- | --- |
| `model=embedded` | large | small |
| `model=embedded-aligned` | large | small-aligned |
| `model=embedded-bridge` | large | small-bridge, a decoder behind the encoder of large |
| `model=embedded-exit` | exit | the first decoder layer of exit, with its final norm and head |
"""


def main() -> int:
    """Check what was trained, then replace what ships."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trained", type=Path, help="folder with the trained models")
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    options = parser.parse_args()
    records = {name: json.loads((options.trained / name / RECORD).read_bytes()) for name in MODELS}
    tokenizers = {(options.trained / name / TOKENIZER[0]).read_bytes() for name in MODELS}
    if len(tokenizers) != 1:
        print("error: the models have different tokenizers: train them over that of the large one.", file=sys.stderr)
        return 2
    for name in MODELS:
        _copy(options.trained / name, options.out / name)
        text = json.dumps(_portable(records[name]), indent=2, ensure_ascii=False) + "\n"
        (options.out / name / RECORD).write_text(text, encoding="utf-8")
    for file in TOKENIZER:
        shutil.copyfile(options.trained / "large" / file, options.out / file)
    (options.out / "README.md").write_text(card(records), encoding="utf-8")
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size / 2**20:.1f} MiB")
    if size > LARGEST:
        print(f"error: that is more than {LARGEST / 2**20:.0f} MiB.", file=sys.stderr)
        return 2
    return 0


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(source / file, target / file)


def _portable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the paths of this machine: the corpus is a folder, models are known by their names."""
    config = record["config"]
    places = {config["task"]["path"]: "CORPUS"}
    model = config.get("model") or {}
    named = (config["out"], (config.get("tokenizer") or {}).get("path"), model.get("large"), model.get("small"))
    places |= {path: f"trained/embedded/{Path(path).name}" for path in named if path and "/" in path}
    text = json.dumps(record)
    for path in sorted(filter(None, places), key=len, reverse=True):
        text = text.replace(json.dumps(path)[1:-1], places[path])
    found: dict[str, Any] = json.loads(text)
    return found


def card(records: dict[str, dict[str, Any]]) -> str:
    """The card of all models, from their records."""
    rows: dict[str, list[str]] = {
        "parameters": [f"{r['model']['parameters']:,}" for r in records.values()],
        "encoder + decoder layers": [
            f"{r['model']['encoder_layers']} + {r['model']['decoder_layers']}" for r in records.values()
        ],
        "width, feed-forward, heads x key size": [
            "{d_model}, {d_ff}, {heads} x {d_kv}".format(**r["model"]) for r in records.values()
        ],
        "**sacreBLEU, Multi30k test2016 (1,000)**": [_score(r, "test") for r in records.values()],
        "sacreBLEU, Multi30k validation (1,014)": [_score(r, "validation") for r in records.values()],
        "loss on the validation split, nats per token": [
            f"{r['scores']['validation']['loss']:.2f}" for r in records.values()
        ],
        "epochs of the last go, of which kept": [
            f"{r['progress']['epoch']}, {r['progress']['best_epoch']}" for r in records.values()
        ],
        "minutes of it, on one or two CPU threads": [f"{r['progress']['seconds'] / 60:.0f}" for r in records.values()],
    }
    table = [
        f"| | {' | '.join(records)} |",
        f"| --- |{' --- |' * len(records)}",
        *(f"| {name} | {' | '.join(values)} |" for name, values in rows.items()),
    ]
    commands = [f"- **{name}**: `{_command(_portable(record))}`" for name, record in records.items()]
    first = next(iter(records.values()))
    return TEXT.format(pairs=PAIRS, table="\n".join(table), commands="\n".join(commands), signature=first["signature"])


def _score(record: dict[str, Any], split: str) -> str:
    scores = record["scores"][split]
    exits = [f"; at {name.split(' at ')[1]} {value:.1f}" for name, value in scores.items() if " at " in name]
    return f"{scores['bleu']:.1f}{''.join(exits)}"


def _command(record: dict[str, Any]) -> str:
    command: str = record["command"]
    return command


TEXT = """\
# The embedded pairs

T5 models that translate German image captions into English, over one tokenizer. They come with the package so that
every command works offline, on a laptop, within a minute. They are a test bed for decoding methods, not translators.

{pairs}
{table}

The scores are of the weights as stored here (fp16 on disk, greedy decoding in fp32), {signature}. Measure them again:

    bild run -m method=vanilla,small task=multi30k task.split=test model=embedded,embedded-bridge,embedded-exit
    bild run -m method=small task=multi30k task.split=test model=embedded-aligned

- **Kind**: T5 v1.0 (ReLU, head tied to the embedding and scaled), one 4,000-piece BPE tokenizer over the cased text of
  both languages; ids 0 pad and decoder start, 1 end, 2 unknown; no prompt. The decoder of *large* is deeper than its
  encoder, by which the library's `generate()` sizes a cache of keys and values: give it your own (`past_key_values`),
  as the commands here do.
- **Corpus**: the 29,000 sentence pairs of Multi30k De-En (task 1, raw). The models saw nothing else; the validation
  split chose the epoch to keep, and the test split played no part.
- **Recipe**: from scratch with Adafactor (`scale_parameter=True, relative_step=False`), peak rate 2e-2, 200 warm-up
  steps, cosine to zero, batches of 64 by length, gradients clipped at 1, label smoothing 0.1, bf16 products over fp32
  weights, seed 0; dropout and BPE-dropout are in `conf/train/embedded-*.yaml`. All but *small* were trained in several
  goes, each from the end of the one before (`-on`, `-deep`). *large* ended the second with 4 + 4 layers
  (`large-shallow`). Then its decoder was grown, each layer followed by a copy with outputs initially a tenth of its
  own, and trained on (`embedded-large-deep`, `train.grow=2`, fp32). *small-aligned* is *small*, trained further towards
  the distribution of the large model (KL divergence) at each token of its greedy outputs, without label smoothing or
  dropout. *small-bridge* is the decoder of *small-aligned* with a bias-free map of the large model's states, fitted by
  least squares, in place of its encoder. Both were trained on as *small-aligned* was, in fp32 with dropout 0.05
  (`embedded-bridge`), and once more with as many recombined captions beside the real ones (`embedded-bridge-on`,
  `align.augment=1`; the epoch kept is the one with the most tokens per large pass on the validation split). These goes
  had *large-shallow* as the large model; the last one of both (`embedded-aligned-deep`, `embedded-bridge-deep`) has
  *large*. *exit* minimises (L_1 + L_last)/2.
- **Weaknesses**: outside captions they write nonsense. *small* was kept weak on purpose, with one layer a side and few
  epochs, to show a trade-off.
- **Licence**: the weights and this card are released with the project (Apache-2.0). Multi30k is a research corpus built
  on Flickr30k; apart from the tokenizer's pieces, none of its text is in this repository.

These commands trained them (`make embedded-pair CORPUS=...` does the same by `conf/train/embedded-*.yaml`); each folder
has its `training.json` with every setting, version and epoch:

{commands}
"""

if __name__ == "__main__":
    sys.exit(main())
