"""FLOPs and bytes of passes: by hand for published sizes, by torch's own counter, and by asking every pass of a run."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bild.config import MethodConfig, ShapeConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.engines import Engine, build_engine
from bild.measure.live import run_live
from bild.models import load_pair
from bild.models.shapes import random_model
from bild.results.work import Passes, PassWork, Sizes, texts_work

FP32 = {"weights": "fp32", "states": "fp32"}
T5_SMALL = Sizes(6, 512, 512, 2048, 1, 32128, encoder_layers=6)
T5_LARGE = Sizes(24, 1024, 1024, 4096, 1, 32128, encoder_layers=24)


def test_passes_of_t5_small_and_t5_large_by_hand() -> None:
    # A step of T5-small behind 10 tokens on a source of 100: 6 layers of 3,670,016 weights, and the head's 16,449,536.
    assert T5_SMALL.matrices == 6 * 3_670_016 + 16_449_536 == 38_469_632
    step = T5_SMALL.work(1, 100, 10, **FP32)
    assert step == PassWork(bytes=4 * (38_469_632 + 6 * 1024 * 110 + 512), flops=2 * 38_469_632 + 6 * 2048 * 111)
    assert (step.bytes, step.flops) == (156_583_936, 78_303_232)
    # A verification pass of T5-large: ten drafted tokens and the one before them, behind 20, on a source of 540.
    assert T5_LARGE.matrices == 24 * 14_680_064 + 32_899_072 == 385_220_608
    verification = T5_LARGE.work(11, 540, 20, **FP32)
    seen = sum(540 + 20 + place for place in range(1, 12))
    assert (verification.bytes, verification.flops) == (1_651_027_968, 22 * 385_220_608 + 24 * 4096 * seen)
    assert verification.flops == 9_086_894_080
    # A source of 100 by T5-small's encoder, and its keys and values in six layers of the decoder.
    assert T5_SMALL.encoding(100, **FP32) == PassWork(bytes=88_285_184, flops=4_526_899_200)


def test_sums_over_passes_are_the_passes_one_by_one() -> None:
    passes = [(0, 1, 1), (1, 5, 5), (4, 2, 1), (6, 1, 1)]
    each = [T5_SMALL.work(width, 9, cached, weights="fp16", states="fp32") for cached, width, _ in passes]
    whole = T5_SMALL.work_of(Passes.of(passes), 9, weights="fp16", states="fp32")
    # One pass was asked for the logits of its last position alone.
    assert whole == PassWork(PassWork.total(each).bytes, PassWork.total(each).flops - 2 * T5_SMALL.head)
    assert Passes.one_by_one(7) == Passes.of([(n, 1, 1) for n in range(7)])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [("t5", False, True), ("mt5", True, False)])
def test_flops_are_those_that_torch_counts_in_the_librarys_modules(shape: tuple[str, bool, bool]) -> None:
    kind, gated, tied = shape
    made = ShapeConfig("tiny", kind, 24, 6, 40, 3, 2, 3, 64, gated=gated, tied=tied)
    module = random_model(made, torch.float32, torch.device("cpu"), 0)
    module.set_attn_implementation("eager")  # whose products are all counted
    engine = build_engine("hf", module, dtype="fp32", eos=-1, vocabulary=64)
    with FlopCounterMode(display=False) as counter:
        engine.start([5, 9, 33, 17, 1])
        engine.draft([0], 6, 0.0)
    sizes = Sizes.of(module.config, 64)
    passes = Passes.one_by_one(6)
    counted = sizes.encoding(5, **FP32).flops + sizes.work_of(passes, 5, **FP32).flops
    assert counter.get_total_flops() == counted


@pytest.mark.parametrize("fb", [0.3, 0.9])
def test_a_run_notes_every_pass_as_its_engines_got_it(fb: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = load_pair(device="cpu")
    engines = {role: pair.engine(role, "hf") for role in ("large", "small")}
    asked: dict[int, list[tuple[int, int, int]]] = {id(engine): [] for engine in engines.values()}
    real = type(engines["large"]).step

    def step(self: Engine, tokens: list[int], want: int = 1, ranks: bool = False) -> object:
        asked[id(self)].append((self.length, len(tokens), want))
        return real(self, tokens, want, ranks)

    monkeypatch.setattr(type(engines["large"]), "step", step)
    source = pair.encode("Ein Hund rennt über die Wiese und fängt einen Ball.")[0]
    make = policy_for(MethodConfig("bild"), ThresholdConfig(fb=fb, rb=1.0))
    run = run_live(make(start=pair.start, eos=pair.eos, max_length=40), source, engines["large"], engines["small"])
    assert run.sums == {role: Passes.of(asked[id(engine)]) for role, engine in engines.items()}
    assert run.sums["small"].positions > run.sums["small"].count  # what the large model wrote was read, too
    sizes = {role: Sizes.of(pair.model(role).config, pair.vocabulary) for role in engines}
    found = texts_work([(len(source), run.sums["small"], run.sums["large"])], sizes["small"], sizes["large"], "fp32")
    by_pass = [sizes["large"].work(w, len(source), n, **FP32) for n, w, _ in asked[id(engines["large"])]]
    assert found.large.bytes == PassWork.total(by_pass).bytes
    assert found.encoders == PassWork.total(each.encoding(len(source), **FP32) for each in sizes.values())
