"""On a CUDA device: the same texts as on the CPU. Skipped without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bild.api import generate
from bild.decoding import big_little
from bild.engines import build_exit_engines
from bild.errors import BildError
from bild.measure.live import run_live
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
NAMES = ["fused", "graph", "hf"]


def on_cuda(golden: str, dtype: str = "fp32") -> Pair:
    return load_pair(str(OWN / f"{golden}-large"), str(OWN / f"{golden}-small"), dtype=dtype, device="cuda")


@pytest.mark.parametrize("golden", ["t5", "mt5"])
@pytest.mark.parametrize("name", NAMES)
def test_the_golden_cases_come_out_id_for_id(golden: str, name: str) -> None:
    pair = on_cuda(golden)
    for case in Golden(OWN, golden).cases:
        thresholds = {"fb": case["fallback"], "rb": case["rollback"]}
        limits = {"max_draft": case["max_draft"], "max_length": case["max_length"]}
        output = generate(pair, case["input"], rules="authors", engine=name, **thresholds, **limits)
        assert output.tokens == case["output"], case


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
