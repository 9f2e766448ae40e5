"""The captures of engine `graph` on a model of torch's CUDA graphs: prepared before the clock, dropped all at once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import pytest
import torch

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.decoding.policies import widest_pass
from bild.engines import Engine, PassPlan, build_exit_engines
from bild.engines.early_exit import GraphExitEngine, GraphSharedLayers, early_exit, truncated
from bild.engines.graph import GraphEngine
from bild.engines.graph_pool import GraphPool
from bild.errors import BildError
from bild.measure.live import Run, run_live
from tests import lanes
from tests.engines.cuda_model import Cuda
from tests.engines.tiny import EOS, START, engine, ids, model, relative_of

LENGTH = 24
POINTS = [
    (MethodConfig("vanilla"), ThresholdConfig()),
    (MethodConfig("small"), ThresholdConfig()),
    (MethodConfig("bild"), ThresholdConfig(fb=0.3, rb=1.0)),
    (MethodConfig("bild", rules="authors", max_draft=17), ThresholdConfig(fb=0.05, rb=0.5)),
    (MethodConfig("bild", unsure="verify", after_rollback="large"), ThresholdConfig(fb=0.5, rb=0.2)),
    (MethodConfig("speculative", max_draft=4), ThresholdConfig()),
    (MethodConfig("speculative", stop="adaptive"), ThresholdConfig()),
    (MethodConfig("bild", stop="likely"), ThresholdConfig(fb=0.2, rb=1.0)),
    (MethodConfig("bild", keep="top"), ThresholdConfig(fb=0.2, top=2)),
]
SOURCES = [[*ids(n, seed=n), EOS] for n in (9, 31, 40)]  # two buckets, and the edge of one
JOBS = lanes.some([(n, m) for n in range(len(SOURCES)) for m in range(len(POINTS))], 15)


def module() -> Any:
    return model("t5-v1.0")


def small_module() -> Any:
    return relative_of(module(), 0.3)


def build(made: Any, pool: GraphPool, capacity: int = LENGTH, **options: Any) -> Engine:
    vocabulary = made.config.vocab_size
    return GraphEngine(
        made, dtype=torch.float32, eos=EOS, vocabulary=vocabulary, capacity=capacity, pool=pool, **options
    )


def pair_on(cuda: Cuda, capacity: int = LENGTH) -> tuple[Engine, Engine]:
    large = cuda.engine(partial(build, module(), capacity=capacity))
    assert isinstance(large, GraphEngine)
    return large, cuda.engine(partial(build, small_module(), capacity=capacity, small=True), large.pool)


def prepare(large: Engine, small: Engine, sources: list[list[int]] = SOURCES, length: int = LENGTH) -> None:
    widths, ranks = zip(*(widest_pass(*point, length) for point in POINTS), strict=True)
    lengths = [len(source) for source in sources]
    large.prepare(PassPlan(length, lambda: lengths, max(widths), any(ranks)))
    small.prepare(PassPlan(length, lambda: lengths, 2))


def decode(engines: tuple[Engine, Engine], point: tuple[MethodConfig, ThresholdConfig], source: list[int]) -> Run:
    policy = policy_for(*point)(start=START, eos=EOS, max_length=LENGTH)
    name = point[0].name
    return run_live(policy, source, None if name == "small" else engines[0], None if name == "vanilla" else engines[1])


@cache
def apart(make: str, exit_layer: int | None) -> tuple[Engine, Engine]:
    large = model(make)
    return engine("hf", large), engine("hf", truncated(large, exit_layer) if exit_layer else small_module())


@cache
def oracle(source: int, point: int, make: str, exit_layer: int | None) -> tuple[list[int], list[int], list[int]]:
    """Tokens, large and small passes of a source by a point, by the library."""
    run = decode(apart(make, exit_layer), POINTS[point], SOURCES[source])
    return run.decoded.tokens, run.large_passes, run.small_passes


@pytest.mark.slow
@pytest.mark.parametrize(("device", "ahead"), [("cuda:0", False), ("cuda:1", True)])
def test_prepared_graphs_write_what_the_library_writes(
    device: str, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Cuda(device).install(monkeypatch)
    engines = pair_on(cuda, capacity=8 if ahead else LENGTH)  # to grow drops no program
    prepare(*engines)
    cuda.sealed = True
    engines[1].ahead = ahead  # type: ignore[attr-defined]
    compare(engines, "t5-v1.0", None, ahead)
    assert cuda.replays > cuda.captures > 10


def compare(engines: tuple[Engine, Engine], make: str, exit_layer: int | None, ahead: bool) -> None:
    """Decode sources by points, and count what was run for it."""
    for source, point in JOBS:
        tokens, large_passes, small_passes = oracle(source, point, make, exit_layer)
        mine = decode(engines, POINTS[point], SOURCES[source])
        assert (mine.decoded.tokens, mine.large_passes, mine.small_passes) == (tokens, large_passes, small_passes)
        assert mine.captures == 0
        assert mine.ran.get("large", 0) == len(large_passes)
        assert 0 <= mine.ran.get("small", 0) - len(small_passes) <= ahead * len(mine.decoded.rounds)


@pytest.mark.slow
def test_early_exit_is_prepared_for_both_views(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, deep = Cuda("cuda:1").install(monkeypatch), model("deep-decoder")
    options = {"dtype": torch.float32, "eos": EOS, "vocabulary": deep.config.vocab_size, "capacity": LENGTH}

    def views(pool: GraphPool) -> Engine:
        return early_exit(GraphSharedLayers(GraphExitEngine(deep, 2, pool=pool, small=True, **options)))[0]

    large = cuda.engine(views)
    small = type(large)(large.shared, "exit")  # type: ignore[attr-defined]
    prepare(large, small)
    cuda.sealed = True
    cuda.engines[0].ahead = True
    compare((large, small), "deep-decoder", 2, ahead=True)


@pytest.mark.slow
def test_what_was_not_foreseen_is_captured_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda("cuda:0").install(monkeypatch)
    engines = pair_on(cuda)
    prepare(*engines, sources=SOURCES[:1])
    assert decode(engines, POINTS[2], SOURCES[0]).captures == 0
    assert decode(engines, POINTS[2], SOURCES[-1]).captures > 0
    assert decode(engines, POINTS[2], SOURCES[-1]).captures == 0


def test_a_draft_is_not_sent_to_the_device_again_for_its_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = pair_on(Cuda("cuda:0").install(monkeypatch))
    assert isinstance(large, GraphEngine)
    text = large.pool.text
    for made in (large, small):
        made.start(SOURCES[1])
    text.send(0, [START])
    text._staging = []  # whatever is sent from here on fails
    out, _, _ = small.draft([START], 5, 0.0)
    last = large.step([START, *out], want=6).choice[-1]
    assert text.tokens[:7].tolist() == text.known[:7] == [START, *out, last]
    small.step([out[-1], last])
    with pytest.raises(IndexError):
        large.step([last + 1])


@pytest.mark.slow
@pytest.mark.parametrize("clears", [True, False])
def test_no_replay_uses_memory_that_was_given_back(clears: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts beyond the capacity, and pairs that come and go: by torch 2.13, and by those before it."""
    cuda = Cuda("cuda:0", clears).install(monkeypatch)
    first, second = pair_on(cuda, capacity=8), pair_on(cuda, capacity=8)
    for n, source in enumerate(SOURCES):
        if n == 1:
            del first
            del cuda.engines[:2]
            gc.collect()
            first = pair_on(cuda, capacity=8)
        for engines in (first, second):
            for m in (0, 2, 3):
                assert decode(engines, POINTS[m], source).decoded.tokens == oracle(n, m, "t5-v1.0", None)[0]


