"""The roofline is arithmetic, checked by hand and against the library's own modules; shapes are the published ones."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from bild.bench import roofline
from bild.bench.roofline import MatmulProbe, ReadProbe, roofline_ms
from bild.cli import compose, options
from bild.config import ShapeConfig
from bild.engines import build_engine
from bild.models.shapes import model_config, random_model
from bild.results.work import PassWork, Sizes

CPU = torch.device("cpu")
PUBLISHED = {
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "mt5-small": 300_176_768,
    "mt5-base": 582_401_280,
    "mt5-large": 1_229_581_312,
}
"""Parameters of the checkpoints that are named so."""
TINY = {
    "tied": ShapeConfig("tiny", "t5", 24, 6, 40, 3, 2, 3, 64, gated=False, tied=True),
    "untied": ShapeConfig("tiny", "mt5", 24, 7, 40, 3, 2, 3, 64, gated=True, tied=False),
}


def shape(option: str) -> ShapeConfig:
    from bild.bench.config import BenchConfig

    found = compose([f"shape={option}"], "bench", BenchConfig).shape
    assert isinstance(found, ShapeConfig)
    return found


def test_a_step_by_hand() -> None:
    # Two layers of width 3, two heads of 2, feed-forward 5, ten tokens; a source of 7, one cached position.
    decoder = Sizes(layers=2, width=3, inner=4, feed_forward=5, matrices_in=1, vocabulary=10)
    layer = 6 * 3 * 4 + 2 * 3 * 5
    assert decoder.matrices == 2 * layer + 30 == 234
    states = 2 * 2 * 4 * (7 + 1) + 3  # keys and values of both attentions in both layers; one embedding
    work = decoder.work(1, 7, 1, weights="fp32", states="fp32")
    assert work.bytes == 4 * (234 + states)
    # Each weight once, and for each of 7 + 2 positions that are seen 4 products for its key and as many for its value.
    assert work.flops == 2 * 234 + 2 * (7 + 2) * 2 * 2 * 4


def test_a_wide_pass_reads_the_weights_once_and_multiplies_them_often() -> None:
    decoder = Sizes(layers=2, width=3, inner=4, feed_forward=5, matrices_in=2, vocabulary=10)
    narrow = decoder.work(1, 7, 4, weights="bf16", states="bf16")
    verification = decoder.work(3, 7, 4, weights="bf16", states="bf16")
    assert verification.bytes - narrow.bytes == 2 * 2 * 3  # two more embeddings
    seen = [7 + 4 + 1, 7 + 4 + 2, 7 + 4 + 3]
    assert narrow.flops == 2 * decoder.matrices + 4 * 2 * 4 * seen[0]
    assert verification.flops == 3 * 2 * decoder.matrices + 4 * 2 * 4 * sum(seen)


def test_weights_in_int8_are_a_byte_each() -> None:
    decoder = Sizes(layers=1, width=3, inner=4, feed_forward=5, matrices_in=1, vocabulary=10)
    full = decoder.work(1, 7, 1, weights="fp32", states="fp32")
    assert full.bytes - decoder.work(1, 7, 1, weights="int8", states="fp32").bytes == 3 * decoder.matrices


def test_a_matrix_that_stays_in_fp32_is_counted_as_such() -> None:
    config = model_config(ShapeConfig())
    narrow, wide = (Sizes.of(config, 32128, wide_wo=wide) for wide in (False, True))
    for dtype, more in (("fp16", 2), ("bf16", 0), ("fp32", 0)):
        works = [decoder.work(1, 64, 1, weights=dtype, states=dtype).bytes for decoder in (narrow, wide)]
        assert works[1] - works[0] == more * config.num_decoder_layers * config.d_model * config.d_ff


def test_a_gpu_is_timed_by_events_over_twenty_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call takes a millisecond by the events, whatever the clock says."""
    calls: list[None] = []

    class Event:
        def __init__(self, **_: object) -> None:
            self.at = 0

        def record(self) -> None:
            self.at = len(calls)

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, other: Event) -> float:
            return float(other.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.Tensor, "sum", lambda _: calls.append(None))
    probe = ReadProbe(64 << 20, torch.device("cpu"))
    probe.clock = roofline._Clock(torch.device("cuda"))
    assert probe.clock.ns(probe.buffer.sum, 30) == 30e6
    assert probe.clock.long_enough_ns == 20e6


