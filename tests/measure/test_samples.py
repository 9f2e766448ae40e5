"""One example as a line of `samples.jsonl`."""

from __future__ import annotations

import dataclasses
import json

from bild.decoding import Decoded
from bild.measure.live import PHASES, Run, count_rounds, run_fields, trace
from tests.measure.lines import a_round, sample

ROUNDS = [
    a_round(3, 3, "unsure"),
    a_round(10, 4, "limit", rollback=True),
    a_round(2, 2, "eos", wrote=None),
    a_round(0, 0, "none"),
]


def run(tokens: list[int]) -> Run:
    phases = {name: i for i, name in enumerate(PHASES)}
    return Run(Decoded(tokens, ["start"], ROUNDS), 77, phases, [2, 1, 1, 3], [1, 4, 4, 11])


def test_the_fates_of_the_drafts() -> None:
    assert count_rounds(ROUNDS) == {
        "rounds": 4,
        "drafted": 15,
        "kept": 9,
        "rejected": 6,
        "fallbacks": 1,
        "full_drafts": 1,
        "rollbacks": 1,
    }
    assert set(count_rounds([]).values()) == {0}


def test_passes_are_counted_by_their_new_positions() -> None:
    told = run_fields(run([0, 5, 6, 1]), 128, 1)
    assert (told["small_passes"], told["small_positions"]) == (4, 7)
    assert (told["large_passes"], told["large_positions"]) == (4, 20)
    assert told["large_widths"] == {1: 1, 4: 2, 11: 1}
    assert dataclasses.asdict(told["ns"]) == {"total": 77, **{name: i for i, name in enumerate(PHASES)}}
    assert told["tokens"] == [0, 5, 6, 1]


def test_a_text_reached_the_limit_where_it_did_not_end_by_itself() -> None:
    assert run_fields(run([0, 5, 6, 7]), 4, 1)["reached_limit"]
    assert not run_fields(run([0, 5, 6, 1]), 4, 1)["reached_limit"]
    assert not run_fields(run([0, 5, 1]), 4, 1)["reached_limit"]


def test_a_sample_says_what_was_decoded_beside_it() -> None:
    alone = sample([0, 5, 1], 1.0, baseline=([0, 5, 1], 2.0))
    assert (alone.seconds, alone.baseline_seconds, alone.baselines_ns) == (0.001, 0.002, 2_000_000)
    assert sample([0, 5, 1], 1.0, baseline=([0, 5, 1], 2.0), library=([0, 1], 4.0)).baselines_ns == 6_000_000


def test_the_trace_is_every_round_in_json_with_six_digits() -> None:
    lines = json.loads(json.dumps(trace(ROUNDS)))
    assert len(lines) == 4
    assert lines[1] == {
        "start": 1,
        "drafted": list(range(10, 20)),
        "probs": [0.123457] * 10,
        "stop": "limit",
        "token_nll": [0.333333] * 10,
        "kept": 4,
        "wrote": 9,
        "rollback": True,
    }
    assert len(lines[0]["probs"]) == 4  # with that of the token that was dropped
    assert lines[2]["wrote"] is None
