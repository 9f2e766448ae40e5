"""The sweep itself: tree, prices, predictions, the measured front; every stage goes on from what is there."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bild.errors import BildError
from bild.progress import track
from bild.results.folder import write_atomically
from bild.results.hashing import SHORT
from bild.results.locking import waiting_lock
from bild.results.parts import Engine
from bild.results.predicted import (
    PREDICTED,
    PREDICTED_SCHEMA,
    Agreement,
    Metric,
    Predicted,
    PredictedPoint,
    predicted_to_json,
    read_predicted,
)
from bild.results.prices import Prices
from bild.sweep import pricing
from bild.sweep.context import Grown, Work
from bild.sweep.grid import grid_points, published_settings
from bild.sweep.measure_front import Contender, Contest, choose, open_contenders, sweep_hash
from bild.sweep.predict import Outcome, Predictor
from bild.sweep.pricing import Calibrator
from bild.tree import Replay

_LOCK = ".sweep.lock"


@dataclass
class Swept:
    """A finished sweep: its points, where they are, and what failed."""

    folder: Path
    tree: Path
    predicted: Predicted
    examples: int
    """Measured."""
    failed: list[str] = field(default_factory=list)


class Sweep:
    """One sweep over one tree."""

    def __init__(self, work: Work, conf: Path) -> None:
        self.work = work
        config = work.config
        published = published_settings(conf, config.task.name, config.model.name) if config.sweep.published else []
        self.points = grid_points(config.sweep, config.task, config.method, published)
        self.grown = Grown(work)
        self._calibrator: Calibrator | None = None

    def run(self) -> Swept:
        """Do all that is still to do. Another process on the same results is waited for, and its work used."""
        with self.locked():
            return self._run()

    def locked(self) -> AbstractContextManager[None]:
        """Hold the results' folder against other sweeps; where one is at it, wait."""
        folder = self.work.folder
        return waiting_lock(folder / _LOCK, f"is sweeping in {folder}")

    def _run(self) -> Swept:
        replays = self.grown.replays([point.setting for point in self.points])
        tree = self.grown.tree
        prices = self._prices(tree.path)
        predictor = self.predictor()
        outcomes = self.outcomes(predictor, replays, prices)
        folder = self.work.folder / f"sweep-{sweep_hash(self.work, tree.hash, self.points)[:SHORT]}"
        points = predictor.points(outcomes, prices)
        chosen = self._chosen(folder, points)
        self._write(folder, self._predicted(points, prices, chosen, replays, finished=False))
        with ExitStack() as stack:
            named = [
                (point, why, predictor.estimate(outcome, outcomes[0]).score)
                for point, outcome, why in zip(self.points, outcomes, chosen, strict=True)
                if why is not None
            ]
            contenders = open_contenders(stack, self.work, named)
            if not self.work.config.resume:  # the tree stays: what it holds does not depend on the clock
                for contender in contenders:
                    contender.subject.folder.clear()
            contest = Contest(self.work, contenders, self._beside(contenders))
            examples = contest.run()
            prices, outcomes = self._settle_prices(tree.path, prices, contest, outcomes, replays)
            points = predictor.points(outcomes, prices)
            predicted = self._predicted(points, prices, chosen, replays, finished=True)
            predicted = self._with_measured(predicted, contest, outcomes, prices)
        self._write(folder, predicted)
        pricing.save(folder, prices)
        failed = [f"{c.point.label} failed on {c.failed}" for c in contenders if c.failed]
        return Swept(folder, tree.path, predicted, examples, failed)

    def predictor(self) -> Predictor:
        """For the examples of the tree."""
        tree, measure = self.grown.tree, self.work.config.measure
        return Predictor(self.grown.scorer, len(tree.examples), measure.confidence, measure.seed)

    def outcomes(self, predictor: Predictor, replays: Sequence[Replay], prices: Prices) -> list[Outcome]:
        """What every point comes to; vanilla is the first."""
        return [predictor.outcome(p, replay, prices) for p, replay in zip(self.points, replays, strict=True)]

    def _prices(self, folder: Path) -> Prices:
        stored = pricing.stored_prices(folder, self.work) if self.work.config.resume else None
        if stored is not None:
            return stored
        self._calibrator = pricing.calibrator_for(self.work)
        return pricing.calibrate(folder, self.work, self._calibrator)

    def prices(self) -> Prices:
        """As stored beside the tree, or calibrated now."""
        return self._prices(self.grown.tree.path)

    def _chosen(self, folder: Path, predicted: Sequence[PredictedPoint]) -> list[str | None]:
        """Which points are measured; once chosen, a later run keeps to them, and adds some where it asks for more."""
        most = self.work.config.sweep.front
        earlier: list[str | None] = [None] * len(self.points)
        if self.work.config.resume and (folder / PREDICTED).is_file():
            try:
                found = read_predicted(folder / PREDICTED)
                earlier = [point.chosen for point in found.points]
                if found.asked == most:
                    return earlier
            except BildError as error:
                print(f"warning: {error}", file=sys.stderr)
        return [old or new for old, new in zip(earlier, choose(self.points, predicted, most), strict=True)]

    def _beside(self, contenders: Sequence[Contender]) -> pricing.Beside | None:
        least = min((len(c.subject.folder.samples()) for c in contenders), default=0)
        if least >= min(self.work.config.sweep.least, len(self.work.queue)):
            return None  # measured before: prices next to nothing would be worse than those that are there
        return pricing.Beside(self.work)

    def _settle_prices(
        self,
        folder: Path,
        prices: Prices,
        contest: Contest,
        outcomes: Sequence[Outcome],
        replays: Sequence[Replay],
    ) -> tuple[Prices, list[Outcome]]:
        """Prices that were taken next to the measurement, with an error from the measured points; and the outcomes."""
        if isinstance(contest.beside, pricing.Beside):
            before = self._calibrator.timer.texts if self._calibrator is not None else []
            prices = contest.beside.prices(before) or prices
        anew = [
            dataclasses.replace(outcome, seconds=replay.priced(prices))
            for outcome, replay in zip(outcomes, replays, strict=True)
        ]
        found = [a for a in self._agreements(contest, anew, prices) if a]
        prices = pricing.with_measured_error(prices, found)  # the error alone changes, and no seconds with it
        pricing.save(folder, prices)
        return prices, anew

    def _agreements(self, contest: Contest, outcomes: Sequence[Outcome], prices: Prices) -> list[Agreement | None]:
        """Prediction and measurement of every contender on the examples that it was measured on."""
        places = {example.id: i for i, example in enumerate(self.grown.tree.examples)}
        by_key = {outcome.point.key: outcome for outcome in outcomes}
        found: list[Agreement | None] = []
        for c in contest.contenders:
            samples = contest.samples(c)
            if c.failed is not None or c.point.method.name == "vanilla" or not samples:
                found.append(None)
                continue
            rows = np.array([places[s.id] for s in samples])
            found.append(
                pricing.agreement(
                    by_key[c.point.key].seconds[rows].tolist(),
                    outcomes[0].seconds[rows].tolist(),
                    [s.seconds for s in samples],
                    contest.speedup(c),
                    prices.error,
                )
            )
        return found

    def _with_measured(
        self, predicted: Predicted, contest: Contest, outcomes: Sequence[Outcome], prices: Prices
    ) -> Predicted:
        agreements = self._agreements(contest, outcomes, prices)
        by_key = {c.point.key: (c, a) for c, a in zip(contest.contenders, agreements, strict=True)}
        points = []
        for point, own in zip(self.points, predicted.points, strict=True):
            if point.key in by_key:
                c, agreement = by_key[point.key]
                folder = c.subject.folder
                own = dataclasses.replace(
                    own,
                    measured=folder.path.name if c.in_it and folder.record() is not None else None,
                    dropped=c.gone or (f"failed on {c.failed}" if c.failed else None),
                    agreement=agreement,
                )
            points.append(own)
        return dataclasses.replace(predicted, points=points)

    def _predicted(
        self,
        points: Sequence[PredictedPoint],
        prices: Prices,
        chosen: Sequence[str | None],
        replays: Sequence[Replay],
        *,
        finished: bool,
    ) -> Predicted:
        work, tree = self.work, self.grown.tree
        engine = work.config.engine
        return Predicted(
            schema=PREDICTED_SCHEMA,
            hash=sweep_hash(work, tree.hash, self.points),
            tree=tree.hash,
            task=work.config.task.name,
            pair=work.config.model.pair_name,
            machine=work.environment["machine"],
            packages=work.environment["packages"],
            engine=Engine(engine.name, engine.dtype, str(work.device), engine.threads),
            examples=len(tree.examples),
            data_hash=work.data.provenance["hash"],
            metric=Metric(self.grown.scorer.name, self.grown.scorer.signature),
            confidence=work.config.measure.confidence,
            prices=prices.error,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            finished=finished,
            points=[dataclasses.replace(p, chosen=why) for p, why in zip(points, chosen, strict=True)],
            asked=work.config.sweep.front,
            marked=sorted({name for replay in track(replays, len(replays), "near ties") for name in replay.marked}),
        )

    def _write(self, folder: Path, predicted: Predicted) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / PREDICTED, predicted_to_json(predicted))
