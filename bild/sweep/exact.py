"""The quality of a point over all examples of a tree, whatever was timed: replayed, and settled live where rounding
could tip a decision.

Where an example was timed, its live text counts. Where one is marked (`Replay.marked`) and was not timed, it is decoded
live, untimed, as long as `sweep.settle` lasts; these texts are kept beside the tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from bild.decoding.policies import writes_vanilla
from bild.metrics import quality_of
from bild.metrics.statistics import KnownTexts, headline_of, scores_of
from bild.progress import track
from bild.results import config_hash
from bild.results.codec import append_lines, read_lines
from bild.results.parts import Joint, Quality
from bild.results.record import Record
from bild.results.sample import Sample
from bild.sweep.context import SweepWork
from bild.sweep.predict import Candidate
from bild.tree import Tree
from bild.tree.identity import settle

SETTLED = "settled.jsonl"
_AT_ONCE = 8


@dataclass(frozen=True)
class SettledText:
    """One text of one point, decoded live, as a line of the file; `made_by` hashes engine, machine and versions."""

    point: str
    made_by: str
    id: str
    tokens: list[int]
    same: bool
    """Whether the replay had said the same."""
    seconds: float


class SettledTexts:
    """The texts that were settled live, in a file beside the tree."""

    def __init__(self, work: SweepWork, tree: Tree) -> None:
        self.work, self.tree = work, tree
        self.path = tree.path / SETTLED
        self.made_by = config_hash({name: work.identity[name] for name in ("engine", "machine", "packages", "python")})
        self.texts: dict[str, dict[str, str]] = {}
        """By point and example."""
        self._known = KnownTexts(scores_of(work.config.task.metric))
        self.seconds = 0.0
        """All that was spent on them, in this process and before."""
        for line in read_lines(SettledText, self.path):
            if line.made_by == self.made_by:
                self._keep(line)

    def _keep(self, line: SettledText) -> None:
        self.texts.setdefault(line.point, {})[line.id] = self.tree.decode(line.tokens)
        self.seconds += line.seconds

    def settle(self, candidates: Sequence[Candidate], timed: Mapping[str, Sequence[Sample]]) -> None:
        """Decode live what is marked and was not timed, in the queue's order, until `sweep.settle` minutes are spent.

        `timed` has the samples of points by their key.
        """
        todo = self._todo(candidates, timed)
        limit, work = 60 * self.work.config.sweep.settle, self.work
        if not todo or self.seconds >= limit:
            return
        for c, ids in track(todo, len(todo), "settling near ties"):
            assert c.replay is not None
            began = perf_counter()
            found = settle(self.tree, work.pair, c.replay, engine=work.config.engine.name, ids=ids)
            each = (perf_counter() - began) / len(ids)
            lines = [SettledText(c.point.key, self.made_by, one.id, one.tokens, one.same, each) for one in found]
            append_lines(self.path, lines)
            for line in lines:
                self._keep(line)
            if self.seconds >= limit:
                return

    def _todo(
        self, candidates: Sequence[Candidate], timed: Mapping[str, Sequence[Sample]]
    ) -> list[tuple[Candidate, list[str]]]:
        """Return what is open in small lots, points in turn, so that what the time does not reach is a random part."""
        place = {example.id: i for i, example in enumerate(self.work.queue)}
        lots = []
        for c in candidates:
            assert c.replay is not None
            done = {*self.texts.get(c.point.key, ()), *(sample.id for sample in timed.get(c.point.key, ()))}
            open_ids = sorted(set(c.replay.marked) - done, key=place.__getitem__)
            lots += [(i, c, open_ids[i : i + _AT_ONCE]) for i in range(0, len(open_ids), _AT_ONCE)]
        return [(c, ids) for _, c, ids in sorted(lots, key=lambda lot: lot[0])]

    def quality(self, candidate: Candidate, vanilla: Candidate, samples: Sequence[Sample]) -> tuple[Quality, int]:
        """Judge a point over all examples of the tree beside vanilla; also return how many marked texts are open."""
        texts, settled, unsettled = self._texts(candidate, {sample.id: sample.text for sample in samples})
        baseline = self._texts(vanilla, {sample.id: sample.baseline.text for sample in samples})[0]
        config = self.work.config
        references = [example.reference for example in self.tree.examples]
        own, others = (self._known.compute(each, references) for each in (texts, baseline))
        found = quality_of(
            headline_of(config.task.metric),
            own,
            others,
            confidence=config.measure.confidence,
            exact=writes_vanilla(*candidate.point.setting),
            data=self.work.data.provenance["hash"],
        )
        return dataclasses.replace(found, origin="tree", settled=settled), unsettled

    def _texts(self, candidate: Candidate, live: dict[str, str]) -> tuple[list[str], int, int]:
        """Return all texts of a point, how many marked ones were decoded live, and how many were not."""
        assert candidate.replay is not None
        marked, settled = set(candidate.replay.marked), self.texts.get(candidate.point.key, {})
        known = {name: text for name, text in settled.items() if name in marked} | live
        texts = [
            known.get(example.id, text) for example, text in zip(self.tree.examples, candidate.replay.text, strict=True)
        ]
        decided = len(marked & known.keys())
        return texts, decided, len(marked) - decided


def joined(record: Record, exact: Quality) -> Record:
    """Return the record of a point that was timed on some examples with its quality over all of them.

    The difference over all moves with the speedup of some by their share of the examples.
    """
    joint, differences = record.joint, exact.difference
    if joint is not None and differences is not None:
        share = record.latency.examples / exact.examples
        joint = Joint(joint.speedup_sd, differences[exact.headline].sd, joint.correlation * share**0.5)
    return dataclasses.replace(record, quality=exact, joint=joint)
