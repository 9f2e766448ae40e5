"""Ray, which runs workers on this machine or on others: how many are asked for, the start of a cluster, and its end.

Ray: Moritz et al., OSDI 2018. It is imported where workers are asked for, and nowhere else. This is the only file that
touches a private part of it (`patience`), as Ray 2.60 gives itself 30 seconds to start and has no option for more: too
few on a busy machine. Where a version of Ray has no such part, that is said and its own patience holds.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bild.errors import BildError
from bild.progress import say

ABSENT = "sweep.workers needs Ray, which is not installed: pip install 'bild-bench[ray]'"
_STORE_BYTES = 256 << 20
"""Ray's own room for what travels: a few examples at a time."""
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else `uv run` sends the working folder, results and all, to every worker
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).",  # what Ray prints to stdout by itself
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray takes a start that is slow for one that failed.
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "300000",
}
_START_SECONDS = 300.0


@dataclass(frozen=True)
class Workers:
    """The workers asked for: `count` workers of this machine (None: as many as fit), or all that fit into a cluster."""

    count: int | None = None
    address: str | None = None

    @staticmethod
    def parse(text: str) -> Workers:
        """Read `ray`, `2`, or `ray://host:10001`. BildError for anything else."""
        if text == "ray":
            return Workers()
        if re.fullmatch(r"[1-9]\d{0,2}", text):
            return Workers(count=int(text))
        if re.fullmatch(r"ray://[^\s/]+:\d+", text):
            return Workers(address=text)
        raise BildError(
            f"sweep.workers={text} is not known: give a number of processes on this machine, at most 999, ray for "
            "as many as fit on it, or ray://host:10001, the address of a Ray cluster."
        )


@dataclass(frozen=True)
class Resources:
    """The resources that one worker takes."""

    processors: int
    bytes: int
    gpu: bool

    def fitting(self, processors: float, memory: float, gpus: float) -> int:
        """Return how many workers find room, at least one."""
        room = min(processors // self.processors, memory // self.bytes, gpus if self.gpu else processors)
        return max(1, int(room))


class Cluster:
    """A cluster that this process is connected to, and how many workers may run there."""

    def __init__(self, ray: Any, resources: Resources, count: int, where: str) -> None:
        self.ray = ray
        self.resources = resources
        self.count = count
        self.where = where

    def start(self, kind: type) -> Any:
        """Start a process with an object of a class, and return the handle of that object."""
        options = {"num_cpus": self.resources.processors, "num_gpus": int(self.resources.gpu), "max_restarts": 0}
        return self.ray.remote(kind).options(**options).remote()


@contextmanager
def connected(workers: Workers, resources: Resources) -> Iterator[Cluster]:
    """Connect to a cluster for as long as it is used; one of this machine is started, and gone afterwards.

    BildError where Ray is not installed, cannot start, or does not answer at the address.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    try:
        import ray
    except ImportError:
        raise BildError(f"{ABSENT}.") from None
    if ray.is_initialized():
        raise BildError("This process is connected to a Ray cluster already: call ray.shutdown() first.")
    with tempfile.TemporaryDirectory(prefix="bild-ray-", dir=_short_folder(), ignore_cleanup_errors=True) as folder:
        try:
            cluster = _join(ray, workers, resources, folder)
            yield cluster
        except ConnectionError as error:
            raise BildError(
                f"The Ray cluster on {cluster.where} no longer answers ({_first_line(error)}): "
                "what was grown is kept; run again."
            ) from None
        finally:
            ray.shutdown()


def _join(ray: Any, workers: Workers, resources: Resources, folder: str) -> Cluster:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if workers.address is not None:
        try:
            ray.init(workers.address, **quiet)
            has = ray.cluster_resources()
        except Exception as error:  # Ray has no class of its own for any of this
            raise BildError(
                f"sweep.workers={workers.address} cannot be joined ({_first_line(error)}): "
                "start Ray there (ray start --head) with the same Ray, Python and RAY_AUTH_TOKEN as here."
            ) from error
        count = resources.fitting(has.get("CPU", 0), has.get("memory", 0), has.get("GPU", 0))
        return Cluster(ray, resources, count, workers.address)
    fits = resources.fitting(*_room())
    count = min(workers.count or fits, fits)
    if workers.count is not None and count < workers.count:
        say(f"warning: sweep.workers={workers.count} is more than fits: {count} on this machine")
    try:
        with patience(ray):
            ray.init(
                address="local",
                num_cpus=count * resources.processors,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                _temp_dir=folder,
                **quiet,
            )
    except Exception as error:
        raise BildError(
            f"Ray cannot start workers on this machine ({_first_line(error)}): "
            "run again when the machine is less busy, or without sweep.workers."
        ) from error
    return Cluster(ray, resources, count, "this machine")


@contextmanager
def patience(ray: Any) -> Iterator[None]:
    """Let Ray ask for its new node for more than the 30 seconds that its loop in `Node.__init__` has."""
    services: Any = getattr(getattr(ray, "_private", None), "services", None)
    look = getattr(services, "get_node", None)
    if look is None:
        version = getattr(ray, "__version__", "")
        say(f"warning: Ray {version} cannot be given more than its own 30 seconds to start")
        yield
        return

    def wait(*arguments: Any) -> Any:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                return look(*arguments)
            except RuntimeError:  # not there yet
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    services.get_node = wait
    try:
        yield
    finally:
        services.get_node = look


def _room() -> tuple[float, float, float]:
    """Return (processors, bytes of memory, GPUs) of this machine that are there for workers."""
    import psutil
    import torch

    return _processors(), psutil.virtual_memory().available, torch.cuda.device_count()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _short_folder() -> str | None:
    """Return a folder where the names of Ray's sockets stay within the 107 bytes that the system allows."""
    return None if len(tempfile.gettempdir()) <= 24 or not os.path.isdir("/tmp") else "/tmp"  # noqa: PTH112


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
