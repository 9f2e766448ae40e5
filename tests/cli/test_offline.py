"""The paper's tasks and pairs end to end from a local hub cache, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bild.results import read_samples, read_traces
from tests import hubcache
from tests.cli.commands import QUICK, Finished, but, call, only_point, points, record
from tests.tinydata import data_rows

SCHEMA = json.loads(resources.files("bild.results").joinpath("record.schema.json").read_bytes())
VALIDATION = len(data_rows("validation"))
RUNS = {
    "xsum": ("t5-large", "EdinburghNLP/xsum", "main"),
    "cnndm": ("t5-large-aligned", "abisee/cnn_dailymail", "main"),
    "iwslt2017": ("mt5-large", "IWSLT/iwslt2017", "refs/convert/parquet"),
    "wmt14": ("mt5-large-aligned", "wmt/wmt14", "main"),
}
CHECKPOINTS = {
    "xsum": ("kssteven/T5-large-xsum", "kssteven/T5-small-xsum"),
    "cnndm": ("kssteven/T5-large-cnndm", "kssteven/T5-small-cnndm-bild-aligned"),
    "iwslt2017": ("kssteven/mT5-large-iwslt2017-de-en", "kssteven/mT5-small-iwslt2017-de-en"),
    "wmt14": ("kssteven/mT5-large-wmt2014-de-en", "kssteven/mT5-small-wmt2014-de-en-bild-aligned"),
}


@pytest.fixture(scope="module")
def offline(hub_cache: Path) -> Iterator[Path]:
    """The shared cache, offline, for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        hubcache.use_hub(patch, hub_cache)
        yield hub_cache


@pytest.fixture(scope="module")
def runs(offline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Finished, Path]]:
    """Each task by one of its pairs, in this process: how the command ended, and its results folder."""
    done = {}
    for task, (pair, _, _) in RUNS.items():
        cwd = tmp_path_factory.mktemp(task)
        options = (f"task={task}", f"model={pair}", "task.samples=3", "threshold.fb=0.3", "threshold.rb=2")
        done[task] = (call("bild.run", *options, *QUICK, cwd=cwd), cwd / "results")
    return done


@pytest.mark.slow
@pytest.mark.parametrize("task", RUNS)
def test_a_task_runs_offline_and_leaves_a_record(runs: dict[str, Any], task: str) -> None:
    done, results = runs[task]
    pair, repository, revision = RUNS[task]
    assert done.code == 0, done.err
    point = only_point(results)
    assert point.parent == results / task / pair
    assert f"In results/{task}/{pair}/bild-0.3-2-" in done.out
    found = record(point)
    jsonschema.validate(found, SCHEMA)
    assert found["task"]["data"]["revision"] == hubcache.commit_of(repository, revision)
    assert (found["task"]["split"], found["task"]["data"]["total"]) == ("validation", VALIDATION)
    models = (found["pair"]["large"], found["pair"]["small"])
    assert tuple(model["source"] for model in models) == CHECKPOINTS[task]
    assert [model["revision"] for model in models] == [hubcache.commit_of(name) for name in CHECKPOINTS[task]]
    used = {name: value for name, value in found["threshold"].items() if value is not None}
    assert (used, found["method"]["name"]) == ({"fb": 0.3, "rb": 2.0}, "bild")


@pytest.mark.slow
@pytest.mark.parametrize("task", RUNS)
def test_what_the_record_says_is_in_its_samples(runs: dict[str, Any], task: str) -> None:
    point = only_point(runs[task][1])
    found, samples, traces = record(point), read_samples(point), read_traces(point)
    assert len(samples) == found["latency"]["examples"] == 3
    assert list(traces) == [sample.id for sample in samples]
    assert found["counts"]["tokens"] == sum(sample.written for sample in samples)
    assert found["counts"]["rounds"] == sum(len(rounds) for rounds in traces.values())
    assert found["counts"]["rollbacks"] == sum(r["rollback"] for rounds in traces.values() for r in rounds)
    assert sum(sample.library is not None for sample in samples) == found["latency"]["library"]["examples"] == 2
    for sample in samples:
        assert len(sample.tokens) <= 12
        assert sample.tokens[0] == 0
        if sample.library is not None:
            assert sample.library.tokens == sample.baseline.tokens


