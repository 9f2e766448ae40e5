"""`sweep.find`: a search over the replays of a sweep's tree, which grows where the search goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bild.config import MethodConfig, ThresholdConfig
from bild.sweep.drive import Sweep
from bild.sweep.grid import BASELINE, SweptPoint
from bild.sweep.predict import Outcome
from bild.sweep.search import Answer, Search
from bild.sweep.settings import Goal
from bild.tasks.dataset import place

_SPLIT_SEED = -1


def find(sweep: Sweep, goal: Goal) -> Answer:
    """Search over the thresholds of every rule set and draft limit of the sweep."""
    work, grown = sweep.work, sweep.grown
    with sweep.locked():
        usual = SweptPoint(MethodConfig("vanilla"), ThresholdConfig(), BASELINE)
        replay = grown.replays([usual.setting])[0]
        prices = sweep.prices()
        predictor = sweep.predictor()
        vanilla = predictor.outcome(usual, replay, prices)

        def evaluate(points: Sequence[SweptPoint]) -> list[Outcome]:
            replays = grown.replays([point.setting for point in points])
            return [predictor.outcome(p, r, prices) for p, r in zip(points, replays, strict=True)]

        # By the ids alone, so a half does not change with the version of a random generator.
        order = sorted(range(len(grown.tree.examples)), key=lambda i: place(grown.tree.examples[i].id, _SPLIT_SEED))
        half = np.zeros(len(order), dtype=bool)
        half[order[: (len(order) + 1) // 2]] = True
        bases = work.config.sweep.variants(work.config.method)
        return Search(goal, evaluate, predictor, vanilla, half).run(bases)
