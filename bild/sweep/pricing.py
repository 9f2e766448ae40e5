"""The prices of a sweep: read where they hold, else calibrated, and taken anew beside the measurement.

Calibration: short live decodings in many settings, by the very engines that are measured, with every pass timed.
"""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any, NamedTuple

from bild.config import DecodeConfig, MethodConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.engines import Engine, Summary
from bild.errors import BildError
from bild.measure.environment import busy_warning, state, uuid_of
from bild.measure.live import prepare, run_live
from bild.models import Pair
from bild.progress import collector_off, say
from bild.results import config_hash
from bild.results.codec import decode, write_json
from bild.results.locking import device_lock
from bild.results.prices import PRICES, Prices, read_prices
from bild.sweep.config import widest_draft
from bild.sweep.context import SweepWork
from bild.sweep.cost_model import Call, TimedText, fit_prices

_LEAST_TEXTS = 48
_CALIBRATION_TEXTS = 64
BESIDE, _ENOUGH = 2, 3000
"""Texts after each measured example, and in all."""


class TimedEngine:
    """Passes everything on to an engine, and notes every pass."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`."""
        before, began = self.engine.length, perf_counter_ns()
        summary = self.engine.step(tokens, want, ranks)
        self.calls.append(Call(len(tokens), 1, before, perf_counter_ns() - began))
        return summary

    def draft(self, tokens: Sequence[int], limit: int, stop_below: float) -> tuple[list[int], list[float], str]:
        """See `Engine.draft`."""
        before, began = self.engine.length, perf_counter_ns()
        found = self.engine.draft(tokens, limit, stop_below)
        self.calls.append(Call(len(tokens), len(found[0]), before, perf_counter_ns() - began))
        return found


@dataclass(frozen=True)
class Calibration:
    """What a calibrator decodes: in this process, or in a session's own beside each example that it measures."""

    engine: str
    max_length: int
    widest: int
    seed: int
    decode: DecodeConfig
    begun: int = 0
    """Texts that were decoded before: the cycle of settings goes on from there."""

    def begin(self, pair: Pair) -> Callable[[list[int]], list[dict[str, Any]]]:
        """Return what decodes a source in the next settings, and tells the times as plain data."""
        calibrator = Calibrator(pair, self)

        def after(source: list[int]) -> list[dict[str, Any]]:
            calibrator.texts.clear()
            for _ in range(BESIDE):
                calibrator.next(source)
            return [asdict(text) for text in calibrator.texts]

        return after


class Calibrator:
    """Decodes texts in a cycle of settings by the very engines that are measured, and keeps the times of all passes."""

    def __init__(self, pair: Pair, plan: Calibration) -> None:
        self.pair, self.plan = pair, plan
        self.large, self.small = pair.engine("large", plan.engine), pair.engine("small", plan.engine)
        self.settings = calibration_settings(plan.widest)
        self.random = random.Random(plan.seed)
        self.queue: list[CalibrationSetting] = []
        self.texts: list[TimedText] = []
        for _ in range(plan.begun % len(self.settings)):
            self.draw()

    def draw(self) -> CalibrationSetting:
        """Return the setting whose turn it is; a cycle has them all in random order."""
        if not self.queue:
            self.queue = list(self.settings)
            self.random.shuffle(self.queue)
        return self.queue.pop()

    def next(self, source: Sequence[int]) -> None:
        """Decode one source in the setting whose turn it is."""
        self._decode(self.draw(), source)

    def run(self, sources: Sequence[Sequence[int]], seconds: float) -> None:
        """Warm up, then go on for so many seconds, and for whole cycles enough to fit."""
        settings, plan = [(each.method, each.threshold) for each in self.settings], self.plan
        lengths = [len(source) for source in sources]
        prepare(self.pair, plan.engine, settings, lambda: lengths, plan.max_length, plan.decode)
        for setting in self.settings:
            self._decode(setting, sources[0])
        self.texts.clear()
        gc.collect()
        with collector_off():  # as in a measurement
            began, n = perf_counter(), 0
            while perf_counter() - began < seconds or n < _least_texts(self.settings):
                self.next(sources[n % len(sources)])
                n += 1

    def _decode(self, setting: CalibrationSetting, source: Sequence[int]) -> None:
        engines: dict[str, Any] = {
            "large": None if setting.method.name == "small" else TimedEngine(self.large),
            "small": None if setting.method.name == "vanilla" else TimedEngine(self.small),
        }
        make = policy_for(setting.method, setting.threshold)
        policy = make(start=self.pair.start, eos=self.pair.eos, max_length=self.plan.max_length)
        run = run_live(policy, source, engines["large"], engines["small"], self.plan.decode)
        calls = {role: engine.calls if engine else [] for role, engine in engines.items()}
        encode = {role: run.phases_ns[f"encode_{role}"] for role in engines}
        inside = sum(call.ns for own in calls.values() for call in own)
        self.texts.append(
            TimedText(
                setting=setting.name,
                source=len(source),
                total_ns=run.total_ns,
                encode_ns=encode,
                rest_ns=run.total_ns - sum(encode.values()) - inside,
                calls=calls,
                small_passes=run.small_passes,
                large_passes=run.large_passes,
                length=len(run.decoded.tokens),
            )
        )


