"""Every program of engine `graph` on CUDA tensors without data: nothing that a graph cannot hold, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import MT5Config, T5Config

from bild.engines import DTYPES
from bild.engines.early_exit import GraphExitEngine
from bild.engines.graph import GraphEngine
from bild.engines.graph_pool import GraphPool
from bild.engines.sampling import Sampler
from tests.engines.fake_cuda import Log, fake_cuda, fake_module

SIZES: dict[str, Any] = {
    "d_model": 24,
    "d_kv": 8,
    "num_heads": 3,
    "d_ff": 40,
    "num_layers": 1,
    "num_decoder_layers": 2,
    "vocab_size": 48,
}
CONFIGS = {
    "t5": T5Config(**SIZES),
    "mt5": MT5Config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **SIZES),
}
PROGRAMS = [("step", 1), ("step", 12), ("step with ranks", 12)]
EXIT_PROGRAMS = [("lower", 1), ("lower", 4), ("exit", 1), ("upper", 12), ("upper with ranks", 2), ("draft", 1)]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stream and no pinned memory: programs are run, not captured."""
    zeros: Callable[..., Any] = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, pin_memory=False, **options: zeros(*size, **options))
    monkeypatch.setattr(GraphPool, "_open", lambda pool: None)
    monkeypatch.setattr(torch.cuda, "Event", object)


@pytest.mark.usefixtures("quiet")
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "dtype", "device"), [("t5", "fp32", "cuda:0"), ("mt5", "fp16", "cuda:1")])
def test_a_graph_can_hold_every_program(kind: str, dtype: str, device: str) -> None:
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "eos": 1, "vocabulary": 48, "capacity": 8}
    with fake_cuda() as mode, torch.inference_mode():
        module = fake_module(mode, CONFIGS[kind], DTYPES[dtype], device)
        with mode:
            engines = GraphEngine(module, **options), GraphExitEngine(module, 1, **options)
        for made, programs in zip(engines, (PROGRAMS, EXIT_PROGRAMS), strict=True):
            for n, (program, width) in enumerate(programs):
                made.sampler = (None, Sampler(0.8, 1.3, 5), Sampler(1.0, 1.0, 5))[n % 3 if width > 1 else 1]
                with mode, Log() as log:
                    made._plain(program, made._source(30), width)
                    if not n:
                        for start in made._starting(30).values():
                            start()
                assert log.forbidden == []
                assert log.launches
                assert {str(t.device) for launch in log.launches for t in launch.made} == {device}


@pytest.mark.parametrize(
    ("what", "program"),
    [
        ("_local_scalar_dense", lambda a, b: a.sum().item()),
        ("nonzero", lambda a, b: a.nonzero()),
        ("nonzero", lambda a, b: a[a > 0]),
        ("between", lambda a, b: a.copy_(torch.zeros(4))),
        ("device", lambda a, b: a + b),
    ],
)
def test_what_a_graph_cannot_hold_is_noticed(what: str, program: Callable[[Any, Any], Any]) -> None:
    """The stand-in itself: a wait for the host, a shape that hangs on data, a copy from the host, two devices."""
    told = ""
    with fake_cuda() as mode, mode:
        a, b = torch.zeros(4, device="cuda:0"), torch.zeros(4, device="cuda:1")
        with Log() as log:
            try:
                program(a, b)
            except Exception as error:
                told = str(error)
    assert any(what in one for one in [*log.forbidden, told])
