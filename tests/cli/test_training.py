"""`python -m bild.train` and `python -m bild.align`, from the command line to a pair that can be measured."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from bild.cli.compose import compose
from bild.models import EMBEDDED
from bild.training.config import AlignConfig, TrainConfig
from scripts.ship_embedded import MODELS, card
from tests.cli.commands import QUICK, REPOSITORY, but, call
from tests.training.tiny import write_corpus

SHORT = ("train.steps=2", "train.batch=2", "train.validate_samples=2", "task.target_limit=10", "device=cpu")
SHAPE = ("shape=embedded-small", "shape.rows=150", "shape.d_model=16", "shape.d_ff=32", "shape.d_kv=8")


def record(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "training.json").read_text())
    return found


@pytest.mark.slow
def test_a_pair_from_a_folder_of_texts(tmp_path: Path) -> None:
    """Large, small and aligned from scratch; BiLD then decodes with what was made."""
    task = ("task=file", f"task.path={write_corpus(tmp_path / 'corpus')}")
    deeper = ("shape.decoder_layers=2", "shape.encoder_layers=2", "train.exit=1")
    done = call("bild.train", *task, *SHAPE, *deeper, *SHORT, "train=scratch", "out=large", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out == "large\n"
    made = tmp_path / "large"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {p.name for p in made.iterdir()}
    assert record(made)["command"].startswith("python -m bild.train task=file")  # type: ignore[attr-defined]
    assert "bleu at exit1" in (made / "README.md").read_text()

    pair = ("model=folders", "model.large=large")
    small = ("align.start=scratch", *SHAPE, "train=scratch", "train.subword_dropout=0")
    done = call("bild.align", *task, *pair, *small, *SHORT, "out=small", cwd=tmp_path)
    assert done.code == 0, done.err
    assert len((tmp_path / "small" / "targets.jsonl").read_text().splitlines()) == 24
    assert record(tmp_path / "small")["extra"]["align"]["start"] == "scratch"  # type: ignore[index]

    kinds = ("align.start=finetuned", "align.loss=reverse-kl", "model.small=small", "out=distilled")
    done = call("bild.align", *task, *pair, *kinds, *SHORT, cwd=tmp_path)
    assert done.code == 0, done.err

    done = call("bild.run", *task, *pair, "model.small=distilled", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err
    done = call("bild.run", *task, "model=folders", "model.large=large", "model.exit=1", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_that_is_missing_is_told_before_anything_is_made(tmp_path: Path, split: str) -> None:
    task = ("task=file", f"task.path={write_corpus(tmp_path / 'corpus')}", f"splits.{split}=nope")
    for command, more in (("train", ("train=scratch",)), ("align", ("model=embedded", "align.start=scratch"))):
        done = call(f"bild.{command}", *task, *SHAPE, *SHORT, *more, "out=model", cwd=tmp_path)
        assert done.refusal().startswith("task.split=nope is not in the folder")
        assert not (tmp_path / "model").exists()


def test_a_model_that_is_validated_on_what_it_learns_is_warned_of(tmp_path: Path) -> None:
    one = write_corpus(tmp_path / "corpus") / "train.jsonl"
    command = ("task=file", f"task.path={one}", *SHAPE, *SHORT, "train=scratch", "out=model")
    assert "validation are the same examples" in call("bild.train", *command, cwd=tmp_path).err
    assert "same examples" not in call("bild.train", *command, cwd=tmp_path).err  # it is finished


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    task = ("task=file", f"task.path={write_corpus(tmp_path / 'corpus')}")
    command = (*task, *SHAPE, *SHORT, "train=scratch", "out=model")
    assert call("bild.train", *command, cwd=tmp_path).code == 0
    before = (tmp_path / "model" / "training.json").read_bytes()
    done = call("bild.train", *command, cwd=tmp_path)
    assert done.code == 0
    assert "model is finished" in done.err
    assert (tmp_path / "model" / "training.json").read_bytes() == before
    assert call("bild.train", *command, "resume=false", cwd=tmp_path).code == 0
    assert (tmp_path / "model" / "training.json").read_bytes() != before


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_published_checkpoints_are_tuned_and_aligned(tmp_path: Path) -> None:
    done = call("bild.train", "task=xsum", "model=t5-small", *SHORT, cwd=tmp_path)
    assert done.code == 0, done.err
    found = record(tmp_path / "trained" / "xsum-t5-small-large")
    assert found["start"]["source"] == "google-t5/t5-small"  # type: ignore[index]
    assert "rougeLsum" in found["scores"]["validation"]  # type: ignore[index]

    done = call("bild.align", "task=iwslt2017", "model=mt5-large", *SHORT, cwd=tmp_path)
    assert done.code == 0, done.err
    found = record(tmp_path / "trained" / "iwslt2017-mt5-large-aligned")
    assert found["start"]["source"] == "google/mt5-small"  # type: ignore[index]
    teacher = found["extra"]["teacher"]  # type: ignore[index]
    assert teacher["source"] == "kssteven/mT5-large-iwslt2017-de-en"


def embedded_chain(corpus: Path, *options: str) -> list[tuple[str, list[str]]]:
    """Return the trainings of `make embedded-pair`, each as its module and what it is told."""
    command = ["make", "-n", "embedded-pair", f"CORPUS={corpus}", f"ARGS={shlex.join(options)}"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    words = [shlex.split(line) for line in told.replace("\\\n", " ").splitlines() if " -m bild." in line]
    return [(line[line.index("-m") + 1], line[line.index("-m") + 2 :]) for line in words]


def test_each_training_of_the_embedded_pairs_starts_from_one_before(tmp_path: Path) -> None:
    made: dict[str, TrainConfig | AlignConfig] = {}
    for module, arguments in embedded_chain(tmp_path):
        config = (
            compose(arguments, "train", TrainConfig)
            if module == "bild.train"
            else compose(arguments, "align", AlignConfig)
        )
        named = [config.model.large, config.model.small] if config.model is not None else []
        named += [config.tokenizer.path] if isinstance(config, TrainConfig) else []
        assert {name for name in named if name} <= made.keys()
        made[config.folder] = config
    assert {Path(folder).name for folder in made} > {"large", "small", "small-aligned", "small-bridge", "exit"}
    deep = made["trained/embedded/large"]
    assert deep.train.grow == 2
    assert deep.model is not None
    assert deep.model.large == "trained/embedded/large-shallow"


def test_the_card_that_ships_is_the_one_that_shipping_writes() -> None:
    records = {name: record(EMBEDDED / name) for name in MODELS}
    assert (EMBEDDED / "README.md").read_text(encoding="utf-8") == card(records)


@pytest.mark.slow
def test_the_embedded_pairs_are_made_and_shipped(tmp_path: Path) -> None:
    """The whole chain, each training of one step and of tiny sizes: the large model that ships is the grown one."""
    corpus = write_corpus(tmp_path / "corpus")
    for written, wanted in (("validation", "val"), ("test", "test2016")):
        (corpus / f"{written}.jsonl").rename(corpus / f"{wanted}.jsonl")
    for module, arguments in embedded_chain(corpus, "task.id_column=null", *but(SHORT, "train.steps=1")):
        sizes = SHAPE[1:] if any(each.startswith("shape=") for each in arguments) else ()
        done = call(module, *arguments, *sizes, cwd=tmp_path)
        assert done.code == 0, done.err
    trained, shipped = tmp_path / "trained" / "embedded", tmp_path / "shipped"
    assert record(trained / "large")["start"]["decoder_layers"] == "4 grown to 8"  # type: ignore[index]
    assert "decoder_layers 4 grown to 8" in (trained / "large" / "README.md").read_text()
    done = call("scripts.ship_embedded", "trained/embedded", "--out", "shipped", cwd=tmp_path)
    assert done.code == 0, done.err
    assert json.loads((shipped / "large" / "config.json").read_text())["num_decoder_layers"] == 8
    assert "| encoder + decoder layers | 4 + 8 | 1 + 1 | 1 + 1 | 0 + 1 | 4 + 4 |" in (shipped / "README.md").read_text()
    assert str(tmp_path) not in "".join(path.read_text() for path in shipped.rglob("*.json"))


@pytest.mark.spread(4)
@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("bild.train", ("task=xsum",), "Name what is trained"),
        ("bild.train", ("task=xsum", "model=t5-small", "train.exit=7"), "the last is no exit"),
        ("bild.train", ("task=xsum", "model=t5-small", "role=small"), "does not say what it was pretrained as"),
        ("bild.train", ("task=xsum", "model=folders"), "names no large model"),
        ("bild.train", ("task=multi30k", "model=embedded-exit", "role=small"), "role=large train.exit=1."),
        ("bild.train", ("task=multi30k", "model=embedded-bridge", "role=small"), "and bild align trains it."),
        ("bild.align", ("task=multi30k", "model=embedded-exit"), "role=large train.exit=1."),
        ("bild.train", ("task=nothing", "model=t5-small"), "task=nothing is not known"),
        ("bild.train", ("train.epoch=3", "model=t5-small"), "did you mean train.epochs"),
        ("bild.align", ("task=wmt14",), "Name the pair"),
        ("bild.align", ("task=wmt14", "model=t5-large"), "names no large model for task=wmt14 for task=xsum"),
    ],
)
def test_mistakes_are_told_in_a_sentence(command: str, arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = call(command, *arguments, *SHORT, cwd=tmp_path)
    assert said in done.refusal()
    assert not {path.name for path in tmp_path.iterdir()} - {"hub"}