def test_workspaces_that_others_clear_are_not_those_of_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.compile does around its own recordings, in the same process."""
    cuda = Cuda("cuda:0").install(monkeypatch)
    large, small = pair_on(cuda)
    prepare(large, small, sources=SOURCES[:1])
    for _ in range(2):
        cuda.clear_workspaces()
        assert decode((large, small), POINTS[2], SOURCES[0]).decoded.tokens == oracle(0, 2, "t5-v1.0", None)[0]
        decode((large, small), POINTS[2], SOURCES[-1])  # captured behind it


def test_the_graphs_of_one_engine_are_not_dropped_before_those_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda("cuda:0").install(monkeypatch)
    large, small = pair_on(cuda)
    for made in (large, small):
        made.start(SOURCES[0])
        made.step([START])
    del cuda.engines[1:], small, made
    gc.collect()
    large.step([5])


def test_an_empty_graph_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the capture's stream belongs to another device than the engine's tensors."""
    cuda = Cuda("cuda:1").install(monkeypatch)
    made = cuda.engine(partial(build, module()))
    assert isinstance(made, GraphEngine)
    made.pool.device = torch.device("cuda:0")
    made.pool._open()
    made.start(SOURCES[0])
    with pytest.raises(BildError, match="captured an empty CUDA graph on cuda:0"):
        made.step([START])


