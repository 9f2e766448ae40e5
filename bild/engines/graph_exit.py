"""Early exit on engine `graph`: the shared layers of `bild.engines.early_exit` as programs of fixed shapes.

Three programs make a pass: "lower" takes tokens to the exit and leaves their residuals in a static buffer, "exit" is
the head over these, "upper" is the remaining layers and the head. A draft's step is one program, "draft". So a
verification is at most two launches ("lower" for the tokens that the small model did not read) and one copy back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.base import PassPlan, Summary, common_prefix
from bild.engines.early_exit import SharedLayers, View
from bild.engines.graph import GraphEngine
from bild.engines.graph_programs import WIDTHS, SourceBuffers


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

    def draft(self, text: list[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """See `Engine.draft`: the first layers continue after `text`."""
        n = min(common_prefix(self.tokens, text), len(text) - 1)
        if len(text) - n > WIDTHS[-1]:
            self.read(text[:-1])
            n = len(text) - 1
        out, probs, stop = self.engine.draft_to_exit(n, text[n:], limit, stop_below)
        self.tokens = [*text, *out[:-1]]
        return out, probs, stop

    def _lower(self, n: int, tokens: list[int]) -> None:
        for at in range(0, len(tokens), WIDTHS[-1]):
            if at:
                self.engine.synchronize()  # see `GraphEngine._launch`
            self.engine.lower(n + at, tokens[at : at + WIDTHS[-1]])

    def _finish(self, view: View, n: int, tokens: Sequence[int], want: int, ranks: bool) -> Summary:
        return self.engine.finish(view, n, tokens, want, ranks)
