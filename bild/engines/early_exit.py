"""One model as a pair: its first n decoder layers, with the final norm and the head, are the small one (paper 4.4).

Both views share the encoder pass, the keys and values of the first n layers, and the residual behind layer n, which is
kept for every position. So the small model's step is n layers and the head, and the large model's pass over a draft
takes up where the small one left off: it runs the remaining layers only. `hf` engines over the whole module and over
one that is cut off (`truncated`) are the oracle: the same numbers without any sharing.

On engine `fused` a pass of either view is one call, compiled or plain, which is told what is at the exit already and
how many layers to run (`PartialPass`), and a draft by compiled code is one call.

On engine `graph` three programs of fixed shapes make a pass: "lower" takes tokens to the exit and leaves residuals
in a static buffer, "exit" is the head over these, "upper" is the remaining layers and the head. A draft's step is one
program, "draft". So a verification is at most two launches ("lower" for the tokens that the small model did not read)
and one copy back.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bild.config import DecodeConfig
from bild.engines import t5
from bild.engines.base import Engine, PartialPass, PassPlan, Summary, check_rewind, common_prefix
from bild.engines.fused import FusedEngine
from bild.engines.graph import GraphEngine
from bild.engines.graph_programs import WIDTHS, SourceBuffers

View = Literal["exit", "full"]


class SharedLayers(ABC):
    """The state that the two views share: one engine's, and the tokens that its first `exit` layers have seen.

    How a pass is divided at the exit is the engine's: `FusedSharedLayers`, or `GraphSharedLayers`.
    """

    engine: Engine

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.tokens: list[int] = []
        """Tokens whose rows in the first layers, and whose residuals behind them, are in place."""
        self._source: list[int] | None = None
        self._started: set[str] = set()
        self._whole = False
        """True where the engine was stepped as a whole since the source was encoded."""

    def prepare(self, view: View, plan: PassPlan) -> None:
        """See `Engine.prepare`."""
        self.engine.prepare(plan)

    def start(self, view: View, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        """Encode a source for the first view that starts on it; the other one joins before anything is fed."""
        if self._source == list(source) and view not in self._started and not (self.tokens or self._whole):
            self._started.add(view)
            return
        self.engine.start(source, decode)
        self._source, self._started, self.tokens, self._whole = list(source), {view}, [], False

    @property
    def unshared(self) -> bool:
        """Tell whether the large model works alone, as in vanilla decoding: nobody needs its first layers' states."""
        return self._started == {"full"}

    def whole(self, before: int) -> Engine:
        """Return the whole engine behind `before` positions, which keeps nothing for the small model."""
        self._whole = True
        self.engine.length = before
        return self.engine

    @abstractmethod
    def step(self, view: View, before: list[int], tokens: Sequence[int], want: int, ranks: bool) -> Summary:
        """See `Engine.step`, after the tokens `before`. What is at the exit already is not taken there again."""

    @abstractmethod
    def draft(self, text: list[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str] | None:
        """See `Engine.draft`, by the first layers after `text`; None where steps do as well as running ahead."""


class FusedSharedLayers(SharedLayers):
    """The shared layers of a `fused` engine."""

    engine: FusedEngine

    def __init__(self, engine: FusedEngine, exit_layer: int) -> None:
        super().__init__(engine)
        engine.exit = exit_layer

    def step(self, view: View, before: list[int], tokens: Sequence[int], want: int, ranks: bool) -> Summary:
        """See `SharedLayers.step`."""
        engine, text = self.engine, [*before, *tokens]
        read = common_prefix(self.tokens, text)
        engine.length = n = min(read, len(before))
        part = PartialPass(read - n, engine.exit if view == "exit" else len(engine.weights.decoder))
        summary = engine.step(text[n:], want, ranks, part)
        if read < len(text):
            self.tokens = text
        return summary

    def draft(self, text: list[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str] | None:
        """See `SharedLayers.draft`."""
        engine, read = self.engine, common_prefix(self.tokens, text)
        if engine.summing() is None:
            return None
        engine.length = n = min(read, len(text) - 1)
        out, probs, stop = engine.draft(text[n:], limit, stop_below, PartialPass(read - n, engine.exit))
        self.tokens = [*text, *out[:-1]]
        return out, probs, stop


class GraphExitEngine(GraphEngine):
    """A `graph` engine that can also be left behind layer `exit`, and taken up there."""

    residuals: Tensor  # [rows, D], behind layer `exit`

    def __init__(self, module: Any, exit_layer: int, **options: Any) -> None:
        self.exit = exit_layer
        super().__init__(module, **options)

    def _allocate(self, capacity: int) -> None:
        super()._allocate(capacity)
        self.residuals = torch.zeros(self.capacity + 1, self.weights.embed.shape[1], device=self.device)

    def resize(self, positions: int) -> None:
        """See `GraphEngine.resize`."""
        kept = self.residuals[: self.capacity]
        super().resize(positions)
        self.residuals[: len(kept)] = kept

    def prepare_view(self, view: View, plan: PassPlan) -> None:
        """See `Engine.prepare`. The large model takes up what the small one left, or works alone, a token a pass."""
        upper = ("upper", "upper with ranks") if plan.ranks else ("upper",)
        if view == "full":
            self.prepare_kinds(plan._replace(widest=1), ("step",), None)
        kinds = ("lower", *upper) if view == "full" else ("lower", "exit", "draft")
        self.prepare_kinds(plan, kinds, "draft" if view == "exit" else None)

    @torch.inference_mode()
    def lower(self, at: int, tokens: Sequence[int]) -> None:
        """Take tokens at position `at`.. to the exit. Nothing is waited for."""
        self._launch("lower", at, tokens)

    def finish(self, view: View, at: int, tokens: Sequence[int], want: int, ranks: bool) -> Summary:
        """Summarise tokens that are at the exit, after the remaining layers if `view` is "full"."""
        return self._summary("upper" if view == "full" else "exit", at, tokens, want, ranks)

    def draft(self, tokens: Sequence[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """See `Engine.draft`: the large model, which runs what is asked of it."""
        out, probs, stop = self._draft("step", self.length, tokens, limit, stop_below, False)
        self.length += len(tokens) + len(out) - 1
        return out, probs, stop

    def draft_to_exit(
        self, at: int, tokens: Sequence[int], limit: int, stop_below: float
    ) -> tuple[list[int], list[float], str]:
        """Draft by the first layers, behind position `at`; see `Engine.draft`."""
        return self._draft("draft", at, tokens, limit, stop_below, self.ahead)

    def _plain(self, kind: str, source: SourceBuffers, width: int) -> None:
        program, _, ranks = kind.partition(" with ")
        if program == "step":
            super()._plain(kind, source, width)
            return
        rows = self._rows(width)
        ids = self.pool.text.tokens.index_select(0, rows)
        if program in ("lower", "draft"):
            x = self._layers(source, t5.embed(self.weights, ids), rows, 0, self.exit)
            self.residuals.index_copy_(0, rows, x)
        else:
            x = self.residuals.index_select(0, rows)
        if program == "upper":
            x = self._layers(source, x, rows, self.exit, len(self.weights.decoder))
        if program == "lower":
            self._advance(width)
        else:
            self._summarise(x, ids, rows, bool(ranks))


class GraphSharedLayers(SharedLayers):
    """The shared layers of a `graph` engine."""

    engine: GraphExitEngine

    def prepare(self, view: View, plan: PassPlan) -> None:
        """See `Engine.prepare`."""
        self.engine.prepare_view(view, plan)

    def step(self, view: View, before: list[int], tokens: Sequence[int], want: int, ranks: bool) -> Summary:
        """See `SharedLayers.step`."""
        self._read([*before, *tokens])
        return self.engine.finish(view, len(before), tokens, want, ranks)

    def draft(self, text: list[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """See `SharedLayers.draft`."""
        n = min(common_prefix(self.tokens, text), len(text) - 1)
        if len(text) - n > WIDTHS[-1]:
            self._read(text[:-1])
            n = len(text) - 1
        out, probs, stop = self.engine.draft_to_exit(n, text[n:], limit, stop_below)
        self.tokens = [*text, *out[:-1]]
        return out, probs, stop

    def _read(self, text: list[int]) -> None:
        n = common_prefix(self.tokens, text)
        if n < len(text):
            self._lower(n, text[n:])
            self.tokens = text

    def _lower(self, n: int, tokens: list[int]) -> None:
        for at in range(0, len(tokens), WIDTHS[-1]):
            if at:
                self.engine.synchronize()  # see `GraphEngine._launch`
            self.engine.lower(n + at, tokens[at : at + WIDTHS[-1]])


class ViewEngine(Engine):
    """The small ("exit") or the large ("full") model over shared layers."""

    starts_together = True

    def __init__(self, shared: SharedLayers, view: View) -> None:
        self.shared = shared
        self.view = view
        self.name = shared.engine.name
        self.eos = shared.engine.eos
        self.device = shared.engine.device
        self.fed: list[int] = []

    @property
    def length(self) -> int:  # type: ignore[override]
        """See `Engine`."""
        return len(self.fed)

    @property
    def captured(self) -> int:  # type: ignore[override]
        """See `Engine`."""
        return self.shared.engine.captured

    def prepare(self, plan: PassPlan) -> None:
        """See `Engine.prepare`."""
        self.shared.prepare(self.view, plan)

    def start(self, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        """See `Engine.start`."""
        self.shared.start(self.view, source, decode)
        self.fed = []

    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`."""
        ran = self.shared.engine.passes
        if self.view == "full" and self.shared.unshared:
            summary = self.shared.whole(len(self.fed)).step(tokens, want, ranks)
        else:
            summary = self.shared.step(self.view, self.fed, tokens, want, ranks)
        self.passes += self.shared.engine.passes - ran
        self.fed.extend(tokens)
        return summary

    def draft(self, tokens: Sequence[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """See `Engine.draft`. Where the engine below runs ahead, so does the view."""
        ahead, ran = None, self.shared.engine.passes
        if self.view == "full" and self.shared.unshared:
            ahead = self.shared.whole(len(self.fed)).draft(tokens, limit, stop_below)
        elif self.view == "exit":
            ahead = self.shared.draft([*self.fed, *tokens], limit, stop_below)
        if ahead is None:
            return super().draft(tokens, limit, stop_below)
        self.passes += self.shared.engine.passes - ran
        self.fed.extend([*tokens, *ahead[0][:-1]])
        return ahead

    def rewind(self, length: int) -> None:
        """See `Engine.rewind`."""
        check_rewind(self, length)
        del self.fed[length:]


def early_exit(shared: SharedLayers) -> tuple[ViewEngine, ViewEngine]:
    """Return the (large, small) engines over shared layers."""
    return ViewEngine(shared, "full"), ViewEngine(shared, "exit")


def truncated(module: Any, layers: int) -> Any:
    """Return a module of the first `layers` decoder layers of a T5 or mT5, over the same tensors (no copies)."""
    config = copy.deepcopy(module.config)
    config.num_decoder_layers = layers
    with torch.device("meta"):
        cut = type(module)(config)
    wanted = cut.state_dict().keys()
    cut.load_state_dict({k: v for k, v in module.state_dict().items() if k in wanted}, assign=True)
    return cut.eval()
