"""A task's languages are apart from its kind, and choose the tokenizer of BLEU where nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest

import bild.config
from bild.config import ModelConfig, TaskConfig
from bild.decoding import MethodConfig
from bild.errors import BildError
from bild.metrics.statistics import compute, scores_of
from bild.results import find_records
from bild.sweep.config import GridConfig, KindGrid
from bild.sweep.grid import grid_points
from tests.cli.commands import QUICK, but, call
from tests.models.checkpoints import write_checkpoint
from tests.tasks.compose import task


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Choose which modules of tokenizers are there."""
    there: set[str] = set()
    monkeypatch.setattr(bild.config, "find_spec", lambda name: object() if name in there else None)
    return there


@pytest.mark.parametrize(
    ("languages", "modules", "metric"),
    [
        (["de", "en"], (), "bleu"),
        (["zh", "en"], (), "bleu"),
        (["en", "zh"], (), "bleu:zh"),
        (["en", "zh-CN"], (), "bleu:zh"),
        (["en", "ZH_tw"], (), "bleu:zh"),
        (["en", "ja"], ("MeCab",), "bleu:ja-mecab"),
        (["en", "ko"], ("mecab_ko",), "bleu:ko-mecab"),
        (["en", "ko"], (), "bleu:char"),
        ([], (), "bleu"),
    ],
)
def test_the_target_language_chooses_the_tokenizer_of_bleu(languages, modules, metric, installed) -> None:
    installed |= set(modules)
    assert TaskConfig(kind="translation", languages=languages).metric == metric


def test_a_named_tokenizer_wins_and_either_name_is_the_same_point(installed) -> None:
    pair = {"kind": "translation", "languages": ["en", "zh"]}
    assert TaskConfig(**pair, tokenize="char").metric == TaskConfig(**pair, metric="bleu:char").metric == "bleu:char"
    assert TaskConfig(**pair, tokenize="13a").identity == TaskConfig().identity
    assert TaskConfig(metric="rouge", tokenize="unicode").metric == "rouge:unicode"
    assert TaskConfig(metric="rouge", tokenize="default").metric == "rouge"
    assert TaskConfig(kind="translation", languages=["en", "ja"], tokenize="char").metric == "bleu:char"
    assert TaskConfig(metric="evaluate:exact_match", languages=["en", "zh"]).metric == "evaluate:exact_match"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tokenize": "unicode"}, "task.tokenize=unicode is not known: choose one of 13a, intl, zh, char, ja-mecab, "),
        ({"metric": "bleu:zh", "tokenize": "char"}, "task.metric=bleu:zh and task.tokenize=char name two tokenizers"),
        ({"metric": "evaluate:x", "tokenize": "zh"}, "task.tokenize=zh has no effect on task.metric=evaluate:x"),
        ({"metric": "bleu:mine"}, "task.metric=bleu:mine is not known: after bleu: goes one of 13a, intl, zh, "),
        ({"languages": ["en"]}, "task.languages=['en'] are not two: name source and target, such as [de,en]."),
        ({"languages": ["en", "ja"]}, "BLEU of Japanese texts needs a tokenizer that is not installed: pip install "),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_loaded(options, sentence, installed) -> None:
    with pytest.raises(BildError) as refusal:
        TaskConfig(**options)
    assert str(refusal.value).startswith(sentence)


def test_the_tokenizer_is_in_the_signature_with_chrf_beside_it() -> None:
    assert scores_of("bleu:char") == ("bleu:char", "chrf")
    found = compute(scores_of("bleu:char"), ["他在图书馆里读书。"], ["他在图书馆读书。"])
    assert "tok:char" in found["bleu:char"].signature
    assert found["bleu:char"].value > 50
    assert scores_of("bleu:13a") == scores_of("bleu")


def test_the_short_form_of_older_configurations_is_read() -> None:
    old = TaskConfig(kind="translation-de-en")
    assert (old.kind, old.languages) == ("translation", ["de", "en"])
    assert old.kinds == ("translation", "translation-de-en")
    assert TaskConfig(kind="summarisation").kinds == ("summarisation",)


def test_pairs_and_grids_go_by_kind_or_by_languages() -> None:
    chinese, german = TaskConfig(kind="translation", languages=["en", "zh"]), TaskConfig()
    made = ModelConfig(large="a", small="b", fits=["translation-de-en"])
    assert (made.fit(german) is not None, made.fit(chinese)) == (True, None)
    assert ModelConfig(large="a", small="b", fits=["translation"]).fit(chinese) is not None
    grid = GridConfig(kinds={"translation": KindGrid([0.5], [1]), "translation-de-en": KindGrid([0.7], [2])})
    for given, label in ((german, "BiLD 0.7/2"), (chinese, "BiLD 0.5/1")):
        assert grid_points(grid, given, MethodConfig())[-1].label == label


def test_a_task_of_the_project_is_overridden_as_a_whole() -> None:
    assert task("file", path="x", languages=["en", "zh"]).metric == "bleu:zh"


def test_a_run_into_chinese_is_scored_with_its_tokenizer_and_can_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "zh.jsonl").write_text('{"source": "A dog.", "reference": "一只狗在雪地里跑。"}\n', encoding="utf-8")
    large, small = (write_checkpoint(tmp_path / name, seed=seed) for seed, name in enumerate(("large", "small"), 1))
    data = ("task=file", "task.path=zh.jsonl", "model=folders", f"model.large={large}", f"model.small={small}")
    options = but((*QUICK, *data), "task.languages=[en,zh]", "task.target_limit=6")
    run = call("bild.run", *options, cwd=tmp_path)
    assert run.code == 0, run.err
    (point,), _ = find_records(tmp_path / "results")
    record = point.record
    assert (record.task.kind, record.task.languages, record.task.metric) == ("translation", ["en", "zh"], "bleu:zh")
    assert "tok:zh" in record.headline.signature
    assert "task.metric=bleu:zh" in (record.command or "").split()
    refused = call("bild.run", *but(options, "model=embedded"), cwd=tmp_path)
    assert "model=embedded does not fit task=file (translation-en-zh)" in refused.err
