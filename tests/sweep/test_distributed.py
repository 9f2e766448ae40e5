"""Trees grown by workers: who is asked for, lost shards, refusals, and a real local cluster that loses a worker."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bild.config import EngineConfig, MethodConfig, ModelConfig, TaskConfig, ThresholdConfig
from bild.errors import BildError
from bild.sweep.config import GridConfig, SweepConfig
from bild.sweep.ray_cluster import Resources, Workers, connected, patience
from bild.tree import Tree
from tests.zygote import Zygote, words_of

POINTS = [
    (MethodConfig(rules=rules), ThresholdConfig(fb, rb))
    for rules in ("paper", "authors")
    for fb in (0.3, 0.6, 0.9)
    for rb in (1.0, 3.0)
]
HERE: dict[str, Any] = {"device": "cpu", "packages": {"torch": "2.0"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ray", Workers()),
        ("2", Workers(count=2)),
        ("ray://node7.lan:10001", Workers(address="ray://node7.lan:10001")),
    ],
)
def test_who_is_asked_for(text: str, expected: Workers) -> None:
    assert Workers.parse(text) == expected
    assert GridConfig(workers=text).workers == text


@pytest.mark.parametrize("text", ["0", "-1", "two", "ray://", "ray://node7", "http://node7:10001", ""])
def test_nobody_else(text: str) -> None:
    with pytest.raises(BildError, match="is not known: give a number of processes"):
        GridConfig(workers=text)


def test_as_many_as_fit() -> None:
    resources = Resources(processors=2, bytes=10, gpu=False)
    assert resources.fitting(processors=8, memory=1000, gpus=0) == 4
    assert resources.fitting(processors=8, memory=25, gpus=0) == 2
    assert resources.fitting(processors=1, memory=5, gpus=0) == 1
    assert Resources(1, 10, gpu=True).fitting(processors=8, memory=1000, gpus=3) == 3


@pytest.mark.slow
def test_ray_is_imported_for_workers_only(mother: Zygote, tmp_path: Path) -> None:
    child = mother.start("tests.sweep.test_distributed:never_ray", cwd=tmp_path)
    assert child.wait() == 0, child.log.read_text()


def never_ray() -> None:
    """In a process that has imported all that a sweep is made of."""
    importlib.import_module("bild.sweep.distributed")
    assert {"ray", "bild.sweep.drive"} & set(sys.modules) == {"bild.sweep.drive"}


def test_absent_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(BildError, match=r"not installed: pip install 'bild-bench\[ray\]'\.$"),
        connected(Workers(count=2), Resources(1, 1, gpu=False)),
    ):
        pass


def test_ray_is_given_more_time_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    tries = iter([RuntimeError("not there yet"), RuntimeError("not there yet"), None])

    def get_node(address: str) -> str:
        if (error := next(tries)) is not None:
            raise error
        return address

    services = SimpleNamespace(get_node=get_node)
    with patience(SimpleNamespace(_private=SimpleNamespace(services=services))):
        assert services.get_node("here") == "here"
    assert services.get_node is get_node
    assert capsys.readouterr().err == ""


def test_a_ray_that_cannot_be_given_more_time_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with patience(SimpleNamespace(__version__="9.9")):
        pass
    assert capsys.readouterr().err == "warning: Ray 9.9 cannot be given more than its own 30 seconds to start\n"


class Lost(Exception):
    """What Ray says of a worker that ended."""


class Told(Exception):
    """What Ray says of an exception in a worker."""

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause


class Remote:
    """A method of a worker that is called from afar; a future is a call that has not been made."""

    def __init__(self, method: Callable[[Any], Any]) -> None:
        self.method = method

    def remote(self, argument: Any) -> Callable[[], Any]:
        return lambda: self.method(argument)


class FakeCluster:
    """Ray and its cluster as the pool uses them, without processes: `open` and `grow` are what workers do."""

    where = "this machine"

    class exceptions:
        RayError, RayTaskError = Lost, Told

    def __init__(self, open_: Callable[[Any], Any], grow: Callable[[Any], Any], count: int = 2) -> None:
        self.open, self.grow, self.count = Remote(open_), Remote(grow), count
        self.ray = self
        self.started = 0

    def start(self, _: type) -> FakeCluster:
        self.started += 1
        return self

    def put(self, value: Any) -> Any:
        return value

    def wait(self, futures: Sequence[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return list(futures[:num_returns]), list(futures[num_returns:])

    def get(self, future: Callable[[], Any]) -> Any:
        return future()

    def kill(self, worker: FakeCluster) -> None:
        pass


def pool_of(cluster: FakeCluster, kept: list[Any]) -> Any:
    from bild.sweep.distributed import WorkerPool

    def send(shard: Any) -> list[Any]:
        return list(shard)

    def keep(shard: Any, grown: Any) -> None:
        kept.append((shard, grown))

    return WorkerPool(cluster, None, HERE, send, keep)  # type: ignore[arg-type]


def ready(_: Any, **different: Any) -> Any:
    from bild.sweep.distributed import Ready

    return Ready("node7", HERE | different)


def test_a_lost_shard_goes_to_another_worker_and_all_are_kept_once(capsys: pytest.CaptureFixture[str]) -> None:
    fails = [True, False, True]

    def grow(sent: list[int]) -> list[int]:
        if fails and fails.pop():
            raise Lost
        return [10 * i for i in sent]

    kept: list[Any] = []
    cluster = FakeCluster(ready, grow)
    pool_of(cluster, kept).run([(1, 2), (3,), (4, 5)])
    assert sorted(kept) == [((1, 2), [10, 20]), ((3,), [30]), ((4, 5), [40, 50])]
    assert cluster.started == 4
    assert capsys.readouterr().err.count("go to another") == 2


def test_a_shard_that_ends_every_worker_ends_the_growth() -> None:
    def grow(sent: list[int]) -> list[int]:
        if 3 in sent:
            raise Lost
        return sent

    kept: list[Any] = []
    with pytest.raises(BildError, match=r"^3 workers on this machine ended while growing one shard .*kept\.$"):
        pool_of(FakeCluster(ready, grow), kept).run([(1, 2), (3,), (4, 5)])
    assert ((1, 2), [1, 2]) in kept


def test_workers_that_never_begin_end_the_growth() -> None:
    def dies(_: Any) -> Any:
        raise Lost

    with pytest.raises(BildError, match=r"^3 workers on this machine ended while loading the pair"):
        pool_of(FakeCluster(dies, dies), []).run([(1,), (2,)])


def test_a_worker_of_another_kind_is_refused() -> None:
    cluster = FakeCluster(lambda job: ready(job, packages={"torch": "2.1"}), lambda sent: sent)
    with pytest.raises(BildError, match=r"on node7 cannot grow this tree: its packages.torch is 2.1, and this machi"):
        pool_of(cluster, []).run([(1,), (2,)])


@pytest.mark.parametrize(
    ("cause", "told"),
    [(BildError("On node7: too large."), "^On node7: too large.$"), (OSError("no\nspace"), r"A worker .*no space\)")],
)
def test_an_error_in_a_worker_is_one_sentence(cause: Exception, told: str) -> None:
    def fails(_: Any) -> Any:
        raise Told(cause)

    with pytest.raises(BildError, match=told):
        pool_of(FakeCluster(ready, fails), []).run([(1,)])


def test_a_missing_checkpoint_names_the_worker(tmp_path: Path) -> None:
    import socket

    from bild.config import Checkpoints
    from bild.sweep.distributed import Worker, WorkerJob
    from bild.tree.store import Head

    config = SweepConfig(engine=EngineConfig(device="cpu"))
    absent = Checkpoints(str(tmp_path / "no-large"), str(tmp_path / "no-small"))
    job = WorkerJob(config, absent, "", Head(2, "", {"device": "cpu"}, {}, {}), POINTS)
    with pytest.raises(BildError, match=f"^The worker on {socket.gethostname()} cannot grow trees: .*no-large"):
        Worker().open(job)


def test_shards_are_small_and_whole() -> None:
    from bild.sweep.distributed import SHARD, shards_of

    shards = shards_of(range(1000), [i % 90 for i in range(1000)], 2)
    assert sorted(i for shard in shards for i in shard) == list(range(1000))
    assert max(map(len, shards)) == SHARD
    assert len(shards_of([3, 5], [1] * 6, 2)) == 2


def as_trees(tree: Tree) -> dict[str, dict[tuple[int, ...], tuple[int, int, list[float]]]]:
    """By example and prefix, both choices and the nlls; the order within tables left out."""
    found = {}
    for example in tree.examples:
        table = example.table
        found[example.id] = {
            tuple(table.path(node)): (
                table.small_choice[node],
                table.large_choice[node],
                [table.small_nll[node], table.large_choice_nll[node], table.large_nll[node]],
            )
            for node in range(len(table))
        }
    return found


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_of_which_one_is_killed_grow_the_tree_of_one_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if find_spec("ray") is None:  # not imported here: Ray reads its settings when it is, which `connected` sees to
        pytest.skip("needs Ray: pip install 'bild-bench[ray]'")
    import psutil

    from bild.sweep.context import GrownTree, SweepWork
    from bild.sweep.distributed import grow_with_workers
    from bild.sweep.grid import GRID, SweptPoint
    from bild.tree import open_tree
    from bild.tree.blocks import NODES, BlockFile
    from bild.tree.grow import grow

    config = SweepConfig(
        model=ModelConfig(fits=["any"], large="embedded", small="embedded"),
        task=TaskConfig(samples=16, target_limit=16),
        engine=EngineConfig(device="cpu"),
        sweep=GridConfig(workers="2"),
        results=str(tmp_path / "shared"),
    )
    work = SweepWork(config)
    killed: list[int] = []
    seen: list[tuple[int, int]] = []
    heard: set[str] = set()

    def kill_one(done: int, total: int) -> None:
        """A worker that has a shard in hand; it is stopped first, so that it cannot finish in between."""
        seen.append((done, total))
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                heard.update(each.laddr.ip for each in child.net_connections() if each.status == psutil.CONN_LISTEN)
        for worker in [] if killed else psutil.Process().children(recursive=True):
            if growing(worker):
                worker.suspend()
                if growing(worker):
                    worker.kill()
                    killed.append(worker.pid)
                    return
                worker.resume()

    def growing(process: psutil.Process) -> bool:
        return "ray::Worker.grow" in " ".join(words_of(process))

    grown = GrownTree(work)
    shared = grown.tree
    with BlockFile(shared.path / NODES) as block:
        grow_with_workers(work, shared, POINTS, shared.missing(POINTS), block, kill_one)
    alone = grow(tmp_path / "alone", work.pair, config.task, work.data, POINTS)
    assert killed
    assert seen[-1] == (16, 16)
    assert heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert heard
    told = capfd.readouterr()
    assert "warning: a worker ended" in told.err
    assert "its 2 examples go to another" in told.err
    assert "raylet" not in told.out + told.err

    one, other = as_trees(shared), as_trees(alone)
    assert one.keys() == other.keys()
    for name, nodes in one.items():
        assert {prefix: told[:2] for prefix, told in nodes.items()} == {
            prefix: told[:2] for prefix, told in other[name].items()
        }
        for prefix, (_, _, nlls) in nodes.items():
            assert nlls == pytest.approx(other[name][prefix][2], abs=alone.rounding.nll, nan_ok=True)
    for a, b in zip(shared.replay_grid(POINTS), alone.replay_grid(POINTS), strict=True):
        assert a.tokens == b.tokens
        assert a.counts == b.counts
        assert a.large_passes == b.large_passes
    left = [p.name() for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    assert not [name for name in left if "ray" in name]

    grown.replays([SweptPoint(*point, GRID) for point in POINTS])  # nothing is missing, so no worker is started
    assert repr(as_trees(open_tree(shared.path))) == repr(one)
