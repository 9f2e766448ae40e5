"""The prices of a sweep: read where they hold, else calibrated; and how far they were off, from measured points.

Calibration: short live decodings in many settings, by the very engines that are measured, and prices from them.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.errors import BildError
from bild.measure.environment import busy_warning, state
from bild.models import Pair
from bild.results import config_hash
from bild.results.folder import write_atomically
from bild.results.locking import device_lock
from bild.results.parts import Interval
from bild.results.predicted import Agreement
from bild.results.prices import PRICES, PriceError, Prices, prices_to_json, read_prices
from bild.sweep.config import widest_draft
from bild.sweep.context import Work
from bild.sweep.cost_model import fit_prices, spread
from bild.sweep.timing import Timed, Timer

_CALIBRATION_TEXTS = 64
_BESIDE, _ENOUGH = 2, 3000
"""Texts after each measured example, and in all."""
_FEW = 3
"""Measured points from which their own errors are better known than those of calibration texts."""


def stored_prices(folder: Path, work: Work) -> Prices | None:
    """The prices in a folder, where they hold for this pair, engine, machine and versions."""
    path = folder / PRICES
    if not path.is_file():
        return None
    try:
        prices = read_prices(path)
    except BildError as error:
        print(f"warning: {error}", file=sys.stderr)
        return None
    return prices if config_hash(prices.identity) == config_hash(work.price_identity()) else None


def calibrator_for(work: Work) -> Calibrator:
    """A calibrator over the pair's engines, for all widths of the sweep."""
    config = work.config
    widest = widest_draft(config.sweep)
    return Calibrator(work.pair, config.engine.name, config.task.target_limit, widest, config.measure.seed)


def calibrate(folder: Path, work: Work, calibrator: Calibrator) -> Prices:
    """Take prices for `sweep.calibration` seconds and store them in the folder."""
    config = work.config
    sources = [work.source(example) for example in work.queue[:_CALIBRATION_TEXTS]]
    warning = busy_warning(state(work.device))
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"Calibrating prices for {config.sweep.calibration:g} s", file=sys.stderr)
    with device_lock(str(work.device)):
        calibrator.run(sources, config.sweep.calibration)
    prices = calibrator.prices(_plain(work.price_identity()))
    save(folder, prices)
    return prices


def save(folder: Path, prices: Prices) -> None:
    """Write `prices.json`, in one step."""
    write_atomically(folder / PRICES, prices_to_json(prices))


class Beside:
    """Calibration next to a measurement: a few texts after every example that is measured."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._calibrator: Calibrator | None = None

    def __call__(self, source: list[int]) -> None:
        """Decode the source in the next settings of the cycle."""
        if self._calibrator is None:
            self._calibrator = calibrator_for(self.work)
        if len(self._calibrator.timer.texts) < _ENOUGH:
            for _ in range(_BESIDE):
                self._calibrator.one(source)

    def prices(self, before: Sequence[Timed]) -> Prices | None:
        """Prices from these texts, with those of `before` where they are few; None where nothing was measured."""
        if self._calibrator is None:
            return None
        texts = self._calibrator.timer.texts
        if len(texts) < _CALIBRATION_TEXTS:
            texts = [*before, *texts]
        try:
            return fit_prices(texts, _plain(self.work.price_identity()))
        except BildError:
            return None


def _plain(identity: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = json.loads(json.dumps(identity))
    return found


def agreement(
    predicted: Sequence[float],
    predicted_vanilla: Sequence[float],
    measured: Sequence[float],
    speedup: Interval,
    error: PriceError,
) -> Agreement:
    """A point's prediction beside its measurement: seconds of each of the same examples, and the measured speedup."""
    own = float(np.sum(predicted_vanilla) / np.sum(predicted))
    low, high = own * (1 - error.speedup), own * (1 + error.speedup)
    return Agreement(
        examples=len(measured),
        predicted=own,
        measured=speedup,
        predicted_seconds=float(np.mean(predicted)),
        measured_seconds=float(np.mean(measured)),
        inside=low <= speedup.high and speedup.low <= high,
    )


def with_measured_error(prices: Prices, found: Sequence[Agreement]) -> Prices:
    """The prices with an error bar from measured points, where there are enough of them."""
    if len(found) < _FEW:
        return prices
    seconds = [a.predicted_seconds / a.measured_seconds - 1 for a in found]
    speedups = [a.predicted / a.measured.value - 1 for a in found]
    return dataclasses.replace(prices, error=PriceError(spread(seconds), spread(speedups), len(found)))


_LEAST_TEXTS = 48


def calibration_settings(widest: int) -> list[tuple[str, MethodConfig, ThresholdConfig]]:
    """A cycle of settings with passes of all widths up to `widest` drafted tokens, in many mixtures of the models."""
    # Vanilla more often than any other: every speedup hangs on it.
    found = [("vanilla", MethodConfig("vanilla"), ThresholdConfig())] * 3
    limits = sorted({1, 2, 3, max(1, widest // 2), max(1, 3 * widest // 4), widest})
    thresholds = [(0.0, 3.0), (0.3, 6.0), (0.5, 2.0), (0.6, 5.0), (0.7, 3.0), (0.9, 1.0), (0.8, float("inf"))]
    for n, (fb, rb) in enumerate(thresholds):
        limit = widest if n % 2 else limits[n % len(limits)]
        found.append((f"fb{fb}-rb{rb}-k{limit}", MethodConfig("bild", max_draft=limit), ThresholdConfig(fb, rb)))
    found += [(f"window{k}", MethodConfig("speculative", max_draft=k), ThresholdConfig()) for k in limits]
    found.append(("small", MethodConfig("small"), ThresholdConfig()))
    return found


class Calibrator:
    """Takes turns through the settings, one text each time it is asked, and fits prices to all it has seen."""

    def __init__(self, pair: Pair, engine: str, max_length: int, widest: int, seed: int = 0) -> None:
        self.timer = Timer(pair.engine("large", engine), pair.engine("small", engine), pair.start, pair.eos, max_length)
        self.settings = [
            (name, method.name, policy_for(method, threshold))
            for name, method, threshold in calibration_settings(widest)
        ]
        self.random = random.Random(seed)
        self.queue: list[int] = []

    def one(self, source: Sequence[int]) -> None:
        """Decode one source in the setting whose turn it is; a cycle has them all in random order."""
        if not self.queue:
            self.queue = list(range(len(self.settings)))
            self.random.shuffle(self.queue)
        name, method, make = self.settings[self.queue.pop()]
        self.timer.decode(name, make, method, source)

    def run(self, sources: Sequence[Sequence[int]], seconds: float) -> None:
        """Warm up, then go on for so many seconds, and for whole cycles enough to fit."""
        for name, method, make in self.settings:
            self.timer.decode(name, make, method, sources[0])
        self.timer.texts.clear()
        gc.collect()
        gc.disable()  # as in a measurement
        try:
            began, n = perf_counter(), 0
            while perf_counter() - began < seconds or n < max(_LEAST_TEXTS, 2 * len(self.settings)):
                self.one(sources[n % len(sources)])
                n += 1
        finally:
            gc.enable()

    def prices(self, identity: dict[str, Any]) -> Prices:
        """Prices from everything seen so far. BildError where it was too little."""
        return fit_prices(self.timer.texts, identity)
