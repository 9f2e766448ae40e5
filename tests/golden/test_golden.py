"""`rules=authors` writes what the authors' code writes, id for id, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bild.api import generate
from tests import lanes
from tests.decoding import restated
from tests.golden.sets import OWN, Golden, every_golden

MAX_LENGTH = 32


def settings(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "fb": case["fallback"],
        "rb": case["rollback"],
        "max_draft": case["max_draft"],
        "max_length": case["max_length"],
    }


@pytest.mark.slow
@every_golden
@pytest.mark.parametrize("engine", ["fused", "hf"])
def test_every_case_comes_out_id_for_id(golden: Golden, engine: str) -> None:
    """Every case on the fast engine; of the library's modules, which are its oracle anyway, a quarter."""
    pair, cases = golden.pair(), golden.cases
    for case in cases if engine == "fused" else lanes.some(cases, len(cases) // 4):
        output = generate(pair, case["input"], rules="authors", engine=engine, **settings(case))
        assert output.tokens == case["output"], case


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_our_own_cases_come_out_on_the_graph_engine_too(name: str) -> None:
    golden = Golden(OWN, name)
    for case in golden.cases:
        output = generate(golden.pair(), case["input"], rules="authors", engine="graph", **settings(case))
        assert output.tokens == case["output"], case


@every_golden
@pytest.mark.parametrize("engine", ["fused", "hf"])
@pytest.mark.parametrize(("method", "author"), [("vanilla", "large"), ("small", "small")])
def test_each_model_alone_writes_its_greedy_text(golden: Golden, engine: str, method: str, author: str) -> None:
    pair = golden.pair()
    for case in golden.greedy:
        output = generate(pair, case["input"], method=method, engine=engine, max_length=MAX_LENGTH)
        assert output.tokens == case[author], case["input"]


@every_golden
@pytest.mark.parametrize("how", [{"method": "speculative"}, {"rb": 0.0, "fb": 0.5}], ids=["speculative", "rb=0"])
def test_the_lossless_settings_write_the_large_models_greedy_text(golden: Golden, how: dict[str, Any]) -> None:
    pair = golden.pair()
    for case in golden.greedy:
        assert generate(pair, case["input"], max_length=MAX_LENGTH, **how).tokens == case["large"], case["input"]


@pytest.mark.spread(1)
@every_golden
def test_the_restatement_in_the_tests_makes_the_texts_and_the_passes(golden: Golden) -> None:
    """On the reference set this ties the restatement, and so all that is compared with it, to the authors' code."""
    pair, known = golden.pair(), dict[Any, Any]()
    for case in golden.cases:
        small, large = (_whole_passes(m.module, case["input"], known) for m in (pair.small, pair.large))
        said = settings(case)
        written = restated.authors(small, large, start=pair.start, eos=pair.eos, **said)
        assert (written.tokens, written.calls) == (case["output"], case["calls"]), case


def _whole_passes(module: Any, source: list[int], known: dict[Any, Any]) -> restated.NextToken:
    """The library's model without a cache, one pass over source and prefix for each next token."""

    @torch.inference_mode()
    def logp(prefix: Any) -> list[float]:
        key = (id(module), *source, -1, *prefix)
        if key not in known:
            logits = module(
                input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([list(prefix)]), use_cache=False
            ).logits[0, -1]
            known[key] = torch.log_softmax(logits.double(), -1).tolist()
        found: list[float] = known[key]
        return found

    return logp


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_our_own_set_has_cases_of_every_kind(name: str) -> None:
    cases = Golden(OWN, name).cases
    assert len(cases) >= 60
    passes = ["".join(call[0] for call in case["calls"]) for case in cases]
    assert sum("LL" in p for p in passes) >= 10, "rollbacks"
    assert sum(1 in case["output"][:-1] for case in cases) >= 3, "end tokens inside"
    assert sum(case["output"][-1] != 1 for case in cases) >= 3, "cut by their length"
    assert len({(case["fallback"], case["rollback"]) for case in cases}) >= 15
    assert sum(text["large"] != text["small"] for text in Golden(OWN, name).greedy) >= 4
