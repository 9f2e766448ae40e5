"""The CUDA graphs of a pair: one stream, one pool of memory, and one generation, which is dropped as a whole.

A graph keeps the addresses of its capture: those of its buffers, and of the workspace that cuBLAS has for a stream.
torch gives that workspace back when any graph of the stream is dropped (2.13), or refuses to open a pool again whose
graphs are all gone (before). So no graph is dropped alone, and no two pairs share a stream: `retire` waits for the
device, drops all graphs of both models, and begins anew with another stream and another pool.

Others in the process clear all workspaces: `torch.compile` does, around every recording of its own. So each capture
makes its workspace anew, in the pool, which keeps the memory as long as there is a graph.

Both models read and write the tokens of one text on the device, so that a draft is verified where it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol
from weakref import WeakSet

import torch
from torch import Tensor

from bild.engines.base import common_prefix
from bild.errors import BildError

Program = Callable[[], None]
_UNKNOWN = -1


class Resizable(Protocol):
    """An engine as its pool sees it."""

    capacity: int

    def resize(self, positions: int) -> None:
        """Make room for so many positions."""


class GraphPool:
    """Captures programs on a CUDA device, and hands out their replays; on a CPU the programs themselves."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.active = device.type == "cuda"
        self.captured = 0
        """Programs that were captured, in all generations."""
        self.text = DeviceText(self.device, self.active)
        self._engines: WeakSet[Resizable] = WeakSet()
        self._tables: list[dict[Hashable, Program]] = []
        """The programs of each engine, those too whose engine is gone: no graph is dropped alone."""
        self._open()

    def _open(self) -> None:
        if self.active:
            self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self._handle = torch.cuda.graph_pool_handle()

    def join(self, engine: Resizable) -> dict[Hashable, Program]:
        """Return a table for the programs of an engine, which `retire` empties."""
        self._engines.add(engine)
        self._tables.append({})
        return self._tables[-1]

    def resize(self, positions: int) -> None:
        """Make room for texts of so many positions in all engines. Their buffers move, so all graphs are dropped."""
        short = [engine for engine in self._engines if engine.capacity < positions]
        if short:
            self.retire()
        for engine in short:
            engine.resize(positions)

    def retire(self) -> None:
        """Drop the graphs of both models at once, when the device has done with them."""
        if not any(self._tables):
            return
        if self.active:
            torch.cuda.synchronize(self.device)
        for table in self._tables:
            table.clear()
        self._open()

    def program(self, table: dict[Hashable, Program], key: Hashable, plain: Program, place: Tensor) -> Program:
        """Return the program `key` of a table, made at its first use: see `_capture`."""
        if key not in table:
            table[key] = self._capture(plain, place) if self.active else plain
        return table[key]

    def _capture(self, plain: Program, place: Tensor) -> Program:
        """Record a program as a CUDA graph, and return its replay. BildError for a graph that does nothing.

        The program runs once before, so that libraries allocate what they need outside of the capture, and the graph
        once after, as a check: both write what the first replay will write again. `place` is the tensor that every
        program advances; it is set back.
        """
        before = place.clone()
        try:
            with torch.cuda.device(self.device):
                usual = torch.cuda.current_stream(self.device)
                self._stream.wait_stream(usual)
                with torch.cuda.stream(self._stream):
                    plain()
                usual.wait_stream(self._stream)
                place.copy_(before)
                graph = torch.cuda.CUDAGraph()
                torch._C._cuda_clearCublasWorkspaces()
                with torch.cuda.graph(graph, pool=self._handle, stream=self._stream):
                    plain()
                torch._C._cuda_clearCublasWorkspaces()
            graph.replay()  # as all will be: whatever the current device is
            if torch.equal(place, before):
                raise BildError(
                    f"engine=graph captured an empty CUDA graph on {self.device}: its work went to another device or "
                    "stream. Use engine=fused, and please report this with the output of `bild doctor`."
                )
        except BaseException:
            self.retire()  # a graph that was dropped alone has taken the workspace of the others with it
            raise
        place.copy_(before)
        self.captured += 1
        return graph.replay


class Landing:
    """Two places on the host where what a device puts out arrives in turn."""

    def __init__(self, pool: GraphPool, outputs: Tensor) -> None:
        self._device, self._active = pool.device, pool.active
        self._places = [torch.zeros(outputs.shape, dtype=outputs.dtype, pin_memory=self._active) for _ in range(2)]
        self._events = [torch.cuda.Event() for _ in range(2)] if self._active else []  # type: ignore[no-untyped-call]
        self._last = 0

    def send(self, outputs: Tensor) -> int:
        """Send outputs on their way, behind all that the device was given; return their place for `wait`."""
        self._last ^= 1
        self._places[self._last].copy_(outputs, non_blocking=True)
        if self._active:
            self._events[self._last].record(torch.cuda.current_stream(self._device))
        return self._last

    def wait(self, place: int) -> Tensor:
        """Return what was sent there, once it has come."""
        if self._active:
            self._events[place].synchronize()
        return self._places[place]


class DeviceText:
    """The tokens of a text by position, on the device, and what the host knows of them."""

    def __init__(self, device: torch.device, pinned: bool) -> None:
        self.tokens = torch.zeros(0, dtype=torch.long, device=device)
        self.known: list[int] = []
        """The token of each position; -1 where a program has written what the host has not read."""
        self._pinned = pinned
        self._staging: list[Tensor] = []

    def reserve(self, positions: int) -> None:
        """Make room for so many positions; tokens are kept."""
        if positions > len(self.known):
            kept, self.tokens = self.tokens, self.tokens.new_zeros(positions)
            self.tokens[: len(kept)] = kept
            self.known += [_UNKNOWN] * (positions - len(kept))
            self._staging = [torch.zeros(positions, dtype=torch.long, pin_memory=self._pinned) for _ in range(2)]

    def forget(self, first: int = 0) -> None:
        """Forget what the host knows of the tokens from position `first` on."""
        self.known[first:] = [_UNKNOWN] * (len(self.known) - first)

    def send(self, at: int, tokens: Sequence[int]) -> None:
        """Make the text have `tokens` at positions at.., without waiting; those that are there are not sent.

        At most two that send before the next wait: each takes one of two places to send from, in turn.
        """
        end = at + len(tokens)
        same = common_prefix(self.known[at:end], list(tokens))
        if same == len(tokens):
            return
        first = at + same
        self._staging.reverse()
        staging = self._staging[0][first:end]
        staging.copy_(torch.tensor(tokens[same:]))
        self.tokens[first:end].copy_(staging, non_blocking=True)
        self.known[first:end] = tokens[same:]
