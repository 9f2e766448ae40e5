"""A model of torch's CUDA graphs on a CPU: streams, captures, replays, pools of memory and cuBLAS's workspaces.

It takes the place of `torch.cuda` under `bild.engines.graph_pool`, whose own code then runs. A capture records the
operations of a program with their tensors, and undoes them, since a capture executes nothing; a replay runs them again
over the same memory. A replay fails where a buffer has moved since, where its graph was dropped, and where the
workspace that it was captured with has been given back.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bild.engines import Engine
from bild.engines.early_exit import GraphExitEngine
from bild.engines.graph import GraphEngine
from bild.engines.graph_pool import GraphPool


class Tape(TorchDispatchMode):
    """The operations of a program and their tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {_memory(t) for t in _tensors((args, kwargs))}
        if func._schema.is_mutable:
            self.taken.append((func, args, kwargs or {}, []))
        elif made := [t for t in _tensors(out) if _memory(t) not in given]:  # all else looks at what is there
            self.taken.append((func, args, kwargs or {}, made))
        return out

    def play(self) -> None:
        """Run them again, over the same memory."""
        for func, args, kwargs, made in self.taken:
            out = func(*args, **kwargs)
            for old, new in zip(made, _tensors(out) if made else [], strict=True):
                old.copy_(new)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Stream:
    def __init__(self, cuda: Cuda, device: torch.device) -> None:
        self.cuda, self.device = cuda, device

    def wait_stream(self, other: Stream) -> None:
        assert other.device == self.device


class Event:
    def __init__(self) -> None:
        self.recorded = False

    def record(self, stream: Stream) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded


class Workspace:
    """What cuBLAS keeps for a stream; `given_back` when torch has.

    What was made in a capture is in the capture's pool, which stays as long as a graph of it.
    """

    def __init__(self, pool: object | None) -> None:
        self.pool = pool
        self.given_back = False

    def clear(self) -> None:
        self.given_back = self.pool is None


class Graph:
    """A `torch.cuda.CUDAGraph`."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.tape: Tape | None = None

    def replay(self) -> None:
        cuda = self.cuda
        cuda.replays += 1
        assert self.handle in cuda.pools, "a graph of a generation that was dropped is replayed"
        assert not self.workspace.given_back, "a replay uses a workspace that was given back"
        there = {id(engine) for engine in cuda.engines}
        captured = {(owner, name) for owner, name in self.addresses.items() if owner[0] in there}
        assert captured <= set(cuda.addresses(self.handle).items()), "a buffer has moved since the capture"
        if self.tape is not None:
            self.tape.play()

    def __del__(self) -> None:
        if self.tape is not None:
            self.cuda.drop(self)


class Cuda:
    """`torch.cuda` for engines whose work goes to `device`. `clears`: as torch 2.13 does when a graph is dropped."""

    def __init__(self, device: str, clears: bool = True) -> None:
        self.device, self.clears = torch.device(device), clears
        self.current = torch.device("cuda:0")
        self.streams: dict[torch.device, Stream] = {}
        self.workspaces: dict[Stream, Workspace] = {}
        self.pools: dict[object, int] = {}
        """The number of graphs by pool, as long as there is one."""
        self.engines: list[GraphEngine] = []
        self.captures = self.replays = 0
        self.sealed = False
        """Whether a capture is an error."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Cuda:
        zeros = torch.zeros  # what is pinned, or on the device, is on the CPU here
        fakes: dict[str, Any] = {
            "Stream": lambda device=None: Stream(self, self.current if device is None else device),
            "Event": Event,
            "CUDAGraph": lambda: Graph(self),
            "current_stream": self.stream_of,
            "stream": self.on_stream,
            "device": self.on_device,
            "graph": self.graph,
            "graph_pool_handle": object,
            "synchronize": lambda device=None: None,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", self.clear_workspaces, raising=False)
        monkeypatch.setattr(torch, "zeros", lambda *size, dtype=None, **where: zeros(*size, dtype=dtype))
        return self

    def engine(self, make: Callable[[GraphPool], Engine], pool: GraphPool | None = None) -> Engine:
        """Build an engine whose graphs are captured here, though its tensors are on the CPU."""
        pool = pool or GraphPool(self.device)
        made = make(pool)
        inner = made.shared.engine if hasattr(made, "shared") else made
        assert isinstance(inner, GraphEngine)
        inner.synchronize = lambda: None  # type: ignore[method-assign]
        self.engines.append(inner)
        return made

    def addresses(self, pool: object) -> dict[tuple[int, str], int]:
        """Return where the buffers of the engines of a pool are."""
        pair = [engine for engine in self.engines if engine.pool._handle is pool]
        return {(id(engine), name): buffer.data_ptr() for engine in pair for name, buffer in buffers(engine)}

    def stream_of(self, device: torch.device | None = None) -> Stream:
        return self.streams.setdefault(device or self.current, Stream(self, device or self.current))

    @contextmanager
    def on_device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device
        yield
        self.current = before

    @contextmanager
    def on_stream(self, stream: Stream, pool: object | None = None) -> Iterator[None]:
        with self.on_device(stream.device):
            before, self.streams[stream.device] = self.stream_of(stream.device), stream
            self._work(pool)
            yield
            self.streams[stream.device] = before

    def _work(self, pool: object | None = None) -> Workspace:
        """Return the workspace of the stream that the engines' products run on now; a new one is in that pool."""
        return self.workspaces.setdefault(self.stream_of(self.device), Workspace(pool))

    def clear_workspaces(self) -> None:
        """As torch does when it is asked to, and its allocator some time later."""
        for workspace in self.workspaces.values():
            workspace.clear()
        self.workspaces.clear()

    @contextmanager
    def graph(self, graph: Graph, pool: object, stream: Stream) -> Iterator[None]:
        assert not self.sealed, "a program was captured after all were prepared"
        assert self.current == self.device or stream.device != self.device
        self.captures += 1
        graph.handle, graph.stream, graph.addresses = pool, stream, self.addresses(pool)
        kept = [(buffer, buffer.clone()) for engine in self.engines for _, buffer in buffers(engine)]
        with self.on_stream(stream, pool):
            graph.workspace = self._work()
            with Tape() as tape:
                yield
        for buffer, before in kept:
            buffer.copy_(before)
        # What ran on another device than the capture's is in no graph.
        graph.tape = tape if stream.device == self.device else Tape()
        self.pools[pool] = self.pools.get(pool, 0) + 1

    def drop(self, graph: Graph) -> None:
        """`CUDAGraph::reset`. A pool whose graphs are all gone is not opened again: before 2.13 that is an error."""
        self.pools[graph.handle] -= 1
        if not self.pools[graph.handle]:
            del self.pools[graph.handle]
        if self.clears and graph.stream in self.workspaces:
            self.workspaces.pop(graph.stream).clear()


def buffers(engine: GraphEngine) -> Iterator[tuple[str, Tensor]]:
    """All memory that programs read and write."""
    yield from (
        (name, getattr(engine, name)) for name in ("cache", "bias", "place", "outputs", "offsets", "ids", "states")
    )
    yield "text", engine.pool.text.tokens
    if isinstance(engine, GraphExitEngine):
        yield "residuals", engine.residuals
    for bucket, source in engine.sources.items():
        yield from ((f"{name} {bucket}", getattr(source, name)) for name in ("cross_keys", "cross_values", "mask"))


def collected(action: Callable[[], None]) -> None:
    """Drop what nobody holds any more."""
    action()
    gc.collect()
