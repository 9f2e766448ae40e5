"""The sweep itself: tree, prices, predictions, the measured front; every stage goes on from what is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import perf_counter

import numpy as np

from bild.config import RunConfig
from bild.decoding import Setting
from bild.errors import BildError
from bild.progress import say, timestamp, track
from bild.results import Point, config_hash
from bild.results.codec import write_json
from bild.results.folder import SHORT
from bild.results.parts import Decode, EngineRecord
from bild.results.predicted import PREDICTED, PREDICTED_SCHEMA, Forecast, Metric, Predicted, read_predicted
from bild.results.prices import PRICES, Prices, read_prices
from bild.sweep.config import SweepConfig
from bild.sweep.context import GrownTree, SweepWork
from bild.sweep.cost_model import with_measured_error
from bild.sweep.estimates import Taken, texts_of
from bild.sweep.grid import GRID, SweptPoint, once, vanilla_point
from bild.sweep.measure_front import MeasuredFront, Reached, choose, open_folders
from bild.sweep.predict import Candidate, Priced, agreement
from bild.sweep.pricing import Pricing


@dataclass
class Swept:
    """A finished sweep: its points, where they are, and what failed."""

    folder: Path
    tree: Path
    predicted: Predicted
    examples: int
    """Timed."""
    failed: list[str] = field(default_factory=list)
    open_texts: int = 0
    """Texts of measured points with a decision within rounding that stay as replayed."""
    reached: Reached | None = None
    taken: list[Taken] = field(default_factory=list)
    """The stages that were done, and their time."""


def sweep(work: SweepWork, points: Sequence[SweptPoint]) -> Swept:
    """Do all that is still to do for these points, vanilla first among them.

    Another process on the same results is waited for, and its work used.
    """
    with work.locked():
        return _Sweep(work, points).run()


def measure_fixed(
    work: SweepWork, points: Sequence[SweptPoint], timed: int | None = None
) -> tuple[dict[str, Point], list[str]]:
    """Judge these points and no others on all examples, by a tree of their paths, and time them live on some.

    Return them by the key of the setting, and in words those that failed.

    `timed` examples; None: in stages, as `sweep.width` and `sweep.minutes` say.
    """
    chosen = once([vanilla_point(), *points])
    with work.locked():
        grown = GrownTree(work)
        replays = grown.replays(chosen)
        nothing = np.zeros(0)
        candidates = [Candidate(p, nothing, nothing, r, chosen=p.origin) for p, r in zip(chosen, replays, strict=True)]
        with ExitStack() as stack:
            open_folders(stack, work, candidates)
            MeasuredFront(work, candidates, grown.tree).run(timed)
            records = [(c, c.folder.record()) for c in candidates]
            found = {c.point.key: Point(c.folder.path, record) for c, record in records if record is not None}
        return found, [f"{c.point.label} failed on {c.failed}" for c in candidates if c.failed]


def replay_and_time(config: RunConfig, settings: Sequence[Setting], timed: int) -> list[Point]:
    """Judge a fixed list of settings on all examples of a task, and time them live on so many of them.

    Quality comes from a decision tree over all of `config.task`, speed from the timed ones: a random part. BildError
    where a setting fails.
    """
    options = {each.name: getattr(config, each.name) for each in fields(RunConfig)}
    points = [SweptPoint(*each, GRID) for each in settings]
    found, failed = measure_fixed(SweepWork(SweepConfig(**options)), points, timed)
    if failed:
        raise BildError(f"Not everything was measured: {'; '.join(failed)}; the same command tries again.")
    return [found[point.key] for point in points]


class _Sweep:
    """One sweep over one tree, as far as it is."""

    def __init__(self, work: SweepWork, points: Sequence[SweptPoint]) -> None:
        self.work = work
        self.grown = GrownTree(work)
        self.replays = self.grown.replays(points)
        self.tree = self.grown.tree
        self.predictor = self.grown.predictor
        self.pricing = Pricing(work, self.tree.path)
        own = {"tree": self.tree.hash, "data": work.data.provenance["hash"], "points": [p.key for p in points]}
        self.hash = config_hash(work.identity | own)
        self.folder = work.folder / f"sweep-{self.hash[:SHORT]}"
        self.prices = self.pricing.prices()
        self.before = self._before()
        self.candidates = [
            self.predictor.candidate(p, r, self.before) for p, r in zip(points, self.replays, strict=True)
        ]

    def _before(self) -> Prices:
        """Return the prices from before the measurement: kept once, and never changed by what is measured."""
        path = self.folder / PRICES
        if self.work.config.resume and path.is_file():
            return read_prices(path)
        write_json(path, self.prices)
        return self.prices

    def run(self) -> Swept:
        """Predict, measure what is chosen, settle the prices by what was measured, and judge what was predicted."""
        self.predictor.predict(self.candidates, self.before)
        for c in self.candidates:
            c.before = Forecast(c.predicted.seconds, c.predicted.speedup)
        self._choose()
        self._write(finished=False)
        chosen = [c for c in self.candidates if c.chosen is not None]
        with ExitStack() as stack:
            open_folders(stack, self.work, chosen)
            # Beside points that were measured before there is nothing to calibrate next to.
            fresh = min(len(c.folder.samples()) for c in chosen) < min(
                self.work.config.sweep.least, len(self.work.queue)
            )
            front = MeasuredFront(self.work, chosen, self.tree, self.pricing if fresh else None)
            began, decoded = perf_counter(), max(len(c.folder.samples()) for c in chosen)
            examples = front.run()
            live = (perf_counter() - began, examples - decoded)
            if fresh:
                self.prices = self.pricing.renewed(self.prices)
            self._settle(front)
            predicted = self._write(finished=True)
        failed = [f"{c.point.label} failed on {c.failed}" for c in chosen if c.failed]
        return Swept(
            self.folder,
            self.tree.path,
            predicted,
            examples,
            failed,
            open_texts=sum(c.unsettled for c in chosen),
            reached=front.reached(),
            taken=self._taken(len(chosen), *live),
        )

    def _taken(self, measured: int, live: float, decoded: int) -> list[Taken]:
        """Return the stages that this process did from end to end, and what they took."""
        examples = len(self.tree.examples)
        done = {"tree": (self.grown.seconds, examples), "prices": (self.pricing.seconds, examples)}
        done["live"] = (live if decoded > 0 else None, decoded)
        config = self.work.config
        return [
            Taken(
                stage=stage,
                machine=self.work.identity["machine"],
                engine=config.engine.name,
                pair=config.model.pair_name,
                task=config.task.name,
                seconds=seconds,
                texts=texts_of(config, stage, count, measured),
                text=float(self.candidates[0].seconds.mean()),
            )
            for stage, (seconds, count) in done.items()
            if seconds is not None
        ]

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

    def _settle(self, front: MeasuredFront) -> None:
        """Compare the earlier predictions with what was measured, and predict all points anew by the settled prices.

        The error of the settled prices is that of the measured points: it stands beside the points that were not.
        """
        before = {c.point.key: c.seconds for c in front.candidates}
        for c, replay in zip(self.candidates, self.replays, strict=True):
            c.seconds = replay.priced(self.prices)
        places = {example.id: i for i, example in enumerate(self.tree.examples)}
        vanilla = self.candidates[0]
        for c in front.candidates:
            samples = front.samples(c)
            if c.failed is not None or c is vanilla or not samples:
                continue
            rows = np.array([places[s.id] for s in samples])
            earlier = Priced(before[c.point.key][rows], before[vanilla.point.key][rows])
            settled = Priced(c.seconds[rows], vanilla.seconds[rows])
            measured = np.array([s.seconds for s in samples])
            c.agreement = agreement(earlier, settled, measured, front.speedup(c), self.before.error)
        self.prices = with_measured_error(self.prices, [c.agreement for c in front.candidates if c.agreement])
        self.predictor.predict(self.candidates, self.prices)
        self.pricing.save(self.prices)

    def _write(self, *, finished: bool) -> Predicted:
        work, engine, scorer = self.work, self.work.config.engine, self.predictor.scorer
        predicted = Predicted(
            schema=PREDICTED_SCHEMA,
            hash=self.hash,
            tree=self.tree.hash,
            task=work.config.task.name,
            pair=work.config.model.pair_name,
            machine=work.environment["machine"],
            packages=work.environment["packages"],
            engine=EngineRecord(engine.name, engine.dtype, str(work.device), engine.threads),
            examples=len(self.tree.examples),
            data_hash=work.data.provenance["hash"],
            metric=Metric(scorer.name, scorer.signature),
            confidence=work.config.measure.confidence,
            prices=self.prices.error,
            before=self.before.error,
            created=timestamp(),
            finished=finished,
            points=[c.to_record() for c in self.candidates],
            asked=work.config.sweep.front,
            decode=Decode.of(work.config.decode),
            models={name: self.tree.identity["pair"][name] for name in ("large", "small")},
            marked=sorted(
                {name for replay in track(self.replays, len(self.replays), "near ties") for name in replay.marked}
            ),
        )
        write_json(self.folder / PREDICTED, predicted, indent=1)
        return predicted
