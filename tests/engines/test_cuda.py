"""On a CUDA device: the same texts as on the CPU. Skipped without one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from bild.api import generate
from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.decoding.loop import big_little
from bild.engines import build_exit_engines
from bild.errors import BildError
from bild.measure.live import prepare, run_live
from bild.models import Pair, load_pair
from tests.decoding.settings import bild_rules
from tests.engines.tiny import EOS, MAKES, START, build, engine, ids, library_logits, saved_pair
from tests.golden.sets import OWN, Golden

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SOURCE = [*ids(9), EOS]
TEXT = [START, *ids(20, seed=1)]
NAMES = ["fused", "graph", "graph-triton", "hf"]


DEVICES = ["cuda:0", pytest.param("cuda:1", marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU"))]


def on_cuda(golden: str, dtype: str = "fp32", device: str = "cuda") -> Pair:
    return load_pair(str(OWN / f"{golden}-large"), str(OWN / f"{golden}-small"), dtype=dtype, device=device)


@pytest.mark.parametrize("golden", ["t5", "mt5"])
@pytest.mark.parametrize("name", NAMES)
def test_the_golden_cases_come_out_id_for_id(golden: str, name: str) -> None:
    pair = on_cuda(golden)
    for case in Golden(OWN, golden).cases:
        thresholds = {"fb": case["fallback"], "rb": case["rollback"]}
        limits = {"max_draft": case["max_draft"], "max_length": case["max_length"]}
        output = generate(pair, case["input"], rules="authors", engine=name, **thresholds, **limits)
        assert output.tokens == case["output"], case


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ahead", [False, True])
def test_a_prepared_pair_captures_nothing_more_and_runs_what_is_needed(device: str, ahead: bool) -> None:
    pair, oracle = on_cuda("t5", device=device), on_cuda("t5")
    large, small = (pair.engine(role, "graph") for role in ("large", "small"))
    points = [(MethodConfig("bild"), ThresholdConfig(fb, 1.0)) for fb in (0.3, 0.6, 0.9)]
    sources = [[*ids(n, seed=n), EOS] for n in (9, 31, 32, 100)]
    prepare(pair, "graph", points, lambda: [len(source) for source in sources], 60)
    small.ahead = ahead  # type: ignore[attr-defined]
    apart = oracle.engine("large", "hf"), oracle.engine("small", "hf")
    for source in sources:
        for point in points:
            policy = partial(policy_for(*point), start=START, eos=EOS, max_length=60)
            mine, theirs = run_live(policy(), source, large, small), run_live(policy(), source, *apart)
            assert mine.decoded.tokens == theirs.decoded.tokens
            assert mine.captures == 0
            assert mine.ran["large"] == len(mine.large_passes)
            assert 0 <= mine.ran.get("small", 0) - len(mine.small_passes) <= ahead * len(mine.decoded.rounds)


def test_pairs_that_come_and_go_and_texts_beyond_the_capacity_share_no_memory() -> None:
    """What grows or is dropped takes no workspace from the graphs of another pair."""
    sources = [[*ids(n, seed=n), EOS] for n in (9, 40)]
    pairs = [on_cuda("t5"), on_cuda("mt5")]
    for limit in (16, 100, 300):
        for pair in pairs:
            for source in sources:
                written = [generate(pair, source, fb=0.5, rb=1.0, engine=e, max_length=limit) for e in ("graph", "hf")]
                assert written[0].tokens == written[1].tokens
        pairs[0] = on_cuda("t5")  # the former one goes, with its graphs


def test_workspaces_that_others_clear_are_not_those_of_graphs() -> None:
    """As torch.compile does around its own recordings; the next capture gives their memory back to the driver."""
    pair, source = on_cuda("mt5"), [*ids(30), EOS]
    written = [generate(pair, source, fb=0.5, rb=1.0, engine="hf").tokens]
    for _ in range(3):
        written.append(generate(pair, source, fb=0.5, rb=1.0, engine="graph").tokens)
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
    assert written == [written[0]] * 4


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("width", [1, 2, 11])
@pytest.mark.parametrize("name", ["fused", "graph"])
def test_steps_agree_with_the_library_on_the_cpu(make: str, width: int, name: str) -> None:
    module = build(make)
    expected = torch.log_softmax(library_logits(module, SOURCE, TEXT), -1).max(-1).values
    made = engine(name, module.cuda(), capacity=4)
    made.start(SOURCE)
    found = list[float]()
    for at in range(0, len(TEXT), width):
        chunk = TEXT[at : at + width]
        found += made.step(chunk, want=len(chunk)).choice_nll
    assert found == pytest.approx((-expected).tolist(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("make", ["deep-decoder", "mt5"])
@pytest.mark.parametrize("name", NAMES)
def test_an_early_exit_pair_writes_what_it_writes_on_the_cpu(make: str, name: str) -> None:
    texts = []
    for device, on in (("cpu", "hf"), ("cuda", name)):
        module = build(make).to(device)
        pair = build_exit_engines(on, module, 1, dtype="fp32", eos=EOS, vocabulary=module.config.vocab_size, capacity=4)
        texts.append(
            [
                run_live(big_little(rules, start=START, eos=EOS, max_length=24), [*ids(n), EOS], *pair).decoded.tokens
                for n in range(4, 9)
                for rules in (bild_rules(0.2, 1.0), bild_rules(0.02, 4.0))
            ]
        )
    assert texts[0] == texts[1]


@pytest.mark.parametrize("golden", ["t5", "mt5"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_close_to_fp32(golden: str, dtype: str, name: str) -> None:
    exact = engine("hf", Golden(OWN, golden).pair().large.module)
    exact.start(SOURCE)
    half = on_cuda(golden, dtype).engine("large", name)
    half.start(SOURCE)
    expected = exact.step(TEXT, want=len(TEXT)).token_nll
    found = half.step(TEXT, want=len(TEXT)).token_nll
    assert sum(abs(a - b) for a, b in zip(found, expected, strict=True)) / len(found) < 0.06


@pytest.mark.parametrize("name", NAMES)
def test_after_synchronize_the_device_has_nothing_left_to_do(name: str) -> None:
    made = on_cuda("t5").engine("large", name)
    made.start(SOURCE)
    made.step(TEXT)
    made.synchronize()
    assert torch.cuda.current_stream().query()


def test_an_overflow_in_fp16_is_told_in_words(tmp_path: Path) -> None:
    module = build("t5-v1.0")
    with torch.no_grad():
        module.shared.weight.mul_(1e7)
    saved_pair(tmp_path, module, module)
    pair = load_pair(str(tmp_path / "large"), str(tmp_path / "small"), dtype="fp16", device="cuda")
    for name in NAMES:
        with pytest.raises(BildError, match="overflow"):
            generate(pair, SOURCE, engine=name)


@pytest.mark.parametrize("name", ["fused", "graph"])
def test_a_text_that_overflows_leaves_nothing_behind(name: str) -> None:
    made = on_cuda("t5").engine("large", name)
    made.start(SOURCE)
    healthy = made.step([START, 5, 6, 7], want=4)
    kept = made.weights.embed[9].clone()  # type: ignore[attr-defined]
    made.weights.embed[9] = float("inf")  # type: ignore[attr-defined]
    made.start([*ids(30), EOS])
    with pytest.raises(BildError, match="not finite"):
        made.step([START, 9])
    made.weights.embed[9] = kept  # type: ignore[attr-defined]
    made.start(SOURCE)
    again = made.step([START, 5, 6, 7], want=4)
    assert again.choice == healthy.choice
    assert again.choice_nll == pytest.approx(healthy.choice_nll, rel=1e-5)