@pytest.mark.slow
def test_the_tokenizer_is_the_pairs_or_the_one_that_the_option_names(runs: dict[str, Any]) -> None:
    names = {task: record(only_point(results))["pair"]["tokenizer"] for task, (_, results) in runs.items()}
    assert names["wmt14"] == names["iwslt2017"] == "google/mt5-small"
    assert names["xsum"] == "kssteven/T5-large-xsum"
    assert names["cnndm"] == "kssteven/T5-large-cnndm"


@pytest.mark.slow
def test_the_headline_is_the_papers_metric(runs: dict[str, Any]) -> None:
    headlines = {task: record(only_point(results))["quality"]["headline"] for task, (_, results) in runs.items()}
    assert headlines == {"xsum": "rougeLsum", "cnndm": "rougeLsum", "iwslt2017": "bleu", "wmt14": "bleu"}


@pytest.mark.slow
def test_an_experiment_of_the_paper_by_the_command_line(offline: Path, tmp_path: Path) -> None:
    done = call("bild.run", "experiment=paper/xsum-aligned-rb2-fb0.6", "task.samples=2", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err
    found = record(only_point(tmp_path / "results"))
    jsonschema.validate(found, SCHEMA)
    assert found["label"] == "BiLD-A 0.6/2"
    assert found["pair"]["small"]["source"] == "kssteven/T5-small-xsum-bild-aligned"
    assert found["pair"]["small"]["revision"] == hubcache.commit_of("kssteven/T5-small-xsum-bild-aligned")
    assert (found["method"]["rules"], found["method"]["scan"], found["method"]["after_rollback"]) == (
        "authors",
        "first",
        "large",
    )
    assert found["engine"] == {"name": "fused", "dtype": "fp32", "device": found["engine"]["device"], "threads": 1}


@pytest.mark.slow
def test_a_sweep_makes_a_point_for_every_pair_of_thresholds(offline: Path, tmp_path: Path) -> None:
    arguments = ("-m", "threshold.fb=0.3,0.6", "threshold.rb=1,2", "task.samples=2", *QUICK)
    done = call("bild.run", *arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    found = [record(point) for point in points(tmp_path / "results")]
    settings = {(r["threshold"]["fb"], r["threshold"]["rb"]) for r in found}
    assert len(found) == 4
    assert settings == {(0.3, 1.0), (0.3, 2.0), (0.6, 1.0), (0.6, 2.0)}
    assert len({r["hash"] for r in found}) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_pair_that_cannot_be_had(offline: Path, tmp_path: Path) -> None:
    arguments = ("-m", "task=xsum", "model=folders,t5-large", "model.large=no/such", "model.small=no/such", *QUICK)
    done = call("bild.run", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert done.err.count("error: model.large=no/such is neither a folder nor in the hub cache") == 2


@pytest.mark.slow
def test_methods_and_engines_side_by_side(offline: Path, tmp_path: Path) -> None:
    short = ("task.samples=2", *but(QUICK, "measure.warmup=0", "measure.library=0"))
    arguments = ("-m", "method=vanilla,small,speculative", "engine=fused,hf", *short)
    done = call("bild.run", *arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    texts = {}
    for point in points(tmp_path / "results"):
        found = record(point)
        texts[found["method"]["name"], found["engine"]["name"]] = [s.tokens for s in read_samples(point)]
        assert set(found["threshold"].values()) == {None}
    assert len(texts) == 6
    assert texts["speculative", "hf"] == texts["vanilla", "hf"] == texts["vanilla", "fused"]
    assert texts["small", "hf"] == texts["small", "fused"] != texts["vanilla", "hf"]
