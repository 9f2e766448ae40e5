"""The last lines of the demo: the claims that its points allow."""

from __future__ import annotations

import pytest

from bild.cli import compose
from bild.demo import DemoConfig, claims, following
from bild.results import Record
from tests.records import make_point, make_sweep

VANILLA = make_point("vanilla", None, None, None, 1.0, 40.33, 0.0, 0.0)
SMALL = make_point("small", None, None, None, 2.61, 35.62, 0.0, 0.0)
SPECULATIVE = make_point("speculative", None, None, 4, 1.21, 40.33, 0.0, 8.9)


def bild(fb: float, speedup: float, quality: float) -> Record:
    """A BiLD point of these figures."""
    return make_point("bild", fb, 2.0, 10, speedup, quality, 5.0, 1.0)


@pytest.mark.parametrize(
    ("quality", "words"),
    [(40.30, "shown within 0.5."), (38.13, "refuted at 0.5."), (39.80, "undecided at 0.5, about ")],
)
def test_a_claim_has_speed_and_quality_each_with_its_examples_and_a_verdict(quality: float, words: str) -> None:
    (line,) = claims([bild(0.9, 1.53, quality)], 0.5)
    assert line.startswith(
        f"BiLD 0.9/2: 1.53x [1.51, 1.55] on 888 examples, {quality - 40.33:+.2f} BLEU on 888: {words}"
    )


def test_baselines_and_methods_that_write_vanillas_text_claim_nothing() -> None:
    assert claims([VANILLA, SMALL, SPECULATIVE], 0.5) == []
    assert len(claims(make_sweep(), 0.5)) == 10


def test_a_point_that_may_be_slower_says_so() -> None:
    (line,) = claims([bild(0.9, 1.0, 40.30)], 0.5)
    assert "(not shown to be faster)" in line


def test_points_are_judged_together() -> None:
    """What is shown alone by a hair is not shown beside four others."""
    near = bild(0.9, 1.5, 40.33 - 0.39)
    assert claims([near], 0.5)[0].endswith("shown within 0.5.")
    others = [bild(fb, 1.5, 40.33 - 0.9) for fb in (0.1, 0.2, 0.3, 0.4)]
    assert "undecided" in claims([near, *others], 0.5)[0]


def test_what_comes_next_finds_the_data_and_the_pair_again() -> None:
    """On a task that names no split to confirm on, half of the examples are kept for that."""
    own = [
        "task=file",
        "task.split=test",
        "task.path=my texts.jsonl",
        "model=folders",
        "model.large=a",
        "model.small=b",
    ]
    assert following(compose(own, "demo", DemoConfig)) == (
        "Next: bild sweep task=file 'task.path=my texts.jsonl' model=folders model.large=a model.small=b "
        "sweep.find=speedup sweep.choose=0.5 sweep.margin=0.5"
    )
