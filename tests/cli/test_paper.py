"""Every row of the paper's Table 1 is an experiment by name, with its checkpoints, split, thresholds and rules."""

from __future__ import annotations

import pytest

from bild.cli import compose, options

LARGE = {
    "iwslt2017": "kssteven/mT5-large-iwslt2017-de-en",
    "wmt14": "kssteven/mT5-large-wmt2014-de-en",
    "xsum": "kssteven/T5-large-xsum",
    "cnndm": "kssteven/T5-large-cnndm",
}
SMALL = {
    "iwslt2017": "kssteven/mT5-small-iwslt2017-de-en",
    "wmt14": "kssteven/mT5-small-wmt2014-de-en",
    "xsum": "kssteven/T5-small-xsum",
    "cnndm": "kssteven/T5-small-cnndm",
}
EXAMPLES = {"iwslt2017": 888, "wmt14": 3000, "xsum": 11332, "cnndm": 13368}

# task, aligned, rollback threshold, fallback threshold
TABLE_1 = [
    ("iwslt2017", False, 2.0, 0.6),
    ("iwslt2017", False, 3.0, 0.5),
    ("iwslt2017", True, 3.0, 0.9),
    ("iwslt2017", True, 4.0, 0.6),
    ("wmt14", False, 2.0, 0.6),
    ("wmt14", False, 3.0, 0.5),
    ("wmt14", True, 2.0, 0.8),
    ("wmt14", True, 5.0, 0.6),
    ("xsum", False, 3.0, 0.5),
    ("xsum", False, 5.0, 0.3),
    ("xsum", True, 2.0, 0.6),
    ("xsum", True, 5.0, 0.4),
    ("cnndm", False, 3.0, 0.4),
    ("cnndm", False, 6.0, 0.2),
    ("cnndm", True, 3.0, 0.3),
    ("cnndm", True, 6.0, 0.2),
]


def name_of(task: str, aligned: bool, rb: float, fb: float) -> str:
    return f"paper/{task}-{'aligned' if aligned else 'unaligned'}-rb{rb:g}-fb{fb:g}"


def test_there_is_an_experiment_for_every_row_and_no_other() -> None:
    published = {option for option in options("experiment") if option.startswith("paper/")}
    assert published == {name_of(*row) for row in TABLE_1} | {f"paper/{task}-vanilla" for task in LARGE}
    assert len(published) == 20


@pytest.mark.spread(4)
@pytest.mark.parametrize(("task", "aligned", "rb", "fb"), TABLE_1)
def test_a_row_of_bild(task: str, aligned: bool, rb: float, fb: float) -> None:
    config = compose([f"experiment={name_of(task, aligned, rb, fb)}"])
    pair = config.model.fit(config.task)
    assert pair.large == LARGE[task]
    assert pair.small == SMALL[task] + ("-bild-aligned" if aligned else "")
    assert (config.method.name, config.method.rules, config.method.max_draft) == ("bild", "authors", 10)
    assert (config.threshold.rb, config.threshold.fb) == (rb, fb)
    check_setting(config, task)


@pytest.mark.spread(1)
@pytest.mark.parametrize("task", LARGE)
def test_the_row_of_vanilla(task: str) -> None:
    config = compose([f"experiment=paper/{task}-vanilla"])
    assert config.model.fit(config.task).large == LARGE[task]
    assert config.method.name == "vanilla"
    check_setting(config, task)


def check_setting(config, task: str) -> None:
    """The paper's: the whole validation split, 1024 and 128 tokens, fp32; and the tokenizer that the pair needs."""
    translation = task in ("iwslt2017", "wmt14")
    assert (config.task.name, config.task.split, config.task.samples) == (task, "validation", None)
    assert config.task.sizes["validation"] == EXAMPLES[task]
    assert (config.task.source_limit, config.task.target_limit) == (1024, 128)
    assert (config.task.metric, config.task.prompt) == (("bleu", "") if translation else ("rouge", "summarize: "))
    assert config.model.tokenizer == ("google/mt5-small" if translation else None)
    assert config.engine.dtype == "fp32"


def test_an_experiment_can_be_changed_on_the_command_line() -> None:
    config = compose(["experiment=paper/xsum-aligned-rb2-fb0.6", "threshold.fb=0.4", "task.samples=7", "task=cnndm"])
    assert (config.task.name, config.task.samples, config.threshold.fb, config.threshold.rb) == ("cnndm", 7, 0.4, 2.0)
    assert config.method.rules == "authors"
