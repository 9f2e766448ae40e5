"""The costs that `max_draft=auto` goes by: measured, kept with the point, and taken up again when it is resumed."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import bild
from bild.config import MeasureConfig, MethodConfig, RunConfig, TaskConfig, ThresholdConfig
from bild.decoding import DraftCosts, policy_for
from bild.decoding.rules import Pace, Tally
from bild.errors import BildError
from bild.measure import draft_costs as module
from bild.measure.draft_costs import POSITION, REPEATS, WIDTHS, costs_of, draft_costs, recorded
from bild.measure.interleave import Measurement, OpenPoint, placed
from bild.measure.live import run_live
from bild.measure.session import measure_points
from bild.models import Pair
from bild.results import PointFolder, read_traces
from bild.tasks import load_task
from tests.engines import tiny
from tests.records import make_sample

AUTO = MethodConfig("bild", max_draft="auto")
FLAT = DraftCosts(1e-6, ((1, 1.0), (32, 1.0)))
STEEP = DraftCosts(0.3, ((1, 1.0), (2, 2.0), (32, 32.0)))
SENTENCE = "Ein Junge in einem blauen T-Shirt springt von einem Steg in einen See."


@pytest.fixture(scope="module")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    model = tiny.model("gated-silu")
    return tiny.saved_pair(tmp_path_factory.mktemp("pair"), model, tiny.relative_of(model, noise=0.25))


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    module._known.clear()


@pytest.mark.spread(1)
@pytest.mark.parametrize("engine", ["fused", "hf", "graph"])
def test_every_width_is_timed_and_the_pair_is_measured_once(
    tiny_pair: Pair, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tiny_pair.engine("large", engine)
    fed: list[tuple[int, int]] = []
    step = large.step

    def noting(tokens: Sequence[int], want: int = 1) -> Any:
        fed.append((large.length, len(tokens)))
        return step(tokens, want)

    monkeypatch.setattr(large, "step", noting)
    monkeypatch.setattr(module, "_rest", lambda *_: 0.25)
    costs = draft_costs(tiny_pair, engine, [5, 6, tiny.EOS])
    assert [width for width, _ in costs.large] == list(WIDTHS)
    assert all(math.isfinite(each) and each > 0 for _, each in costs.large)
    assert costs.small > 0
    assert costs.rest == 0.25
    assert fed[-len(WIDTHS) * (REPEATS + 1) :] == [(POSITION, width) for width in WIDTHS] * (REPEATS + 1)
    times = len(fed)
    assert draft_costs(tiny_pair, engine, [7, tiny.EOS]) is costs
    assert len(fed) == times


@pytest.mark.slow
def test_an_early_exit_pair_and_the_policys_own_time_are_measured(embedded_pair: Pair) -> None:
    pair = bild.load_pair("embedded", exit=1, device="cpu")
    for each in (pair, embedded_pair):
        costs = draft_costs(each, "fused", each.encode(SENTENCE)[0])
        assert 0 < costs.rest < costs.large[0][1]
    assert costs.longest == WIDTHS[-1] - 1


@pytest.mark.slow
@pytest.mark.parametrize("costs", [FLAT, STEEP])
def test_speculation_at_any_pace_writes_what_the_large_model_writes(tiny_pair: Pair, costs: DraftCosts) -> None:
    large, small = tiny_pair.engine("large", "fused"), tiny_pair.engine("small", "fused")
    limits = {"start": tiny.START, "eos": tiny.EOS, "max_length": 40}
    plain = policy_for(MethodConfig("vanilla"), ThresholdConfig())
    paced = policy_for(MethodConfig("speculative", max_draft="auto"), ThresholdConfig(), costs)
    for seed in range(8):
        source = [*tiny.ids(6, seed), tiny.EOS]
        run = run_live(paced(**limits), source, large, small)
        assert run.decoded.tokens == run_live(plain(**limits), source, large, None).decoded.tokens
        assert run_live(paced(**limits), source, large, small).large_passes == run.large_passes


def test_the_door_for_notebooks_measures_and_decodes(embedded_pair: Pair) -> None:
    vanilla = bild.generate(embedded_pair, SENTENCE, method="vanilla").tokens
    output = bild.generate(embedded_pair, SENTENCE, method="speculative", max_draft="auto")
    assert output.tokens == vanilla
    ((costs,),) = (known.values() for known in module._known.values())
    drafts = [each for each in output.rounds if each.stop != "none"]
    assert len(drafts[0].probs) <= Pace(costs).limit(Tally())
    with pytest.raises(BildError, match="max_draft=foo is not a draft limit"):
        bild.generate(embedded_pair, SENTENCE, max_draft="foo")


# --- in a point's folder


def folder(path: Path) -> PointFolder:
    return PointFolder.open(path, "task", "pair", "auto", "ab" * 32, {})


def never(*_: Any) -> DraftCosts:
    raise AssertionError("it was measured again")


def test_a_folders_table_is_kept_and_wins_over_a_new_measurement(
    tmp_path: Path, tiny_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder(tmp_path) as held:
        assert held.draft_costs() is None
        first = costs_of(held, tiny_pair, "fused", [5, tiny.EOS])
    monkeypatch.setattr(module, "draft_costs", never)
    with folder(tmp_path) as held:
        assert costs_of(held, tiny_pair, "fused", [5, tiny.EOS]) == first
        held.clear()
        assert held.draft_costs() is None


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[]", b'{"small": "x", "large": {"1": 1}, "rest": 0}'])
def test_a_damaged_table_is_told_in_one_sentence(tmp_path: Path, damage: bytes) -> None:
    with folder(tmp_path) as held:
        (held.path / "draft_costs.json").write_bytes(damage)
        with pytest.raises(BildError, match=r"draft_costs.json is damaged \(.*\): start anew with resume=false."):
            held.draft_costs()


def test_examples_without_their_table_are_not_gone_on_with(tmp_path: Path, tiny_pair: Pair) -> None:
    with folder(tmp_path) as held:
        held.append(make_sample(), [])
        with pytest.raises(BildError, match=r"draft_costs.json is gone, and its examples were decoded by it"):
            costs_of(held, tiny_pair, "fused", [5, tiny.EOS])


@pytest.mark.slow
def test_a_resumed_point_goes_on_by_the_table_that_it_began_with(
    tmp_path: Path, embedded_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = load_task(TaskConfig(samples=4, id_column="id")).examples
    task = TaskConfig(prompt="", source_limit=1024, target_limit=24)
    measurement = Measurement(embedded_pair, "fused", task, MeasureConfig(warmup=0, library=0))
    loose = ThresholdConfig(0.0, 50.0)

    def measure(path: Path, sessions: Sequence[int], begin: DraftCosts) -> PointFolder:
        with folder(path) as held:
            if begin is not None and held.draft_costs() is None:
                held.keep_draft_costs(recorded(begin))
            for count in sessions:
                done = measurement.measure(
                    placed(examples[:count], measurement.settings, 0), [OpenPoint(AUTO, loose, held)], 1
                )
                list(done)
            return held

    monkeypatch.setattr(module, "draft_costs", never)
    longest = {}
    for name, costs in (("flat", FLAT), ("steep", STEEP)):
        whole = measure(tmp_path / name / "whole", [4], costs)
        halves = measure(tmp_path / name / "halves", [2, 4], costs)
        assert read_traces(whole.path) == read_traces(halves.path)
        rounds = itertools.chain.from_iterable(read_traces(whole.path).values())
        longest[name] = max(len(each["probs"]) for each in rounds)
    assert longest["steep"] == 1 < 8 < longest["flat"]


def test_a_record_says_what_its_drafts_went_by(tmp_path: Path) -> None:
    config = RunConfig(
        task=TaskConfig(samples=3, target_limit=24),
        method=AUTO,
        measure=MeasureConfig(warmup=1, library=0),
        results=str(tmp_path),
    )
    config.model.fits, config.model.large = ["any"], "embedded"
    config.model.small = "embedded"
    auto, fixed = measure_points(config, [(AUTO, ThresholdConfig()), (MethodConfig("bild"), ThresholdConfig())])
    kept = json.loads((auto.path / "draft_costs.json").read_bytes())
    plain = json.loads((auto.path / "record.json").read_bytes())
    assert plain["draft_costs"] == kept
    assert plain["method"]["max_draft"] == "auto"
    assert auto.record.label.endswith(" kauto")
    assert fixed.record.draft_costs is None
    assert not (fixed.path / "draft_costs.json").exists()
    again = measure_points(config, [(AUTO, ThresholdConfig())])
    assert again[0].record == auto.record
