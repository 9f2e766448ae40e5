"""Fixtures that several rooms share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests import hubcache, lanes
from tests.zygote import Zygote, zygote

if TYPE_CHECKING:
    from bild.models import Pair

# One thread in a process, as the product measures, and so that tests side by side do not wait for each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# A shell's background process ignores Ctrl-C, nohup's a hang-up, and both hand that on: the tests want to be told.
for _name, _usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, _name) and signal.getsignal(getattr(signal, _name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, _name), _usual)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the lane before any test is imported."""
    lanes.choose_lane(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Divide the cases among the lanes before `-m` picks one, and begin with what takes long."""
    lanes.spread(items)
    lanes.long_first(items)


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """Keep what is loaded out of the collector's sight: every measurement collects, and would look at all of torch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for HF_HOME with all checkpoints and data sets. Shared: tests must not change it."""
    root = tmp_path_factory.mktemp("hf-home")
    hubcache.build_hub(root)
    return root


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Locks of devices of their own, so that the tests wait for no measurement and keep none waiting."""
    os.environ["BILD_LOCKS"] = str(tmp_path_factory.mktemp("locks"))


@pytest.fixture(scope="session", autouse=True)
def calm_machine() -> Iterator[None]:
    """A machine that nobody else uses: what a test measures is no claim, and it must not wait for other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil, "cpu_percent", lambda interval: 0.0)
        yield


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared cache, offline, as this process sees it until the test ends."""
    hubcache.use_hub(monkeypatch, hub_cache)
    return hub_cache


@pytest.fixture(scope="session")
def mother(own_locks: None) -> Iterator[Zygote]:
    """A process that has imported torch, and forks those that are to be killed."""
    with zygote() as found:
        yield found


@pytest.fixture(scope="session")
def embedded_pair() -> Pair:
    """The pair that comes with the package, on the CPU. Shared: tests must not change it."""
    import torch

    from bild.models import load_pair

    torch.set_num_threads(1)
    return load_pair("embedded", device="cpu")
