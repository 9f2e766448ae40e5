"""Quality over all examples of a tree: live texts where there are some, near ties settled, and what is left told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bild.config import MeasureConfig, MethodConfig, TaskConfig, ThresholdConfig
from bild.metrics import quality
from bild.results.parts import Joint
from bild.results.sample import Sample, VanillaRun
from bild.sweep import exact
from bild.sweep.config import GridConfig
from bild.sweep.exact import SETTLED, SettledTexts, joined
from bild.sweep.grid import SweptPoint, vanilla_point
from bild.sweep.predict import Candidate
from bild.tree.identity import Settled
from tests.records import make_record, make_sample

REFERENCES = ["a b c d e f", "g h i j k l", "m n o p q r", "s t u v w x"]
NAMES = ["e0", "e1", "e2", "e3"]
WORDS = {1: "a b c d e f", 2: "nothing at all"}


def work(tmp_path: Path, **grid: Any) -> Any:
    config = SimpleNamespace(
        sweep=GridConfig(**grid), task=TaskConfig(), measure=MeasureConfig(), engine=SimpleNamespace(name="fused")
    )
    return SimpleNamespace(
        config=config,
        identity=dict.fromkeys(("engine", "machine", "packages", "python"), "x"),
        queue=[SimpleNamespace(id=name) for name in ("e2", "e0", "e3", "e1")],
        data=SimpleNamespace(provenance={"hash": "h" * 64}),
        pair=None,
    )


def tree(path: Path) -> Any:
    examples = [SimpleNamespace(id=name, reference=text) for name, text in zip(NAMES, REFERENCES, strict=True)]
    return SimpleNamespace(path=path, examples=examples, decode=lambda tokens: WORDS[tokens[0]])


def candidate(point: SweptPoint, texts: Sequence[str], marked: Sequence[str] = ()) -> Candidate:
    replay = cast(Any, SimpleNamespace(text=list(texts), marked=list(marked)))
    return Candidate(point, np.zeros(0), np.zeros(0), replay)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The examples that were decoded live, lot by lot; each gets the text of token 1."""
    seen: list[list[str]] = []

    def settle(tree: Any, pair: Any, replay: Any, *, engine: str, ids: Sequence[str]) -> list[Settled]:
        seen.append(list(ids))
        return [Settled(name, [1], [], [], True) for name in ids]

    monkeypatch.setattr(exact, "settle", settle)
    monkeypatch.setattr(exact, "_AT_ONCE", 1)
    return seen


BILD = SweptPoint(MethodConfig(), ThresholdConfig(0.3, 2.0), "grid")


def sample(name: str, text: str, vanilla: str) -> Sample:
    return make_sample(id=name, text=text, baseline=VanillaRun([0, 1], 10**9, vanilla))


def test_all_examples_are_judged_by_their_best_known_texts(tmp_path: Path, asked: list[list[str]]) -> None:
    vanilla = candidate(vanilla_point(), REFERENCES)
    point = candidate(BILD, ["x", *REFERENCES[1:]], marked=["e0", "e1", "e3"])
    timed = [sample("e1", "g h i j k z", REFERENCES[1]), sample("e2", REFERENCES[2], REFERENCES[2])]
    settled = SettledTexts(work(tmp_path), tree(tmp_path))
    settled.settle([vanilla, point], {BILD.key: timed})
    assert asked == [["e0"], ["e3"]]  # what was timed is known; the others in the order of the queue
    found, unsettled = settled.quality(point, vanilla, timed)
    texts = ["a b c d e f", "g h i j k z", REFERENCES[2], "a b c d e f"]
    plain = quality("bleu", texts, REFERENCES, baseline=REFERENCES)
    assert found.scores == plain.scores
    assert found.difference == plain.difference
    assert (found.examples, found.origin, found.settled, unsettled) == (4, "tree", 3, 0)
    assert found.data == "h" * 64


def test_what_was_settled_is_kept_and_a_torn_line_is_not(tmp_path: Path, asked: list[list[str]]) -> None:
    point = candidate(BILD, REFERENCES, marked=["e0", "e3"])
    SettledTexts(work(tmp_path), tree(tmp_path)).settle([point], {})
    path = tmp_path / SETTLED
    first, second = path.read_bytes().splitlines(keepends=True)
    asked.clear()
    SettledTexts(work(tmp_path), tree(tmp_path)).settle([point], {})
    assert asked == []
    for length in range(1, len(second) - 1):
        path.write_bytes(first + second[:length])
        asked.clear()
        SettledTexts(work(tmp_path), tree(tmp_path)).settle([point], {})
        assert asked == [["e3"]]
        assert json.loads(path.read_bytes().splitlines()[-1])["id"] == "e3"
    other = work(tmp_path)
    other.identity["machine"] = "another"
    asked.clear()
    SettledTexts(other, tree(tmp_path)).settle([point], {})
    assert asked == [["e0"], ["e3"]]


def test_the_time_for_it_is_bounded_and_what_is_left_is_counted(tmp_path: Path, asked: list[list[str]]) -> None:
    vanilla, point = candidate(vanilla_point(), REFERENCES), candidate(BILD, REFERENCES, marked=NAMES)
    settled = SettledTexts(work(tmp_path, settle=0), tree(tmp_path))
    settled.settle([vanilla, point], {})
    assert asked == []
    found, unsettled = settled.quality(point, vanilla, [])
    assert (found.settled, unsettled) == (0, 4)


def test_a_record_joins_quality_of_all_with_the_speed_of_some() -> None:
    record = dataclasses.replace(make_record(), joint=Joint(0.1, 0.6, 0.3))
    exact_quality = dataclasses.replace(record.quality, examples=9 * record.latency.examples, origin="tree")
    found = joined(record, exact_quality)
    assert (found.quality, found.latency) == (exact_quality, record.latency)
    assert found.joint is not None
    assert (found.joint.speedup_sd, found.joint.correlation) == (0.1, pytest.approx(0.1))
