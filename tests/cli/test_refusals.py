"""Every mistake ends in one sentence on stderr and a code that is not 0, and nothing is run before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bild.cli import options
from tests import hubcache
from tests.cli.commands import QUICK, Finished, call, points, spawn
from tests.models.checkpoints import Weights, pickled, tiny_shape, without, write_checkpoint
from tests.tinydata import json_lines

ROW = {"source": "Ja.", "reference": "Yes."}

# --- wrong options, which are refused before torch is imported


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("threshold.fb=1.5", "threshold.fb=1.5 is out of range: the fallback threshold is a probability, from 0 to 1."),
        ("threshold.fb=abc", "threshold.fb=abc is not a number: give a number."),
        (
            "threshold.fbb=0.6",
            "threshold.fbb is not an option (did you mean threshold.fb?): threshold has fb, rb, exit, alpha, top.",
        ),
        ("task=nope", f"task=nope is not known: choose one of {', '.join(options('task'))}."),
        (
            "threshold.fb=0.3,0.6",
            "threshold.fb=0.3,0.6 names several values: add -m to run them all.",
        ),
        (
            "-m threshold.fb=0.3,0.6,7",
            "threshold.fb=7 is out of range: the fallback threshold is a probability, from 0 to 1.",
        ),
    ],
)
def test_a_wrong_option_by_the_command_line(tmp_path: Path, arguments: str, sentence: str) -> None:
    assert spawn("bild.run", *arguments.split(), cwd=tmp_path).refusal() == sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.spread(3)
@pytest.mark.parametrize(
    ("option", "method"),
    [
        ("threshold.fb=0.6", "vanilla"),
        ("threshold.rb=2", "small"),
        ("threshold=fallback-only", "vanilla"),
        ("threshold.rb=2", "speculative"),
        ("threshold.alpha=0.2", "bild"),
        ("method.max_draft=3", "vanilla"),
        ("method.rules=authors", "speculative"),
        ("method.scan=first", "small"),
        ("threshold=rollback-only", "calm"),
        ("method.max_draft=3", "calm"),
    ],
)
def test_an_option_that_the_method_does_not_heed(tmp_path: Path, option: str, method: str) -> None:
    sentence = call("bild.run", option, f"method={method}", cwd=tmp_path).refusal()
    key = option.partition("=")[0]
    other = "cascade" if "alpha" in key else "bild"
    assert sentence == f"{key} has no effect with method={method}: leave it out, or choose method={other}."


def test_an_option_that_another_keep_rule_heeds(tmp_path: Path) -> None:
    sentence = call("bild.run", "method.keep=share", "threshold.rb=2", cwd=tmp_path).refusal()
    assert sentence.startswith("threshold.rb has no effect with method=bild method.keep=share: leave it out")


@pytest.mark.parametrize("option", ["threshold.exit=0.8", "method.confidence=softmax", "method.decay=null"])
def test_an_option_that_only_calm_heeds(tmp_path: Path, option: str) -> None:
    key = option.partition("=")[0]
    sentence = call("bild.run", option, cwd=tmp_path).refusal()
    assert sentence == f"{key} has no effect with method=bild: leave it out, or choose method=calm."


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    ("arguments", "beginning"),
    [
        ("threshold.exit=1.2", "threshold.exit=1.2 is out of range: the confidence from which a token is written"),
        ("method.confidence=vote", "method.confidence=vote is not known: choose one of state, softmax."),
        ("method.decay=-1", "method.decay=-1 is out of range: it must be from 0 to 1,000."),
        ("engine=graph", "method=calm does not run on engine=graph: it stops between decoder layers"),
        ("engine=hf", "method=calm does not run on engine=hf: it stops between decoder layers"),
        (
            "method.min_layers=8",
            "method=calm with method.min_layers=8 never stops early, because this checkpoint has 8",
        ),
    ],
)
def test_what_calm_cannot_do(tmp_path: Path, arguments: str, beginning: str) -> None:
    sentence = call("bild.run", "method=calm", "task.samples=2", *arguments.split(), cwd=tmp_path).refusal()
    assert sentence.startswith(beginning)


@pytest.mark.parametrize(
    "arguments", ["-m method=vanilla,bild threshold.fb=0.3", "experiment=paper/xsum-vanilla threshold.fb=0.3"]
)
def test_an_option_that_one_of_the_runs_does_not_heed(tmp_path: Path, arguments: str) -> None:
    sentence = call("bild.run", *arguments.split(), cwd=tmp_path).refusal()
    assert sentence.startswith("threshold.fb has no effect with method=vanilla")


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    "option", ["threshold.fb=0.3", "threshold=fallback-only", "method=vanilla", "method.max_draft=3"]
)
def test_the_demo_does_not_heed_what_its_points_have(tmp_path: Path, option: str) -> None:
    sentence = call("bild.demo", option, cwd=tmp_path).refusal()
    assert sentence.startswith(f"{option.partition('=')[0]} has no effect here: each of the points has its own")


def test_the_doctor_takes_nothing_else(tmp_path: Path) -> None:
    sentence = call("bild.doctor", "task=xsum", cwd=tmp_path).refusal()
    assert sentence == "bild doctor takes tasks or models, but 'task=xsum' was given."


# --- what is on the disk


def with_pair(large: Path | str, small: Path | str, cwd: Path, *options: str) -> Finished:
    """Run the embedded task by a pair of folders, in this process."""
    arguments = ("model=folders", f"model.large={large}", f"model.small={small}", "task=embedded", "task.samples=1")
    return call("bild.run", *arguments, *QUICK, *options, cwd=cwd)


def test_a_missing_folder_by_the_command_line(tmp_path: Path) -> None:
    arguments = ("model=folders", "model.large=./nowhere", "model.small=./nowhere", "task=embedded")
    sentence = call("bild.run", *arguments, cwd=tmp_path).refusal()
    assert sentence == (
        "There is no folder ./nowhere for model.large: give one with config.json and model.safetensors."
    )
    assert points(tmp_path) == []


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a fault. Shared: tests must not change it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "good")


def test_a_hub_name_while_offline(tmp_path: Path, hub: Path, good: Path) -> None:
    assert with_pair("someone/T5-large", good, tmp_path).refusal() == (
        f"model.large=someone/T5-large is neither a folder nor in the hub cache at {hub}/hub, and HF_HUB_OFFLINE is "
        "set: fetch it with `hf download someone/T5-large` where there is a connection, or give a local folder."
    )


def test_a_hub_data_set_while_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hubcache.use_hub(monkeypatch, tmp_path / "hf")
    sentence = call("bild.run", "task=xsum", cwd=tmp_path).refusal()
    assert sentence.startswith("The split validation of the hub data set EdinburghNLP/xsum was not found")
    assert "HF_HUB_OFFLINE is set" in sentence


def test_two_vocabularies_by_size(tmp_path: Path, good: Path) -> None:
    other = write_checkpoint(tmp_path / "other", rows=tiny_shape().rows + 200, tokenizer=None)
    assert with_pair(good, other, tmp_path).refusal() == (
        f"The vocabularies differ: {good} has {tiny_shape().rows} rows and {other} {tiny_shape().rows + 200}; "
        "BiLD needs two models over one vocabulary (padding to a multiple of 128 is allowed)."
    )


def test_two_vocabularies_by_their_tokens(tmp_path: Path, good: Path) -> None:
    other = write_checkpoint(tmp_path / "other", tokenizer="multilingual", seed=2)
    assert with_pair(good, other, tmp_path).refusal() == (
        f"The vocabularies differ: the tokenizer of {good} is not that of {other}; "
        "BiLD needs two models over one vocabulary."
    )


def test_a_pair_without_a_tokenizer_on_a_text_task(tmp_path: Path) -> None:
    bare = write_checkpoint(tmp_path / "bare", tokenizer=None)
    other = write_checkpoint(tmp_path / "other", tokenizer=None, seed=2)
    assert with_pair(bare, other, tmp_path).refusal() == (
        "The pair folders has no tokenizer, and task=embedded is text: give model.tokenizer=..., a folder or a hub id."
    )


FAULTS = {
    "config.json that is not JSON": (
        {"files": {"config.json": b"{nope"}},
        "{} has a config.json that cannot be read (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)).",
    ),
    "config.json that nests too deep": (
        {"files": {"config.json": b"[" * 200_000}},
        "{} has a config.json that cannot be read (maximum recursion depth exceeded",
    ),
    "config.json that is no object": (
        {"files": {"config.json": b"[1]"}},
        "{} has a config.json that cannot be read (it holds no JSON object).",
    ),
    "config.json of another kind": (
        {"config": {"model_type": "bert"}},
        "{} is a bert checkpoint: only T5 and mT5 encoder-decoders can be paired.",
    ),
    "config.json with a wrong value": (
        {"config": {"d_model": "wide"}},
        "{} has a config.json that is not a t5's (Validation error for field 'd_model': ",
    ),
    "config.json of another size": (
        {"config": {"d_model": 64}},
        "The weights of {} do not fit its config.json: decoder.block.0.layer.0.SelfAttention.k.weight is ",
    ),
    "a missing weight": (
        {"weights": without("decoder.block.1.layer.0.SelfAttention.q.weight")},
        "The weights of {} are incomplete: 1 are missing, decoder.block.1.layer.0.SelfAttention.q.weight first.",
    ),
    "damaged weights": (
        {"files": {"model.safetensors": b"no such header" * 9}},
        "The weights of {} cannot be loaded: Error while deserializing header",
    ),
    "a damaged tokenizer": (
        {"files": {"tokenizer.json": b"{nope"}},
        "The tokenizer of {} cannot be loaded: ",
    ),
}


@pytest.mark.spread(3)
@pytest.mark.parametrize(
    ("role", "fault"),
    [*(("large", fault) for fault in FAULTS), ("small", "a missing weight"), ("small", "a damaged tokenizer")],
)
def test_a_checkpoint_with_a_fault(tmp_path: Path, good: Path, role: str, fault: str) -> None:
    changes, sentence = FAULTS[fault]
    bad = write_checkpoint(tmp_path / "bad", seed=3, **changes)
    done = with_pair(bad, good, tmp_path) if role == "large" else with_pair(good, bad, tmp_path)
    assert done.refusal().startswith(sentence.format(bad))


def test_weights_that_are_half_there(tmp_path: Path, good: Path) -> None:
    bad = write_checkpoint(tmp_path / "bad")
    weights = bad / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert with_pair(bad, good, tmp_path).refusal().startswith(f"The weights of {bad} cannot be loaded: ")


def test_no_config_and_no_weights(tmp_path: Path, good: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert with_pair(tmp_path / "empty", good, tmp_path).refusal() == (
        f"{tmp_path}/empty has no config.json: model.large needs a folder or hub id of a T5 or mT5 checkpoint."
    )
    bare = write_checkpoint(tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    assert with_pair(bare, good, tmp_path).refusal() == (
        f"{bare} has no weights: neither model.safetensors nor pytorch_model.bin was found, whole or in shards."
    )


def test_a_pickle_is_converted_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    hubcache.use_hub(monkeypatch, tmp_path / "hf")
    old = pickled(tmp_path / "old", seed=2)
    done = with_pair(old, good, tmp_path)
    assert done.code == 0, done.err
    assert f"{old}: converting pytorch_model.bin to safetensors, once" in done.err
    assert (points(tmp_path)[0] / "record.json").is_file()


def test_the_option_that_allowed_pickles_is_gone(tmp_path: Path, good: Path) -> None:
    assert "allow_pickle" in with_pair(good, good, tmp_path, "model.allow_pickle=true").refusal()


def test_a_results_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    sentence = call("bild.run", "results=file/results", *QUICK, cwd=tmp_path).refusal()
    assert sentence.startswith("The results folder file/results/embedded/embedded/bild-0.6-5-")
    assert sentence.endswith(" cannot be written (Not a directory): choose another place with results=...")


def test_an_empty_data_file(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_bytes(b"")
    sentence = call("bild.run", "task=file", "task.path=own.jsonl", cwd=tmp_path).refusal()
    assert sentence == "own.jsonl has no rows: give a data file with at least one example."


def test_a_malformed_line_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_bytes(json_lines([ROW] * 16) + b'{"source": "Ja."\n')
    sentence = call("bild.run", "task=file", "task.path=own.jsonl", cwd=tmp_path).refusal()
    assert sentence.startswith("line 17 of own.jsonl cannot be read as JSON (")
    assert points(tmp_path) == []


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("bild.run", "task.split=dev"),
        ("bild.run", "task.files={dev: own.jsonl}"),
        ("bild.run", "task.files.dev=own.jsonl"),
        ("bild.sweep.__main__", "task.confirm=dev"),
        ("bild.sweep.__main__", "sweep.choose=dev"),
        ("bild.train", "splits.validation=dev"),
    ],
)
def test_a_single_file_has_no_splits(tmp_path: Path, command: str, option: str) -> None:
    (tmp_path / "own.jsonl").write_bytes(json_lines([ROW] * 4))
    more = {"bild.sweep.__main__": ("sweep.find=speedup",), "bild.train": ("shape=t5-small",)}.get(command, ())
    sentence = call(command, "task=file", "task.path=own.jsonl", option, *more, cwd=tmp_path).refusal()
    assert sentence.startswith(f"{option.partition('=')[0]} has no effect beside task.path=own.jsonl, a single file")
    assert [path.name for path in tmp_path.iterdir()] == ["own.jsonl"]


def test_the_split_that_a_file_has_anyway_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_bytes(b"")  # the command of a point's record names it
    done = call("bild.run", "task=file", "task.path=own.jsonl", "task.split=test", cwd=tmp_path)
    assert "has no rows" in done.refusal()


def test_no_data_file(tmp_path: Path) -> None:
    assert call("bild.run", "task=file", cwd=tmp_path).refusal().startswith("task.path is empty: set it to a data file")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    sentence = call("bild.run", "engine.device=cuda:63", cwd=tmp_path).refusal()
    assert sentence.startswith("engine.device=cuda:63 was asked for, but torch sees ")


# --- what is refused after its folder was made


def unusable(weights: Weights) -> Weights:
    return {name: np.full_like(value, np.nan) for name, value in weights.items()}


@pytest.mark.spread(4)
@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("bild.run", ("task=embedded", "task.samples=2", "results=new/results", *QUICK)),
        ("bild.sweep.__main__", ("task=embedded", "task.samples=2", "results=new/results", *QUICK)),
        ("bild.align", ("task=embedded", "splits.train=confirm", "splits.validation=choose", "out=new/small")),
        ("bild.bench.__main__", ("out=new/bench", "engine=[fused]", "repeats=1")),
    ],
)
def test_a_refusal_leaves_no_folder(tmp_path: Path, command: str, options: tuple[str, ...]) -> None:
    broken = write_checkpoint(tmp_path / "broken", weights=unusable)
    pair = ("model=folders", f"model.large={broken}", f"model.small={broken}")
    assert "holds NaN or infinity" in call(command, *pair, *options, cwd=tmp_path).err
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
