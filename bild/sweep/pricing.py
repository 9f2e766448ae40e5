"""The prices of a sweep: read where they hold, else calibrated; and how far they were off, from measured points."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bild.bench.machine import busy_warning, state
from bild.errors import BildError
from bild.results import config_hash
from bild.results.folder import write_atomically
from bild.results.locking import device_lock
from bild.results.parts import Interval
from bild.results.predicted import Agreement
from bild.results.prices import PRICES, PriceError, Prices, prices_to_json, read_prices
from bild.sweep.calibrate import Calibrator
from bild.sweep.fit import fit_prices, spread
from bild.sweep.settings import widest_draft
from bild.sweep.timing import Timed
from bild.sweep.work import Work

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