def test_a_buffer_that_moves_under_a_graph_is_noticed_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in itself: without it, the tests above could not fail."""
    cuda = Cuda("cuda:0").install(monkeypatch)
    made = cuda.engine(partial(build, module()))
    assert isinstance(made, GraphEngine)
    made.start(SOURCES[0])
    made.step([START])
    made.cache = made.cache.clone()
    with pytest.raises(AssertionError, match="a buffer has moved"):
        made.step([5])


def test_a_program_that_the_plan_forgot_is_noticed_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda("cuda:0").install(monkeypatch)
    made = cuda.engine(partial(build, module()))
    made.prepare(PassPlan(LENGTH, lambda: [9], 1))
    cuda.sealed = True
    made.start(SOURCES[0])
    made.step([START])
    with pytest.raises(AssertionError, match="captured after all were prepared"):
        made.step([5, 6])


def test_a_graph_that_outlives_its_generation_is_noticed_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda("cuda:0").install(monkeypatch)
    made = cuda.engine(partial(build, module()))
    assert isinstance(made, GraphEngine)
    made.start(SOURCES[0])
    made.step([START])
    (kept,) = made._programs.values()
    other = next(iter(cuda.pools))
    made.pool.retire()
    cuda.pools.pop(other, None)
    with pytest.raises(AssertionError, match="dropped is replayed"):
        kept()
    cuda.pools[other] = 1


@contextmanager
def overflowing(made: Any, token: int) -> Iterator[None]:
    """Let a token's embedding overflow, as activations in fp16 do on some checkpoints."""
    kept = made.weights.embed[token].clone()
    made.weights.embed[token] = float("inf")
    yield
    made.weights.embed[token] = kept


@pytest.mark.parametrize("captured", [False, True])
def test_a_text_that_overflows_leaves_nothing_behind(captured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = (
        Cuda("cuda:0").install(monkeypatch).engine(partial(build, module())) if captured else engine("graph", module())
    )
    long, short = [*ids(20), EOS], [*ids(9, seed=3), EOS]
    made.start(short)
    healthy = made.step([START, 5, 6, 7], want=4)
    for source, tokens in ((short, [START, 5, 9, 7]), ([9, *long], [START]), (long, [START, 9])):
        with overflowing(made, 9):
            made.start(source)
            with pytest.raises(BildError, match="not finite"):
                made.step(tokens)
        made.start(short)
        assert made.step([START, 5, 6, 7], want=4) == healthy
    with overflowing(made, 9):  # nobody looked at what this source came to
        made.start([9, *long])
    made.start(short)
    assert made.step([START, 5, 6, 7], want=4) == healthy


def test_what_captures_make_of_no_text_spoils_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start program is captured over whatever ids are there, and they may overflow."""
    made: Any = Cuda("cuda:0").install(monkeypatch).engine(partial(build, module()))
    short = [*ids(9, seed=3), EOS]
    made.start(short)
    healthy = made.step([START, 5, 6, 7], want=4)
    with overflowing(made, 0):
        made.prepare(PassPlan(LENGTH, lambda: [20], 4))
    made.start(short)
    assert made.step([START, 5, 6, 7], want=4) == healthy


def test_neither_padding_nor_a_step_beyond_the_stop_can_spoil_a_text() -> None:
    made: Any = engine("graph", module())
    made.start(SOURCES[1])
    healthy = made.step([START, 5, 6, 7, 8], want=5)  # width 8: three rows of padding
    made.pool.text.tokens[5:] = 9  # which padding reads
    with overflowing(made, 9):
        made.rewind(0)
        assert made.step([START, 5, 6, 7, 8], want=5) == healthy
        made.rewind(1)
        assert made.step([5, 6, 7, 8], want=4).choice == healthy.choice[1:]
    made.ahead = True
    made.start(SOURCES[1])
    first = made.step([START]).choice[0]
    with overflowing(made, first):  # the step beyond the stop feeds it
        made.rewind(0)
        assert made.draft([START], 3, 1.1)[0] == [first]
    made.rewind(0)
    assert made.step([START, 5, 6, 7, 8], want=5) == healthy


def test_a_measurement_decides_whether_drafts_run_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that is long beside a step pays for one step in vain; a short one does not."""
    cuda = Cuda("cuda:0").install(monkeypatch)
    clock = [0.0]
    monkeypatch.setattr("bild.engines.graph.perf_counter", lambda: clock[0])
    made: Any = cuda.engine(partial(build, module(), small=True))

    def passing(inner: Callable[..., Any], seconds: Callable[[], float]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            clock[0] += seconds()
            return inner(*args)

        return call

    wait = [0.0]
    made._run = passing(made._run, lambda: 1.0)
    made._landing.wait = passing(made._landing.wait, lambda: wait[0])
    for wait[0], expected in ((0.1, False), (0.3, True)):
        made.prepare(PassPlan(LENGTH, lambda: [9], 1))
        assert made.ahead is expected
    large: Any = cuda.engine(partial(build, module()))
    large.prepare(PassPlan(LENGTH, lambda: [9], 1))
    assert large.ahead is False


def test_build_exit_engines_and_a_pair_share_one_pool() -> None:
    deep = model("deep-decoder")
    large, small = build_exit_engines("graph", deep, 2, dtype="fp32", eos=EOS, vocabulary=deep.config.vocab_size)
    assert large.shared is small.shared  # type: ignore[attr-defined]
