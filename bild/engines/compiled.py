"""`bild.engines.t5` on one thread of a CPU in fp32, a whole pass in one call of compiled code (`compiled.c`).

A small model's step takes less time than NumPy or torch take to dispatch its operations. The plain functions of `t5`
are its oracle; where no C compiler is, or another kind of product is faster, `t5_host` takes its place.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bild.engines import t5
from bild.engines.base import ENTIRE, PartialPass, Summary, check_finite
from bild.engines.layouts import COMPILED, Matrix, empty
from bild.engines.strips import STRIP, Strips, compiled

_ACTIVATIONS = ("relu", "gelu_new", "silu")
"""As `compiled.c` numbers them; those of the decoder of any T5 or mT5 that was published."""
_SLACK = 64
"""Entries behind an array that may be read or written, and mean nothing."""
_FEW_ROWS = 16
"""Rows that there is room for at once, and tokens of a draft at a time: then Ctrl-C is heard."""
_TOLD = 5
"""Numbers that `score` in `compiled.c` tells of a row."""
COMPILED_SOURCE = 128
"""Source positions up to which an encoder's pass is faster compiled; beyond, torch's attention is the faster one."""


class _Matrix(ctypes.Structure):
    _fields_ = [("w", ctypes.c_void_p), ("inner", ctypes.c_long), ("strips", ctypes.c_long)]


_PARTS = ("qkv", "o", "cross_q", "cross_o", "wi", "wo")


class _Layer(ctypes.Structure):
    _fields_ = [(name, _Matrix) for name in _PARTS]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("layers", "embed", "gain")),
        ("head", _Matrix),
        *((name, ctypes.c_long) for name in ("width", "heads", "key", "dense", "gated", "activation", "out")),
        ("eps", ctypes.c_float),
    ]


class _State(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("cache", "cross", "bias", "residuals")),
        *((name, ctypes.c_long) for name in ("capacity", "source", "exit")),
    ]


_ARRAYS = ("x", "normed", "qkv", "mixed", "added", "h", "scores", "logits")


class _Room(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _ARRAYS]


def compilable(model: t5.Weights | t5.Encoder) -> bool:
    """Return whether a decoder or an encoder can run here: its matrices are multiplied by compiled strips."""
    if model.shape.activation not in _known():
        return False
    layers, more = (model.decoder, [model.head]) if isinstance(model, t5.Weights) else (model.layers, [])
    matrices = [value for layer in layers for value in vars(layer).values()] + more
    return bool(matrices) and all({*matrix.kinds[:2]} == {COMPILED} for matrix in matrices)


def _known() -> list[object]:
    return [t5.ACTIVATIONS[name] for name in _ACTIVATIONS]


class _Passes:
    """Layers, and the memory of their passes."""

    def __init__(self, shape: t5.Shape, layers: Sequence[t5.Layer], head: Matrix | None, embed: Tensor, gain: Tensor):
        code = compiled()
        assert code is not None, "a kind that `kinds_on` did not offer"
        self.code = code
        self._layers = (_Layer * len(layers))()
        for made, layer in zip(self._layers, layers, strict=True):
            for name in _PARTS:
                if hasattr(layer, name):
                    setattr(made, name, _matrix(getattr(layer, name)))
        first = layers[0]
        self.width = first.o.out
        self._model = _Model(
            layers=ctypes.addressof(self._layers),
            embed=embed.data_ptr(),
            gain=gain.data_ptr(),
            head=_matrix(head) if head else _Matrix(),
            width=self.width,
            heads=shape.heads,
            key=shape.key_size,
            dense=first.wo.inner,
            gated=shape.gated,
            activation=_known().index(shape.activation),
            out=head.out if head else 0,
            eps=shape.eps,
        )
        self._held = (layers, embed, gain, head)  # what these addresses lead to
        self.model = ctypes.addressof(self._model)
        widths = {"x": self.width, "normed": self.width, "added": self.width, "mixed": first.o.inner}
        widths |= {"qkv": first.qkv.out, "h": first.wi.out, "logits": head.out if head else 0}
        self._steps = {name: -(-width // STRIP) * STRIP for name, width in widths.items()}
        self._rows = self._others = 0

    def fit(self, rows: int, others: int) -> None:
        """Make room for passes of so many rows, each of which attends to so many positions."""
        if rows <= self._rows and others <= self._others:
            return
        self._rows, self._others = max(rows, self._rows), max(others, self._others)
        sizes = {name: self._rows * step for name, step in self._steps.items()} | {"scores": self._others}
        self._arrays = {name: empty((size + _SLACK,)) for name, size in sizes.items()}
        for array in self._arrays.values():
            array.fill(0)
        self._room = _Room(**{name: array.ctypes.data for name, array in self._arrays.items()})
        self.room = ctypes.addressof(self._room)
        self.x, self.logits = self._seen("x"), self._seen("logits")
        self.ids, self.told = np.zeros(self._rows + 1, np.int64), np.zeros((self._rows, _TOLD))
        self.out = np.zeros(self._rows, np.int64)
        self.ids_at, self.out_at, self.told_at = (array.ctypes.data for array in (self.ids, self.out, self.told))

    def _seen(self, name: str) -> Tensor:
        """Return an array as torch sees it, [rows, width]."""
        step = self._steps[name]
        with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside of it
            return torch.from_numpy(self._arrays[name][: self._rows * step].reshape(self._rows, step))

    def run_layers(self, state: _State, x: Tensor, n: int, first: int, last: int) -> Tensor:
        """Take the residuals x [k, D] of positions n.. through the layers first..last-1."""
        rows = x.shape[0]
        self.x[:rows, : self.width] = x
        self.code.run_layers(self.model, ctypes.addressof(state), self.room, rows, n, first, last)
        return self.x[:rows, : self.width].clone()


def _matrix(matrix: Matrix) -> _Matrix:
    strips = matrix.layouts["strips"]
    assert isinstance(strips, Strips)
    return _Matrix(strips.address, matrix.inner, len(strips.data))


class CompiledDecoder:
    """The functions of `bild.engines.t5` of the same names; `bild.engines.t5_host.HostDecoder` has them too."""

    def __init__(self, weights: t5.Weights) -> None:
        self._passes = _Passes(weights.shape, weights.decoder, weights.head, weights.embed, weights.decoder_gain)
        self.weights = weights
        self._state: t5.State | None = None
        self._passes.fit(_FEW_ROWS, 1)

    def embed(self, tokens: Sequence[int]) -> Tensor:
        """See `t5.embed`."""
        return t5.embed(self.weights, torch.tensor(tokens))

    def run_layers(self, state: t5.State, x: Tensor, n: int, first: int, last: int) -> Tensor:
        """See `t5.run_layers`."""
        return self._passes.run_layers(self._see(state, x.shape[0]), x, n, first, last)

    def logits(self, x: Tensor) -> Tensor:
        """See `t5.logits`. The next call writes to the same memory."""
        self._score(x, ())
        return self._scored(x.shape[0])

    def summary_of(self, x: Tensor, tokens: Sequence[int]) -> Summary:
        """Return what `summarise` makes of the logits of residuals x [want, D], after the last of `tokens`."""
        self._score(x, tokens[len(tokens) - x.shape[0] + 1 :])
        return self._summary(x.shape[0])

    def _score(self, x: Tensor, given: Sequence[int]) -> None:
        passes, rows = self._passes, x.shape[0]
        passes.fit(rows, 1)
        passes.x[:rows, : passes.width] = x
        passes.ids[:rows] = (*given, *[0] * (rows - len(given)))
        passes.code.score(passes.model, passes.room, passes.x.data_ptr(), rows, passes.ids_at, passes.told_at)

    def decode(self, state: t5.State, tokens: Sequence[int], n: int, want: int, part: PartialPass = ENTIRE) -> Tensor:
        """See `t5.decode`. The next call writes to the same memory."""
        self._decode(state, tokens, n, want, part)
        return self._scored(want)

    def summary(self, state: t5.State, tokens: Sequence[int], n: int, want: int, part: PartialPass = ENTIRE) -> Summary:
        """Return what `summarise` makes of `decode`, of greedy choices."""
        self._decode(state, tokens, n, want, part)
        return self._summary(want)

    def _summary(self, rows: int) -> Summary:
        told = self._told(rows)
        nlls = [math.log(total) for _, total, *_ in told]
        given = [nll + below for nll, (_, _, below, *_) in zip(nlls[:-1], told, strict=False)]
        return Summary([int(place) for place, *_ in told], nlls, given, [1 + int(above) for *_, above, _ in told[:-1]])

    def draft(
        self,
        state: t5.State,
        tokens: Sequence[int],
        n: int,
        limit: int,
        stop_below: float,
        eos: int,
        part: PartialPass = ENTIRE,
    ) -> tuple[list[int], list[float]]:
        """Continue after tokens at positions n.. by up to `limit` others, a few at a time, as `Engine.draft` does.

        Returns their ids and their probabilities.
        """
        passes, state_at = self._passes, self._feed(state, tokens)
        made = passes.code.draft(
            *(passes.model, state_at, passes.room, part.layers or len(self.weights.decoder)),
            *(passes.ids_at, len(tokens), n, part.kept),
            *(min(limit, _FEW_ROWS), stop_below, eos, passes.out_at, passes.told_at),
        )
        return passes.out[:made].tolist(), [1 / total for _, total, *_ in self._told(made)]

    def _decode(self, state: t5.State, tokens: Sequence[int], n: int, want: int, part: PartialPass) -> None:
        passes, state_at = self._passes, self._feed(state, tokens)
        passes.code.decode(
            *(passes.model, state_at, passes.room, part.layers or len(self.weights.decoder)),
            *(passes.ids_at, len(tokens), n, part.kept, want, passes.told_at),
        )

    def _feed(self, state: t5.State, tokens: Sequence[int]) -> int:
        """Put tokens where compiled code finds them, and return the address of the state."""
        rows = len(self.weights.embed)
        if not 0 <= min(tokens) <= max(tokens) < rows:
            raise IndexError(f"token ids {min(tokens)} to {max(tokens)} of a vocabulary of {rows}")
        at = ctypes.addressof(self._see(state, len(tokens)))
        self._passes.ids[: len(tokens)] = tokens
        return at

    def _scored(self, rows: int) -> Tensor:
        self._told(rows)
        return self._passes.logits[:rows, : self.weights.head.out]

    def _told(self, rows: int) -> list[list[float]]:
        """Return what `score` in `compiled.c` tells of rows; BildError where it is not finite."""
        told: list[list[float]] = self._passes.told[:rows].tolist()
        # Infinite squares make a norm of 0, which would hide that anything is wrong.
        check_finite([value for _, total, *_, squares in told for value in (total, squares)])
        return told

    def _see(self, state: t5.State, rows: int) -> _State:
        """Return a state as compiled code sees it, and make room for passes over it."""
        if state is not self._state:
            across = [one for both in zip(state.cross_keys, state.cross_values, strict=True) for one in both]
            self._cross = (ctypes.c_void_p * len(across))(*(one.data_ptr() for one in across))
            capacity, source = state.bias.shape[1], state.cross_values[0].shape[1]
            cache, bias, residuals = (one.data_ptr() for one in (state.cache, state.bias, state.residuals))
            places = cache, ctypes.addressof(self._cross), bias, residuals
            self._seen = _State(*places, capacity, source, state.exit)
            self._others = max(capacity, source)
            self._state = state
        self._passes.fit(rows, self._others)
        return self._seen


class CompiledEncoder:
    """`t5.encode`, of one source."""

    def __init__(self, encoder: t5.Encoder) -> None:
        self.encoder = encoder
        self._passes = _Passes(encoder.shape, encoder.layers, None, encoder.embed, encoder.gain)

    def encode(self, source: Sequence[int], bias: Tensor) -> Tensor:
        """Turn source ids [S] and biases [H, S, S] into encoder states [S, D]."""
        shape, rows = self.encoder.shape, len(source)
        self._passes.fit(rows, rows)
        keys_values = torch.empty((2, shape.heads, rows, shape.key_size))  # of one layer at a time
        state = _State(keys_values.data_ptr(), None, bias.data_ptr(), None, rows, rows, 0)
        x = t5.embed(self.encoder, torch.tensor(source))
        x = self._passes.run_layers(state, x, 0, 0, len(self.encoder.layers))
        return t5.rms_norm(x, shape.eps) * self.encoder.gain