@pytest.mark.parametrize(
    ("gb", "gflop", "ms", "bound"), [(10.0, 100.0, 0.2, "read"), (10.0, 4.0, 0.25, "multiply"), (2.0, 1.0, 1.0, "read")]
)
def test_the_floor_is_the_longer_of_the_two(gb: float, gflop: float, ms: float, bound: str) -> None:
    assert roofline_ms(PassWork(bytes=2_000_000, flops=1_000_000), gb, gflop) == (pytest.approx(ms), bound)


@pytest.mark.parametrize("make", TINY)
def test_the_matrices_are_those_of_the_library(make: str) -> None:
    module = random_model(TINY[make], torch.float32, CPU, 0)
    used = [
        weight.numel()
        for name, weight in module.named_parameters(remove_duplicate=False)
        if weight.dim() == 2
        and (name.startswith("decoder.block") or name == "lm_head.weight")
        and not name.endswith(("EncDecAttention.k.weight", "EncDecAttention.v.weight", "attention_bias.weight"))
    ]
    assert Sizes.of(module.config, TINY[make].rows).matrices == sum(used)


@pytest.mark.parametrize("option", PUBLISHED)
def test_the_shapes_are_the_published_ones(option: str) -> None:
    from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration

    chosen = shape(option)
    with torch.device("meta"):
        module = {"t5": T5ForConditionalGeneration, "mt5": MT5ForConditionalGeneration}[chosen.kind](
            model_config(chosen)
        )
    own_head = 0 if chosen.tied else chosen.rows * chosen.d_model
    assert sum(weight.numel() for weight in module.parameters()) + own_head == PUBLISHED[option]
    assert chosen.name == option


def test_every_shape_is_checked_here() -> None:
    assert {name for name in options("shape") if not name.startswith("embedded-")} == set(PUBLISHED)


@pytest.mark.parametrize("make", TINY)
def test_random_models_are_seeded_whole_and_decode_alike_everywhere(make: str) -> None:
    module = random_model(TINY[make], torch.float32, CPU, 3)
    again, other = (random_model(TINY[make], torch.float32, CPU, seed) for seed in (3, 4))
    for (name, one), two in zip(module.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
        assert not one.is_meta
        assert torch.isfinite(one).all()
    assert not torch.equal(module.shared.weight, other.shared.weight)
    assert (module.lm_head.weight is module.shared.weight) == TINY[make].tied
    assert (
        module.config.scale_decoder_outputs if make == "tied" else not hasattr(module.config, "scale_decoder_outputs")
    )
    texts = []
    for name in ("hf", "fused"):
        engine = build_engine(name, module, dtype="fp32", eos=-1, vocabulary=TINY[make].rows)
        engine.start([5, 9, 33, 1])
        texts.append(engine.draft([0], 12, 0.0)[0])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


def test_fp16_keeps_the_second_feed_forward_matrix_in_fp32() -> None:
    module = random_model(TINY["untied"], torch.float16, CPU, 0)
    kinds = {name.split(".")[-2]: weight.dtype for name, weight in module.named_parameters()}
    assert kinds.pop("wo") == torch.float32
    assert set(kinds.values()) == {torch.float16}


def test_the_probes_give_rates() -> None:
    read = ReadProbe(10_000_001, CPU)
    assert read.bytes == 10_000_000
    assert 0.1 < read() < 5000
    assert ReadProbe(5, CPU).bytes == 1 << 20
    assert 0.1 < MatmulProbe(torch.float32, CPU)() < 100_000
