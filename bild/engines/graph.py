"""Engine `graph`: fixed shapes, and tokens and positions on the device, so that a pass is one CUDA graph.

A launch-bound GPU pays per kernel, not per byte: a captured pass costs one launch. So every buffer is allocated once,
the position is a tensor, tokens are padded to a few widths (`WIDTHS`) and sources to a few lengths (`SOURCES`), with
one program for each combination, captured before the clock (`prepare`). A program leaves its last choice in the text on
the device and moves the position on, so the next step needs nothing from the host, and a draft is verified where it was
written (`bild.engines.graph_pool`). The thresholds stay on the host, in no capture, so a sweep needs no new one. The
start of a text, encoder and cross attention's keys and values, is a program too, one for each length of a short source.

The large model runs what is asked of it. The small one may run one step beyond the stop of a draft: where that pays, by
a measurement in `prepare`, a step is launched before the host has read the one before it.

On a CPU the same functions run uncaptured, and the tests hold them to `hf` there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from bild.config import DecodeConfig
from bild.engines import t5
from bild.engines.base import Engine, PassPlan, Summary, check_finite, stop_of
from bild.engines.graph_pool import GraphPool, Landing, Program
from bild.engines.graph_programs import ENCODED, WIDTHS, GraphPrograms, Operations, SourceBuffers
from bild.engines.kernels import UNMEASURED, Kernels
from bild.engines.sampling import Sampler
from bild.errors import BildError

_USUAL_DRAFT = 4
"""A usual draft, in tokens: so many waits are saved by one step beyond its stop."""
_STEPS, _REPEATS = 16, 5


class GraphEngine(GraphPrograms, Engine):
    """The host's side: it sends tokens, launches programs and reads what they put out."""

    name = "graph"
    source: SourceBuffers

    def __init__(
        self,
        module: Any,
        *,
        dtype: torch.dtype,
        eos: int,
        vocabulary: int,
        capacity: int = 128,
        kernels: Kernels = UNMEASURED,
        pool: GraphPool | None = None,
        small: bool = False,
        operations: Operations | None = None,
    ) -> None:
        """`pool`: that of the other model of the pair. `small`: drafts may run a step ahead of the host."""
        self.operations = operations or Operations()
        self.weights = t5.weights_of(module, dtype, vocabulary, kernels)
        self.dtype = dtype
        self.eos = eos
        self.device = self.weights.device
        self.pool = pool or GraphPool(self.device)
        self.small = small
        self.ahead = False
        self.length = 0
        self._programs = self.pool.join(self)
        self._sound = True
        """Whether what was computed on this source was finite, as far as it was read."""
        self.key = torch.zeros(1, dtype=torch.long, device=self.device)
        self._allocate(capacity)

    @property
    def captured(self) -> int:  # type: ignore[override]
        """See `Engine`."""
        return self.pool.captured

    def _allocate(self, capacity: int) -> None:
        super()._allocate(capacity)
        self._staging = [torch.zeros(2, dtype=torch.long, pin_memory=self.pool.active) for _ in range(2)]
        self._landing = Landing(self.pool, self.outputs)
        self._placed: tuple[int, int] | None = None
        """What `place` holds."""

    def prepare(self, plan: PassPlan) -> None:
        """See `Engine.prepare`."""
        self.prepare_kinds(plan, ("step", "step with ranks") if plan.ranks else ("step",), "step")

    @torch.inference_mode()
    def prepare_kinds(self, plan: PassPlan, kinds: Sequence[str], drafts: str | None) -> None:
        """Make the programs of these kinds for every source and width of a plan, and see whether drafts run ahead."""
        self.pool.resize(plan.positions)
        self.sampler = Sampler.of(plan.decode, ())
        lengths = plan.sources()
        for length in lengths:
            self.source = self._source(length)
            for kind in kinds:
                for width in WIDTHS[: WIDTHS.index(self._width(min(plan.widest, WIDTHS[-1]))) + 1]:
                    if width == 1 and kind.endswith(" with ranks"):
                        continue  # there is nothing to rank
                    self._move(0, 1)
                    self._program(kind, width)
                    self._placed = None
            if length <= ENCODED:
                for key, plain in self._starting(length).items():
                    self.pool.program(self._programs, key, plain, self.place)
        if self.pool.active and self.small and drafts and lengths:
            self.ahead = self._ahead_pays(drafts)
        self.pool.text.forget()
        self._clean()  # of what the captures made of no text
        self._left = None

    def _starting(self, length: int) -> dict[Hashable, Program]:
        """Return the programs that start a text behind a source of this length."""
        held = self._source(length)
        return {
            ("encode", length): partial(self._encode, length),
            ("cross", length): partial(self._cross, held, self.states[:length]),
        }

    @torch.inference_mode()
    def encode(self, source: Sequence[int]) -> Tensor:
        """See `Engine.encode`: [S, D]. By a program where the length was foreseen, else a kernel at a time."""
        program = self._programs.get(("encode", len(source)))
        if program is None:
            return self.weights.encoder.states(source, self.dtype)
        self.ids[: len(source)].copy_(torch.tensor(source))
        program()
        self._placed = None
        return self.states[: len(source)]

    @torch.inference_mode()
    def start(self, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        """See `Engine.start`."""
        self.sampler = Sampler.of(decode, source)
        if self.sampler is not None:
            self.key.fill_(self.sampler.key)
        if not self._sound:
            self._clean()
        self.source = self._source(len(source))
        states = self.source_states(source)
        program = self._programs.get(("cross", len(source)))
        if program is None:
            self._cross(self.source, states)
        else:
            if states.data_ptr() != self.states.data_ptr():  # another model's, or encoded without a program
                self.states[: len(source)].copy_(states)
            program()
        self._placed = None
        self.length = 0
        self._sound = False

    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`."""
        summary = self._summary("step", self.length, tokens, want, ranks)
        self.length += len(tokens)
        return summary

    @torch.inference_mode()
    def _summary(self, kind: str, at: int, tokens: Sequence[int], want: int, ranks: bool) -> Summary:
        """Run a program over tokens at position `at`.., and report on the last `want` of them."""
        k = len(tokens)
        ranks = ranks and want > 1
        self._launch(f"{kind} with ranks" if ranks else kind, at, tokens)
        choice, nll, given, rank = self._landing.wait(self._landing.send(self.outputs))[:, :k].tolist()
        self._check(nll)
        self.pool.text.known[at + k] = int(choice[-1])
        placed = [int(r) for r in rank[k - want : k - 1]] if ranks else ()
        return Summary([int(c) for c in choice[k - want :]], nll[k - want :], given[k - want : k - 1], placed)

    def draft(self, tokens: Sequence[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """See `Engine.draft`."""
        out, probs, stop = self._draft("step", self.length, tokens, limit, stop_below, self.ahead)
        self.length += len(tokens) + len(out) - 1
        return out, probs, stop

    @torch.inference_mode()
    def _draft(
        self, kind: str, at: int, feed: Sequence[int], limit: int, stop_below: float, ahead: bool
    ) -> tuple[list[int], list[float], str]:
        """Draft behind position `at`, `ahead` by one step of what the host has read."""
        out: list[int] = []
        probs: list[float] = []
        self._reserve(at + len(feed) + limit - 1)
        self._launch(kind, at, feed)
        end, last, slot = at + len(feed), len(feed) - 1, self._landing.send(self.outputs)
        while True:
            early = self._next(kind) if ahead and len(out) + 1 < limit else None
            choice, nll = self._landing.wait(slot)[:2, last].tolist()
            self._check([nll])
            out.append(int(choice))
            probs.append(math.exp(-nll))
            self.pool.text.known[end] = out[-1]
            stop = stop_of(out[-1], probs[-1], len(out), limit, stop_below, self.eos)
            if stop is not None:
                if early is not None:
                    self.cache[:, :, :, end].zero_()  # nobody reads that step, which may have overflowed
                return out, probs, stop
            slot = self._next(kind) if early is None else early
            last, end = 0, end + 1

    def _next(self, kind: str) -> int:
        """Launch the step that follows the last one, whose choice is on the device; return where it will land."""
        self._run(kind, 1)
        return self._landing.send(self.outputs)

    def _width(self, k: int) -> int:
        width = next((w for w in WIDTHS if w >= k), None)
        if width is None:
            raise BildError(f"engine=graph takes at most {WIDTHS[-1]} new tokens at once, but {k} were fed.")
        return width

    def _launch(self, kind: str, at: int, tokens: Sequence[int]) -> None:
        """Put tokens at position `at`.. of the text, and run a program on them. Nothing is waited for.

        At most two launches before the next `Landing.wait`: see `DeviceText.send`, which `_move` is like.
        """
        k = len(tokens)
        width = self._width(k)
        self._reserve(at + k)
        self.pool.text.send(at, tokens)
        self._move(at, k)
        self._run(kind, width)

    def _move(self, at: int, count: int) -> None:
        """Make `place` say so, if it does not yet."""
        if self._placed != (at, count):
            self._staging.reverse()
            self._staging[0].copy_(torch.tensor((at, count)))
            self.place.copy_(self._staging[0], non_blocking=True)
            self._placed = at, count

    def _run(self, kind: str, width: int) -> None:
        """Run a program on what is in place. All of them but "lower" end a forward pass, with a choice in the text."""
        self._program(kind, width)()
        assert self._placed is not None
        end = sum(self._placed)
        self._placed = end, 1
        if kind != "lower":
            self.passes += 1
            self.pool.text.known[end] = -1

    def _check(self, nlls: Sequence[float]) -> None:
        """Raise BildError where nlls are not finite, and take what overflowed out of the buffers."""
        try:
            check_finite(nlls)
        except BildError:
            self._clean()
            raise
        self._sound = True

    def _reserve(self, positions: int) -> None:
        """Make room for so many positions, and for some more where there is too little."""
        if positions > self.capacity:
            self.pool.resize(max(positions, 2 * self.capacity))

    def resize(self, positions: int) -> None:
        """Make room for so many positions, and keep what is cached. No graph may be left."""
        cache, rows, sources = self.cache, self.capacity, self.sources
        self._allocate(positions)
        self.cache[:, :, :, :rows] = cache[:, :, :, :rows]
        self.sources = sources

    def _program(self, kind: str, width: int) -> Program:
        """Return the program of this kind and width on the current source: a graph's replay, or the plain function."""
        key: Hashable = (kind, width, self.source.bucket, self.sampler and self.sampler[:2])
        return self.pool.program(self._programs, key, partial(self._plain, kind, self.source, width), self.place)

    def _ahead_pays(self, kind: str) -> bool:
        """Return whether a usual draft gains more by the waits that it saves than a step beyond its stop takes."""
        queued, waited = list[float](), list[float]()
        for each in (queued, waited) * _REPEATS:
            self._move(0, 1)
            self.synchronize()
            began = perf_counter()
            for _ in range(min(_STEPS, self.capacity)):
                slot = self._next(kind)
                if each is waited:
                    self._landing.wait(slot)
            self.synchronize()
            each.append((perf_counter() - began) / _STEPS)
        step, turn = statistics.median(queued), statistics.median(waited)
        return _USUAL_DRAFT * (turn - step) > step
