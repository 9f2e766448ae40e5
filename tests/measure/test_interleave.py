"""The measurement: what is run, in which order, how often, and what is left behind."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bild.config import MeasureConfig, MethodConfig, TaskConfig, ThresholdConfig
from bild.engines.graph import GraphEngine
from bild.errors import BildError
from bild.measure import interleave as module
from bild.measure.aggregate import counts_of
from bild.measure.interleave import Measurement, OpenPoint, PlacedExample, placed
from bild.models import Pair
from bild.results import PointFolder, read_traces
from bild.results.record import overrun
from bild.tasks import Example, load_task

VANILLA, BILD, SMALL = MethodConfig("vanilla"), MethodConfig("bild"), MethodConfig("small")
LIMIT = 10


@pytest.fixture(scope="module")
def examples() -> tuple[Example, ...]:
    return load_task(TaskConfig(samples=8, id_column="id")).examples


@dataclass
class Watched:
    """A measurement, and what it ran in its order: (method, first source token, length of the source)."""

    measurement: Measurement
    ran: list[str] = field(default_factory=list)
    collecting: list[bool] = field(default_factory=list)


@pytest.fixture
def watch(embedded_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Watched]:
    """Make a measurement on the embedded pair that notes what it runs."""

    def make(**measure: Any) -> Watched:
        config = MeasureConfig(**{"warmup": 0, "library": 2, **measure})
        watched = Watched(Measurement(embedded_pair, "fused", TaskConfig(prompt="", target_limit=LIMIT), config))
        decode, library = watched.measurement.decode, module.library_generate

        def noting_decode(policy: Any, name: str, source: list[int]) -> Any:
            watched.ran.append(name)
            watched.collecting.append(gc.isenabled())
            return decode(policy, name, source)

        def noting_library(*arguments: Any) -> Any:
            watched.ran.append("library")
            return library(*arguments)

        monkeypatch.setattr(watched.measurement, "decode", noting_decode)
        monkeypatch.setattr(module, "library_generate", noting_library)
        return watched

    return make


@pytest.fixture
def point(tmp_path: Path):
    """Open a point with a folder of its own."""
    opened: list[PointFolder] = []

    def make(method: MethodConfig, fb: float = 0.6, digest: str = "") -> OpenPoint:
        number = f"{len(opened):02d}"
        folder = PointFolder.open(tmp_path, "task", "pair", f"{method.name}{number}", (digest or number) * 32, {})
        opened.append(folder)
        return OpenPoint(method, ThresholdConfig(fb, 5.0), folder)

    yield make
    for folder in opened:
        folder.close()


def run(watched: Watched, examples: Any, *points: OpenPoint, session: int = 1) -> list[int]:
    return [each.index for each in watched.measurement.measure(asked(watched.measurement, examples), points, session)]


def asked(measurement: Measurement, examples: Any) -> list[PlacedExample]:
    """The examples in their places, the first ones for the library too, which are easier to read than a random part."""
    count = measurement.settings.library
    return [PlacedExample(i, example, count < 0 or i < count) for i, example in enumerate(examples)]


def groups(ran: list[str], size: int) -> list[list[str]]:
    return [ran[i : i + size] for i in range(0, len(ran), size)]


def test_every_method_and_its_baselines_run_once_on_each_example(watch, point, examples) -> None:
    watched, one, two = watch(library=2), point(BILD), point(SMALL)
    assert run(watched, examples[:4], one, two) == [0, 1, 2, 3]
    parts = groups(watched.ran[:8], 4) + groups(watched.ran[8:], 3)
    assert [sorted(part) for part in parts] == [["bild", "library", "small", "vanilla"]] * 2 + [
        ["bild", "small", "vanilla"]
    ] * 2
    for made in (one, two):
        samples = made.folder.samples()
        assert [s.id for s in samples] == [e.id for e in examples[:4]]
        assert [s.index for s in samples] == [0, 1, 2, 3]
        assert [s.library is not None for s in samples] == [True, True, False, False]
        assert list(read_traces(made.folder.path)) == [e.id for e in examples[:4]]


def test_the_same_baseline_stands_beside_every_point(watch, point, examples) -> None:
    watched, one, two = watch(), point(BILD, fb=0.2), point(BILD, fb=0.9)
    run(watched, examples[:3], one, two)
    for a, b in zip(one.folder.samples(), two.folder.samples(), strict=True):
        assert (a.baseline, a.library) == (b.baseline, b.library)
        assert a.ns.total != b.ns.total


def test_a_vanilla_point_is_its_own_baseline(watch, point, examples) -> None:
    watched, one = watch(library=0), point(VANILLA)
    run(watched, examples[:3], one)
    assert watched.ran == ["vanilla"] * 3
    for line in one.folder.samples():
        assert line.tokens == line.baseline.tokens
        assert line.ns.total == line.baseline.ns
        assert line.library is None


@pytest.mark.spread(1)
@pytest.mark.parametrize(("library", "times"), [(0, 0), (1, 1), (-1, 4)])
def test_the_library_runs_on_as_many_examples_as_were_asked_for(watch, point, examples, library, times) -> None:
    watched = watch(library=library)
    run(watched, examples[:4], point(BILD))
    assert watched.ran.count("library") == times


@pytest.mark.slow
def test_the_order_alternates_by_a_seed(watch, point, examples) -> None:
    orders = {}
    for seed, repeat in ((0, 0), (0, 1), (1, 0)):
        watched = watch(library=-1, seed=seed)
        run(watched, examples[:5], point(BILD), point(SMALL))
        orders[seed, repeat] = groups(watched.ran, 4)
    assert orders[0, 0] == orders[0, 1] != orders[1, 0]
    assert len({tuple(part) for part in orders[0, 0]}) > 2
    assert len({part[0] for part in orders[0, 0]}) > 1


def test_what_was_measured_is_not_measured_again(watch, point, examples) -> None:
    watched, old = watch(library=0), point(BILD)
    run(watched, examples[:3], old)
    before = old.folder.samples()
    watched.ran.clear()
    new = point(SMALL)
    assert run(watched, examples[:5], old, new, session=2) == [0, 1, 2, 3, 4]
    assert [sorted(part) for part in groups(watched.ran[:6], 2)] == [["small", "vanilla"]] * 3
    assert [sorted(part) for part in groups(watched.ran[6:], 3)] == [["bild", "small", "vanilla"]] * 2
    assert old.folder.samples()[:3] == before
    assert [s.session for s in old.folder.samples()] == [1, 1, 1, 2, 2]
    assert [s.session for s in new.folder.samples()] == [2] * 5
    watched.ran.clear()
    assert run(watched, examples[:5], old, new, session=3) == []
    assert watched.ran == []


def test_both_models_and_every_path_are_warm_before_the_first_example(watch, point, examples) -> None:
    watched, one = watch(warmup=2, library=1), point(BILD)
    iterator = watched.measurement.measure(asked(watched.measurement, examples[:4]), [one], 1)
    next(iterator)
    warm, timed = watched.ran[:-3], watched.ran[-3:]
    assert warm == ["vanilla", "small", "bild", "bild", "bild", "library"] * 2
    assert sorted(timed) == ["bild", "library", "vanilla"]
    iterator.close()
    assert len(one.folder.samples()) == 1


def test_sources_are_cut_and_prompted(embedded_pair: Pair, point, examples) -> None:
    measure = MeasureConfig(warmup=0, library=0)
    lengths, cut = {}, {}
    for prompt, limit in (("", 1024), ("Hallo: ", 1024), ("", 4)):
        one = point(SMALL)
        task = TaskConfig(prompt=prompt, source_limit=limit, target_limit=LIMIT)
        measurement = Measurement(embedded_pair, "fused", task, measure)
        list(measurement.measure(asked(measurement, examples[:2]), [one], 1))
        lengths[prompt, limit] = [s.source_tokens for s in one.folder.samples()]
        cut[prompt, limit] = [s.truncated for s in one.folder.samples()]
    assert lengths["", 4] == [4, 4]
    assert all(a < b for a, b in zip(lengths["", 1024], lengths["Hallo: ", 1024], strict=True))
    assert (cut["", 4], cut["", 1024]) == ([True, True], [False, False])


def test_the_library_gets_a_random_part_that_lies_in_that_of_more_examples(examples) -> None:
    def ids(count: int, library: int, seed: int = 0) -> list[str]:
        found = placed(examples[:count], MeasureConfig(library=library), seed)
        assert [(each.index, each.example) for each in found] == list(enumerate(examples[:count]))
        return [each.example.id for each in found if each.library]

    assert len(ids(8, 3)) == 3
    assert set(ids(8, 2)) < set(ids(8, 3)) < set(ids(8, 5))
    assert len({tuple(ids(8, 3, seed)) for seed in range(5)}) > 1  # not the first ones in the data's order
    assert (ids(8, 0), len(ids(8, -1)), len(ids(4, 32))) == ([], 8, 4)


# --- the garbage collector


def test_where_vanilla_fails_so_does_all_that_stands_beside_it(watch, point, examples, monkeypatch) -> None:
    """With `keep_going` an example that overflows ends its points, in words, but no other measurement."""
    watched, one, two = watch(library=0), point(BILD), point(SMALL)
    real = watched.measurement.decode

    def failing(policy: Any, name: str, source: list[int]) -> Any:
        if name == "vanilla" and watched.ran.count("vanilla") == 2:
            raise BildError("it overflowed")
        return real(policy, name, source)

    monkeypatch.setattr(watched.measurement, "decode", failing)
    list(watched.measurement.measure(asked(watched.measurement, examples[:4]), [one, two], 1, keep_going=True))
    for each in (one, two):
        assert each.failed == f"{examples[2].id}: vanilla: it overflowed"
        assert len(each.folder.samples()) == 2


def test_what_an_engine_runs_is_counted_beside_what_was_needed(embedded_pair: Pair, point, examples) -> None:
    one = point(BILD)
    config = MeasureConfig(warmup=0, library=0)
    measurement = Measurement(embedded_pair, "graph", TaskConfig(prompt="", target_limit=LIMIT), config)
    small = embedded_pair.engine("small", "graph")
    assert isinstance(small, GraphEngine)
    assert small.pool is embedded_pair.engine("large", "graph").pool  # type: ignore[attr-defined]
    for ahead, some in ((False, examples[:3]), (True, examples[3:6])):
        small.ahead = ahead
        list(measurement.measure(asked(measurement, some), [one], 1))
    small.ahead = False
    for n, sample in enumerate(one.folder.samples()):
        assert sample.large_passes_run == sample.large_passes
        assert sample.small_passes_run is not None
        assert 0 <= sample.small_passes_run - sample.small_passes <= sample.rounds * (n > 2)
        assert sample.baseline.passes_run == sample.baseline.written
        assert sample.captures == sample.baseline.captures == 0
    counts = counts_of(one.folder.samples())
    assert overrun(counts) is None
    assert counts.small_passes_run is not None
    assert counts.small_passes_run > counts.small_passes
    more = replace(counts, large_passes_run=counts.large_passes + 1, captures=2)
    assert overrun(more) == (
        f"The times hold more than the method: the engine ran {counts.large_passes + 1:,} passes of large where "
        f"{counts.large_passes:,} were needed; 2 programs were captured while the clock ran."
    )


def test_no_collection_falls_into_the_timed_loop_and_it_is_on_again_after(watch, point, examples) -> None:
    watched = watch(warmup=1)
    run(watched, examples[:2], point(BILD))
    assert watched.collecting == [True] * 5 + [False] * 4
    assert gc.isenabled()


def test_the_collector_is_on_again_after_an_exception(watch, point, examples, monkeypatch) -> None:
    watched, one = watch(library=0), point(BILD)
    real = watched.measurement.decode

    def failing(policy: Any, name: str, source: list[int]) -> Any:
        if len(watched.ran) == 3:
            raise KeyboardInterrupt
        return real(policy, name, source)

    monkeypatch.setattr(watched.measurement, "decode", failing)
    with pytest.raises(KeyboardInterrupt):
        run(watched, examples, one)
    assert gc.isenabled()
    assert len(one.folder.samples()) == 1  # the half-done second example left nothing


def test_the_collector_is_on_again_where_the_loop_is_left(watch, point, examples) -> None:
    measurement = watch().measurement
    iterator = measurement.measure(asked(measurement, examples), [point(BILD)], 1)
    next(iterator)
    assert not gc.isenabled()
    iterator.close()
    assert gc.isenabled()
