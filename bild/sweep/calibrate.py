"""Calibration: short live decodings in many settings, by the very engines that are measured, and prices from them."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.models import Pair
from bild.results.prices import Prices
from bild.sweep.fit import fit_prices
from bild.sweep.timing import Timer

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