class CalibrationSetting(NamedTuple):
    """A method at a setting, and what it is called among the times."""

    name: str
    method: MethodConfig
    threshold: ThresholdConfig


def calibration_settings(widest: int) -> list[CalibrationSetting]:
    """Return settings with passes of all widths up to `widest` drafted tokens, in many mixtures of the models."""
    usual = ThresholdConfig()
    # Vanilla more often than any other: every speedup hangs on it.
    found = [CalibrationSetting("vanilla", MethodConfig("vanilla"), usual)] * 3
    limits = sorted({1, 2, 3, max(1, widest // 2), max(1, 3 * widest // 4), widest})
    thresholds = [(0.0, 3.0), (0.3, 6.0), (0.5, 2.0), (0.6, 5.0), (0.7, 3.0), (0.9, 1.0), (0.8, float("inf"))]
    for n, (fb, rb) in enumerate(thresholds):
        limit = widest if n % 2 else limits[n % len(limits)]
        name = f"fb{fb}-rb{rb}-k{limit}"
        found.append(CalibrationSetting(name, MethodConfig("bild", max_draft=limit), ThresholdConfig(fb, rb)))
    found += [CalibrationSetting(f"window{k}", MethodConfig("speculative", max_draft=k), usual) for k in limits]
    found.append(CalibrationSetting("small", MethodConfig("small"), usual))
    return found


def _least_texts(settings: Sequence[CalibrationSetting]) -> int:
    return max(_LEAST_TEXTS, 2 * len(settings))


def calibration_texts(widest: int) -> int:
    """Return the least number of texts that a calibration decodes, warm-up included."""
    settings = calibration_settings(widest)
    return len(settings) + _least_texts(settings)


class Pricing:
    """The prices of a sweep: those for one pair, engine, machine and set of versions, kept in the tree's folder."""

    def __init__(self, work: SweepWork, folder: Path) -> None:
        self.work = work
        self.path = folder / PRICES
        # As it comes back from the file.
        self.identity = json.loads(json.dumps(work.price_identity()))
        self._before: list[TimedText] = []
        """Texts from before the measurement."""
        self._beside: list[TimedText] = []
        """Those from beside it."""
        self.seconds: float | None = None
        """That calibration took; None where the stored prices hold."""

    def prices(self) -> Prices:
        """Return the stored prices where they hold, else calibrate for `sweep.calibration` seconds and store those."""
        stored = self._stored() if self.work.config.resume else None
        return stored or self._calibrate()

    def save(self, prices: Prices) -> None:
        """Write `prices.json`, in one step."""
        write_json(self.path, prices)

    def beside(self) -> Calibration | None:
        """Return what the next session decodes for prices; None once there are enough texts."""
        return self._cycle() if len(self._beside) < _ENOUGH else None

    def _cycle(self) -> Calibration:
        config = self.work.config
        begun = len(self._before) + len(self._beside)
        limit, widest = config.task.target_limit, widest_draft(config.sweep)
        return Calibration(config.engine.name, limit, widest, config.measure.seed, config.decode, begun)

    def heard(self, texts: Sequence[dict[str, Any]]) -> None:
        """Take the texts that a session decoded for prices."""
        self._beside += [decode(TimedText, text) for text in texts]

    def renewed(self, prices: Prices) -> Prices:
        """Return prices from the texts beside the measurement, those before it too where they are few.

        The prices as they are where nothing was measured.
        """
        if not self._beside:
            return prices
        few = len(self._beside) < _CALIBRATION_TEXTS
        try:
            return fit_prices([*self._before, *self._beside] if few else self._beside, self.identity)
        except BildError:
            return prices

    def _stored(self) -> Prices | None:
        if not self.path.is_file():
            return None
        try:
            prices = read_prices(self.path)
        except BildError as error:
            say(f"warning: {error}")
            return None
        return prices if config_hash(prices.identity) == config_hash(self.identity) else None

    def _calibrate(self) -> Prices:
        work, seconds = self.work, self.work.config.sweep.calibration
        sources = [work.source(example) for example in work.queue[:_CALIBRATION_TEXTS]]
        warning = busy_warning(state(work.device))
        if warning:
            say(f"warning: {warning}")
        say(f"Calibrating prices for {seconds:g} s")
        calibrator = Calibrator(work.pair, self._cycle())
        with device_lock(uuid_of(work.device)):
            began = perf_counter()
            calibrator.run(sources, seconds)
            self.seconds = perf_counter() - began
        self._before = calibrator.texts
        prices = fit_prices(self._before, self.identity)
        self.save(prices)
        return prices
