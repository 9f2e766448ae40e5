"""Early exit on engine `graph`: the shared layers of `bild.engines.early_exit` as programs of fixed shapes.

Three programs make a pass: "lower" takes tokens to the exit and leaves their residuals in a static buffer, "exit" is
the head over these, "upper" is the remaining layers and the head. A draft is one program, "exit-draft", as in `graph`.
So a verification is at most two launches ("lower" for the tokens that the small model did not read) and one copy back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.base import Summary, common_prefix
from bild.engines.early_exit import SharedLayers, View
from bild.engines.graph import WIDTHS, GraphEngine, Source


class GraphExitEngine(GraphEngine):
    """A `graph` engine that can also be left behind layer `exit`, and taken up there."""

    residuals: Tensor  # [rows, D], behind layer `exit`

    def __init__(self, module: Any, exit_layer: int, **options: Any) -> None:
        self.exit = exit_layer
        super().__init__(module, **options)

    def _allocate(self, capacity: int) -> None:
        super()._allocate(capacity)
        self.residuals = torch.zeros(capacity + WIDTHS[-1], self.weights.embed.shape[1], device=self.device)

    def _grow(self, length: int) -> None:
        kept = self.residuals
        super()._grow(length)
        self.residuals[: kept.shape[0]] = kept

    def lower(self, at: int, tokens: Sequence[int]) -> None:
        """Take tokens at position `at`.. to the exit. Nothing is waited for."""
        self._launch("lower", at, tokens)

    def finish(self, view: View, at: int, tokens: Sequence[int], want: int, ranks: bool) -> Summary:
        """Summarise tokens that are at the exit, after the remaining layers if `view` is "full"."""
        return self._summary("upper" if view == "full" else "exit", at, tokens, want, ranks)

    def draft_to_exit(
        self, at: int, tokens: Sequence[int], limit: int, stop_below: float
    ) -> tuple[list[int], list[float], str]:
        """Draft by the first layers, behind position `at`; see `Engine.draft`."""
        return self._run_ahead("exit-draft", at, tokens, limit, stop_below)

    def _plain(self, kind: str, source: Source, width: int, ahead: int) -> None:
        program, _, ranks = kind.partition(" with ")
        if program not in ("lower", "exit", "upper", "exit-draft"):
            super()._plain(kind, source, width, ahead)
            return
        ids, position = self.inputs[2 : 2 + width], self.inputs[0]
        if program == "lower":
            self._to_exit(source, ids, position)
        elif program == "exit-draft":
            self._draft(partial(self._to_exit, source), ids, ahead)
        else:
            x = self.residuals.index_select(0, position + self.offsets[:width])
            if program == "upper":
                x = self._layers(source, x, position, self.exit, len(self.weights.decoder))
            self._summarise(x, ids, bool(ranks))

    def _to_exit(self, source: Source, ids: Tensor, position: Tensor) -> Tensor:
        """Take tokens ids [width] at position.. through the first layers: residuals [width, D], which are kept."""
        x = self._layers(source, t5.embed(self.weights, ids), position, 0, self.exit)
        self.residuals.index_copy_(0, position + self.offsets[: ids.shape[0]], x)
        return x


class GraphSharedLayers(SharedLayers):
    """The shared layers of a `graph` engine."""

    engine: GraphExitEngine

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
