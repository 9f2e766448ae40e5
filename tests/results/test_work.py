"""FLOPs and bytes of passes: by hand for published sizes, by torch's own counter, and by asking every pass of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bild.config import MethodConfig, ShapeConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.engines import CalmEngine, Engine, FusedEngine, build_engine, fused
from bild.measure.aggregate import work_of
from bild.measure.live import engines_of, run_live
from bild.measure.processes import describe_pair
from bild.models import load_pair
from bild.models.shapes import random_model
from bild.results.work import Fed, Passes, PassWork, Sizes, texts_work
from tests.records import make_sample

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
    text = Fed(len(source), run.sums["small"], run.sums["large"])
    found = texts_work([text], sizes["small"], sizes["large"], "fp32")
    by_pass = [sizes["large"].work(w, len(source), n, **FP32) for n, w, _ in asked[id(engines["large"])]]
    assert found.large.bytes == PassWork.total(by_pass).bytes
    assert found.encoders == PassWork.total(each.encoding(len(source), **FP32) for each in sizes.values())


def test_a_bridge_is_counted_within_the_sources_keys_and_values() -> None:
    small = replace(T5_SMALL, encoder_layers=0, reads=1024)
    # 2 * 6 matrices of [1024, 512] for a source of 100; no encoder and no embedding of its own.
    assert small.encoding(100, **FP32) == PassWork(bytes=4 * 6_291_456, flops=200 * 6_291_456)
    passes = Passes.one_by_one(3)
    both = texts_work([Fed(100, passes, Passes.total([]))], small, T5_LARGE, "fp32")
    own, other = small.encoding(100, **FP32), T5_LARGE.encoding(100, **FP32)
    assert both.encoders == PassWork.total([own, other])  # started together, and the large one never asked
    alone = texts_work([Fed(100, passes, None)], small, T5_LARGE, "fp32")
    assert other.flops - (alone.encoders.flops - own.flops) == 200 * T5_LARGE.source_matrices
    assert alone.small == both.small == small.work_of(passes, 100, **FP32)


TINY = Sizes(3, 2, 2, 3, 1, 5, encoder_layers=1)


def test_an_early_exit_is_counted_once_by_hand() -> None:
    # One layer below the exit: 6 * 4 + 2 * 6 = 36 weights. Small: tokens 0, 1; large: both and one more, of which it
    # takes the last to the exit; two layers more and the head (5 * 2 weights) for three positions.
    small, below = replace(TINY, layers=1), Passes.of([(0, 1, 0), (1, 1, 0), (2, 1, 0)])
    text = Fed(4, Passes.of([(0, 1, 1), (1, 1, 1)]), Passes.of([(0, 3, 3)]), below)
    found = texts_work([text], small, TINY, "fp32")
    seen = 1 + 2 + 3
    assert found.small.flops == 2 * (3 * 36 + 2 * 2 * (3 * 4 + seen)) + 2 * 2 * 10
    assert found.small.bytes == 4 * (3 * 36 + 2 * 2 * (3 * 4 + 3) + 3 * 2 + 2 * 10)
    assert found.large.flops == 2 * 2 * (3 * 36 + 2 * 2 * (3 * 4 + seen)) + 2 * 3 * 10
    assert found.large.bytes == 4 * (2 * 36 + 2 * 2 * 2 * 4 + 10)
    assert found.encoders == TINY.encoding(4, **FP32)
    # A large model that reads everything by itself does vanilla's work.
    whole = Passes.of([(0, 3, 3)])
    alone = texts_work([Fed(4, Passes.total([]), whole, Passes.of([(0, 3, 0)]))], small, TINY, "fp32").total
    assert alone == PassWork.total([TINY.encoding(4, **FP32), TINY.work_of(whole, 4, **FP32)])


def test_layers_that_tokens_left_out_are_counted_by_hand() -> None:
    # Tokens took 2, 1, 1 and 3 of 3 layers: layer 1 ran for all, layer 2 for the first and the last, layer 3 for the
    # last alone. Before that the keys and values of two tokens were made in layer 2, of three in layer 3: 8 weights.
    found = TINY.early([2, 1, 1, 3], 4, 5, **FP32)
    attended = (4 * 5 + 1 + 2 + 3 + 4) + (2 * 5 + 1 + 4) + (5 + 4)
    assert found.flops == 2 * (7 * 36 + 2 * 2 * attended) + 2 * 5 * 8 + 2 * 4 * 10
    assert found.bytes == 4 * (7 * 36 + 2 * 2 * (7 * 5 + (0 + 1 + 2 + 3) + (0 + 3) + 3) + 2 * 8 + 4 * 10 + 4 * 2)
    assert TINY.early([3] * 4, 4, 5, **FP32) == TINY.work_of(Passes.one_by_one(4), 5, **FP32)


@pytest.mark.parametrize("method", ["bild", "small", "state", "softmax"])
def test_passes_through_shared_layers_are_those_of_the_engine(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = load_pair("embedded/exit", exit=1, device="cpu")
    source = pair.encode("Ein Hund rennt über die Wiese und fängt einen Ball.")[0]
    lowered, ran, filled, heads = list[tuple[int, int, int]](), Counter[int](), Counter[int](), []
    monkeypatch.setattr(fused, "compilable", lambda _: False)  # the plain path, where every pass is seen
    below = lambda e, tokens, _want, _ranks, part: lowered.append((e.length + part.kept, len(tokens) - part.kept, 0))  # noqa: E731
    watch(monkeypatch, FusedEngine, "step", below)
    watch(monkeypatch, FusedEngine, "run_layers", lambda _, x, n, a, b: ran.update({at: len(x) for at in range(a, b)}))
    watch(monkeypatch, FusedEngine, "logits", lambda _, x: heads.append(len(x)))
    watch(monkeypatch, CalmEngine, "_fill", lambda e, at: filled.update({at: e.length - e._filled[at]}))
    calm = method in ("state", "softmax")
    switches = MethodConfig("calm", confidence=method, decay=0) if calm else MethodConfig(method)
    exits = ThresholdConfig(exit=0.97 if method == "state" else 0.3) if calm else ThresholdConfig()
    make = policy_for(switches, exits)
    large, small = engines_of(pair, switches.name, "fused")
    run = run_live(make(start=pair.start, eos=pair.eos, max_length=40), source, large, small)
    sizes = describe_pair(pair)
    assert sizes.small.sizes is not None
    assert sizes.large.sizes is not None
    sample = Fed(len(source), *(run.sums.get(name) for name in ("small", "large", "exit")), run.decoded.layers)
    found = texts_work([sample], sizes.small.sizes, sizes.large.sizes, "fp32")
    seen = [run.sums[name].seen for name in ("exit", "large") if name in run.sums]
    assert sum(heads) == sum(run.sums[name].asked for name in ("small", "large") if name in run.sums)
    if calm:
        assert run.decoded.layers is not None
        assert len({*run.decoded.layers}) > 1  # some left early
        seen = [sum(at + 1 for at, used in enumerate(run.decoded.layers) for _ in range(used))]
        assert sum(filled.values()) > 0
    else:
        assert run.sums["exit"] == Passes.of([each for each in lowered if each[1]])
    one = sizes.large.sizes
    depth = {"small": [1], "bild": [1, one.layers - 1]}.get(method, [1])
    attended = sum(n * 2 * one.inner * each for n, each in zip(depth, seen, strict=True))
    attended += sum(ran.values()) * 2 * one.inner * len(source)
    products = sum(ran.values()) * one.layer + sum(filled.values()) * 2 * one.width * one.inner + sum(heads) * one.head
    assert found.small.flops + found.large.flops == 2 * (products + attended)
    assert found.encoders == one.encoding(len(source), **FP32)
    told = {f"{name}_sums": sums for name, sums in run.sums.items()} | {"layers": run.decoded.layers}
    new = make_sample(source_tokens=len(source), **told)
    counted = work_of([new], sizes, "fp32", shared=True)
    assert counted is not None
    assert counted.method == found
    old = replace(new, exit_sums=None)  # of before passes to an exit were counted, in a point that was gone on with
    assert (work_of([old, new], sizes, "fp32", shared=True) is None) == (not calm)


def watch(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, told: Callable[..., object]) -> None:
    real = getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda *given: (told(*given), real(*given))[1])
