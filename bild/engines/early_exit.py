"""One model as a pair: its first n decoder layers, with the final norm and the head, are the small one (paper 4.4).

Both views share the encoder pass, the keys and values of the first n layers, and the residual behind layer n, which is
kept for every position. So the small model's step is n layers and the head, and the large model's pass over a draft
takes up where the small one left off: it runs the remaining layers only. `hf` engines over the whole module and over
one that is cut off (`truncated`) are the oracle: the same numbers without any sharing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bild.engines.base import Engine, Summary, check_rewind, common_prefix, summarise
from bild.engines.fused import FusedEngine


class SharedLayers:
    """What the two views share: one fused engine's state, and what its first `exit` layers have seen."""

    def __init__(self, engine: FusedEngine, exit_layer: int) -> None:
        self.engine = engine
        self.exit = exit_layer
        self.layers = len(engine.weights.decoder)
        self.tokens: list[int] = []
        """Tokens whose rows in the first layers, and whose residuals behind them, are in place."""
        self.residuals = self._rows()
        self._source: list[int] | None = None
        self._started: set[str] = set()
        self._whole = False
        """Whether the engine was stepped as a whole since the source was encoded."""

    def _rows(self) -> Tensor:
        embed = self.engine.weights.embed
        return torch.empty(self.engine.cache.shape[3], embed.shape[1], device=embed.device)

    def start(self, view: str, source: Sequence[int]) -> None:
        """Encode a source for the first view that starts on it; the other one joins before anything is fed."""
        if self._source == list(source) and view not in self._started and not (self.tokens or self._whole):
            self._started.add(view)
            return
        self.engine.start(source)
        self._source, self._started, self.tokens, self._whole = list(source), {view}, [], False

    @property
    def unshared(self) -> bool:
        """Whether the large model works alone, as in vanilla decoding: nobody asks for what its first layers saw."""
        return self._started == {"full"}

    def whole(self, before: int, tokens: Sequence[int], want: int) -> Summary:
        """A plain step of the whole engine behind `before` positions, without keeping anything for the small model."""
        self._whole = True
        self.engine.length = before
        return self.engine.step(tokens, want)

    @torch.inference_mode()
    def shallow(self, before: list[int], tokens: Sequence[int]) -> Tensor:
        """Residuals [k, D] behind layer `exit` of the `tokens` after `before`; what is in place is not computed."""
        text = [*before, *tokens]
        n = common_prefix(self.tokens, text)
        if n < len(text):
            self.reserve(len(text))
            self.residuals[n : len(text)] = self._run(text[n:], n)
            self.tokens = text
        return self.residuals[len(before) : len(text)]

    def _run(self, tokens: list[int], n: int) -> Tensor:
        return self.engine.run_layers(self.engine.embed(tokens), n, 0, self.exit)

    @torch.inference_mode()
    def deep(self, x: Tensor, n: int) -> Tensor:
        """Residuals x [k, D] of positions n.. through the remaining layers: [k, D]."""
        return self.engine.run_layers(x, n, self.exit, self.layers)

    @torch.inference_mode()
    def summarise(self, x: Tensor, fed: Sequence[int]) -> Summary:
        """Final norm, head and summary of residuals x [want, D]."""
        return summarise(self.engine.logits(x), fed)

    def reserve(self, length: int) -> None:
        """Make room for `length` positions."""
        if length > self.residuals.shape[0]:
            self.engine.length = len(self.tokens)
            self.engine.grow(length)
            kept, self.residuals = self.residuals, self._rows()
            self.residuals[: kept.shape[0]] = kept


class ViewEngine(Engine):
    """The small ("exit") or the large ("full") model over shared layers."""

    def __init__(self, shared: SharedLayers, view: Literal["exit", "full"]) -> None:
        self.shared = shared
        self.view = view
        self.name = shared.engine.name
        self.eos = shared.engine.eos
        self.fed: list[int] = []

    @property
    def length(self) -> int:  # type: ignore[override]
        """See `Engine`."""
        return len(self.fed)

    def start(self, source: Sequence[int]) -> None:
        """See `Engine.start`."""
        self.shared.start(self.view, source)
        self.fed = []

    def step(self, tokens: Sequence[int], want: int = 1) -> Summary:
        """See `Engine.step`."""
        if self.view == "full" and self.shared.unshared:
            summary = self.shared.whole(len(self.fed), tokens, want)
            self.fed.extend(tokens)
            return summary
        x = self.shared.shallow(self.fed, tokens)
        if self.view == "full":
            x = self.shared.deep(x, len(self.fed))
        self.fed.extend(tokens)
        return self.shared.summarise(x[-want:], tokens)

    def rewind(self, length: int) -> None:
        """See `Engine.rewind`."""
        check_rewind(self, length)
        del self.fed[length:]

    def synchronize(self) -> None:
        """See `Engine.synchronize`."""
        self.shared.engine.synchronize()


def early_exit(engine: FusedEngine, exit_layer: int) -> tuple[ViewEngine, ViewEngine]:
    """The (large, small) engines of one model, the small one its first `exit_layer` decoder layers."""
    shared = SharedLayers(engine, exit_layer)
    return ViewEngine(shared, "full"), ViewEngine(shared, "exit")


def truncated(module: Any, layers: int) -> Any:
    """A module of the first `layers` decoder layers of a T5 or mT5, over the same tensors (nothing is copied)."""
    config = copy.deepcopy(module.config)
    config.num_decoder_layers = layers
    with torch.device("meta"):
        cut = type(module)(config)
    wanted = cut.state_dict().keys()
    cut.load_state_dict({k: v for k, v in module.state_dict().items() if k in wanted}, assign=True)
    return cut.eval()
