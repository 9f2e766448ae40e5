"""The sweep itself: tree, prices, predictions, the measured front; every stage goes on from what is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bild.errors import BildError
from bild.progress import say, track
from bild.results import config_hash
from bild.results.files import write_atomically
from bild.results.folder import SHORT
from bild.results.parts import Engine, Interval
from bild.results.predicted import (
    PREDICTED,
    PREDICTED_SCHEMA,
    Metric,
    Predicted,
    predicted_to_json,
    read_predicted,
)
from bild.sweep.config import SweptPoint
from bild.sweep.context import GrownTree, Work
from bild.sweep.cost_model import with_measured_error
from bild.sweep.measure_front import MeasuredFront, choose, open_folders
from bild.sweep.predict import agreement
from bild.sweep.pricing import Pricing


@dataclass
class Swept:
    """A finished sweep: its points, where they are, and what failed."""

    folder: Path
    tree: Path
    predicted: Predicted
    examples: int
    """Measured."""
    failed: list[str] = field(default_factory=list)


def sweep(work: Work, points: Sequence[SweptPoint]) -> Swept:
    """Do all that is still to do for these points, vanilla first among them.

    Another process on the same results is waited for, and its work used.
    """
    with work.locked():
        return _Sweep(work, points).run()


class _Sweep:
    """One sweep over one tree, as far as it is."""

    def __init__(self, work: Work, points: Sequence[SweptPoint]) -> None:
        self.work = work
        self.grown = GrownTree(work)
        replays = self.grown.replays(points)
        self.tree = self.grown.tree
        self.predictor = self.grown.predictor
        self.pricing = Pricing(work, self.tree.path)
        self.prices = self.pricing.prices()
        self.candidates = [self.predictor.candidate(p, r, self.prices) for p, r in zip(points, replays, strict=True)]
        self.hash = sweep_hash(work, self.tree.hash, points)
        self.folder = work.folder / f"sweep-{self.hash[:SHORT]}"

    def run(self) -> Swept:
        """Predict, measure what is chosen, and settle the prices by what was measured."""
        self.predictor.predict(self.candidates, self.prices)
        self._choose()
        self._write(finished=False)
        chosen = [c for c in self.candidates if c.chosen is not None]
        with ExitStack() as stack:
            open_folders(stack, self.work, chosen)
            # Beside points that were measured before there is nothing to calibrate next to.
            fresh = min(len(c.folder.samples()) for c in chosen) < min(
                self.work.config.sweep.least, len(self.work.queue)
            )
            front = MeasuredFront(self.work, chosen, self.pricing.beside if fresh else None)
            examples = front.run()
            self._settle_prices(front, renew=fresh)
            self.predictor.predict(self.candidates, self.prices)
            predicted = self._write(finished=True)
        failed = [f"{c.point.label} failed on {c.failed}" for c in chosen if c.failed]
        return Swept(self.folder, self.tree.path, predicted, examples, failed)

    def _choose(self) -> None:
        """Choose what is measured; a later run keeps to what was chosen, and adds some where it asks for more."""
        most, path = self.work.config.sweep.front, self.folder / PREDICTED
        if self.work.config.resume and path.is_file():
            try:
                found = read_predicted(path)
                for candidate, earlier in zip(self.candidates, found.points, strict=True):
                    candidate.chosen = earlier.chosen
                if found.asked == most:
                    return
            except BildError as error:
                say(f"warning: {error}")
        choose(self.candidates, most)

    def _settle_prices(self, front: MeasuredFront, *, renew: bool) -> None:
        """Take the prices from beside the measurement, and their error from the measured points."""
        if renew:
            self.prices = self.pricing.renewed(self.prices)
        for candidate in self.candidates:
            candidate.reprice(self.prices)
        self._compare(front)
        found = [c.agreement for c in front.candidates if c.agreement is not None]
        self.prices = with_measured_error(self.prices, found)  # the error alone changes, and no seconds with it
        self._compare(front)
        self.pricing.save(self.prices)

    def _compare(self, front: MeasuredFront) -> None:
        """Compare prediction and measurement of every candidate, on the examples that it was measured on."""
        places = {example.id: i for i, example in enumerate(self.tree.examples)}
        vanilla = self.candidates[0]
        for c in front.candidates:
            samples = front.samples(c)
            if c.failed is not None or c is vanilla or not samples:
                continue
            rows = np.array([places[s.id] for s in samples])
            speedup = front.speedup(c)
            c.agreement = agreement(
                c.seconds[rows],
                vanilla.seconds[rows],
                [s.seconds for s in samples],
                Interval(speedup.value, speedup.low, speedup.high),
                self.prices.error,
            )

    def _write(self, *, finished: bool) -> Predicted:
        work, engine, scorer = self.work, self.work.config.engine, self.predictor.scorer
        replays = [c.replay for c in self.candidates if c.replay is not None]
        predicted = Predicted(
            schema=PREDICTED_SCHEMA,
            hash=self.hash,
            tree=self.tree.hash,
            task=work.config.task.name,
            pair=work.config.model.pair_name,
            machine=work.environment["machine"],
            packages=work.environment["packages"],
            engine=Engine(engine.name, engine.dtype, str(work.device), engine.threads),
            examples=len(self.tree.examples),
            data_hash=work.data.provenance["hash"],
            metric=Metric(scorer.name, scorer.signature),
            confidence=work.config.measure.confidence,
            prices=self.prices.error,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            finished=finished,
            points=[c.to_record() for c in self.candidates],
            asked=work.config.sweep.front,
            marked=sorted({name for replay in track(replays, len(replays), "near ties") for name in replay.marked}),
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / PREDICTED, predicted_to_json(predicted))
        return predicted


def sweep_hash(work: Work, tree: str, points: Sequence[SweptPoint]) -> str:
    """Return the hash that names a sweep: of the examples, pair, engine, machine and versions, and its points."""
    return config_hash(
        work.identity | {"tree": tree, "data": work.data.provenance["hash"], "points": [p.key for p in points]}
    )
