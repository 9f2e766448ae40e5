"""Draw what each kind of pair can give, and what it would take to be twice as fast (docs/pairs.md).

    python scripts/draw_pairs.py task=multi30k-files task.path=FOLDER task.samples=300
    python scripts/draw_pairs.py --pairs embedded-bridge --out pairs.png

Each pair's texts are replayed on decision trees of the task's split, so quality and passes are exact; seconds are
prices. "here" is this machine: the passes of `engine=fused`, timed for `sweep.calibration` seconds a pair. "flat" is a
GPU that reads its weights once for every pass, however wide: a verification costs one large step, an encoder too, the
host nothing. Settings are the best of a grid on the texts that are shown, which flatters them.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bild.cli import compose
from bild.config import MethodConfig
from bild.results.prices import PassPrice, Prices
from bild.sweep.config import SweepConfig
from bild.sweep.context import GrownTree, SweepWork
from bild.sweep.grid import SweptPoint, points_of, vanilla_point
from bild.sweep.pricing import Pricing
from bild.tree.outcome import Replay

Floats = NDArray[np.float64]
KINDS = {
    "embedded": "two checkpoints",
    "embedded-aligned": "aligned",
    "embedded-bridge": "shared encoder, aligned",
    "embedded-exit": "early exit",
}
RATIOS = np.array([0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6])
"""Costs of a small step, in steps of vanilla decoding."""
T5 = {"two checkpoints": 0.100, "aligned": 0.100, "shared encoder, aligned": 0.052, "early exit": 0.314}
"""The same by the weights that a token reads: d² times 4 of self-attention, 2 of cross-attention, 8 of feed-forward a
layer, and the head. T5-small for T5-large; one layer of its shape behind T5-large's encoder; 6 of T5-large's 24."""
WINDOW = 10


def grid() -> dict[str, list[SweptPoint]]:
    """Return the settings of each family: exact speculation, BiLD, and what stops before the first rejected token."""
    fb, rb = (0.1, 0.2, 0.3, 0.4, 0.6), (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
    windows = [MethodConfig("speculative", max_draft=k) for k in (1, 2, 3, 4, 6, 8, WINDOW)]
    bild = [MethodConfig("bild", rules="paper"), MethodConfig("bild", rules="authors", unsure="verify", max_draft=10)]
    oracles = [MethodConfig("oracle", max_draft=WINDOW), MethodConfig("oracle", keep="exact", max_draft=WINDOW)]
    made = {
        "exact": [(m, {}) for m in windows] + [(MethodConfig("dynamic", max_draft=WINDOW), {"fb": fb})],
        "BiLD": [(m, {"fb": fb, "rb": rb}) for m in bild],
        "oracle stop": [(oracles[0], {"rb": rb}), (oracles[1], {})],
    }
    return {name: [p for method, axes in some for p in points_of(method, axes)] for name, some in made.items()}


@dataclass
class ReplayedPair:
    """A pair's texts at every setting of the grid."""

    kind: str
    points: list[SweptPoint]
    """Vanilla first."""
    families: list[str]
    """Of each point; vanilla's is empty."""
    replays: list[Replay]
    here: Prices
    differences: Floats
    """Quality of each point less vanilla's."""

    @staticmethod
    def of(config: SweepConfig, kind: str) -> ReplayedPair:
        """Grow what the grid needs of a pair's trees, replay it, and time the passes."""
        own = [("", vanilla_point()), *((family, point) for family, some in grid().items() for point in some)]
        points = [point for _, point in own]
        grown = GrownTree(SweepWork(config))
        replays = grown.replays(points)
        here = Pricing(grown.work, grown.tree.path).prices()
        scores = [replay.quality.value for replay in replays]
        return ReplayedPair(kind, points, [family for family, _ in own], replays, here, np.array(scores) - scores[0])

    @property
    def ratio(self) -> float:
        """The cost of a small step here, in steps of vanilla decoding."""
        return self.here.small.of(1) / self.here.large_alone.of(1)

    def speeds(self, prices: Prices, family: str = "") -> Floats:
        """Return the speedup over vanilla of each point of a family (of all points), by some prices."""
        vanilla = float(self.replays[0].priced(prices).sum())
        chosen = [
            replay for replay, its in zip(self.replays, self.families, strict=True) if not family or its == family
        ]
        return np.array([vanilla / float(replay.priced(prices).sum()) for replay in chosen])

    def prices(self, ratio: float, flat: bool) -> Prices:
        """Return prices with another cost of a small step: those of here, or flat ones."""
        if not flat:
            scale = ratio / self.ratio
            return dataclasses.replace(self.here, small=_scaled(self.here.small, scale))
        step, small = PassPrice({1: 1.0}), PassPrice({1: ratio})
        encoders = {"encode_large": {1: 1.0}, "encode_small": {1: 0.0 if self.here.one_encoder else ratio}}
        alone = {"large_alone": step, "small_alone": small, "round": 0.0, "example": 0.0}
        return dataclasses.replace(self.here, large=step, small=small, **alone, **encoders)

    @cached_property
    def curves(self) -> dict[bool, Floats]:
        """The best speed of exact speculation at each of `RATIOS`, by prices of here (False) and flat ones (True)."""
        return {
            flat: np.array([self.speeds(self.prices(c, flat), "exact").max() for c in RATIOS]) for flat in (False, True)
        }

    def needed(self, flat: bool, speed: float = 2.0) -> str:
        """Say at which cost of a small step exact speculation has a speed."""
        curve = self.curves[flat]
        return f"{np.interp(-speed, -curve, RATIOS):.3f}" if curve.min() <= speed <= curve.max() else "none"

    @cached_property
    def acceptance(self) -> list[float]:
        """The share of drafted tokens that stand, by their place in the draft, where those before them stand."""
        rounds = [r for d in self.replays[self.widest].decoded for r in d.rounds if r.drafted]
        reached = [[r for r in rounds if r.kept >= place and len(r.drafted) > place] for place in range(WINDOW)]
        return [sum(r.kept > place for r in some) / len(some) for place, some in enumerate(reached) if some]

    @property
    def widest(self) -> int:
        """The point with the widest fixed window."""
        return max(i for i, p in enumerate(self.points) if p.setting[0].name == "speculative")

    def best(self, family: str, loss: float) -> float:
        """Return the best speed here of a family among the points within a loss, by the point estimate."""
        kept = self.differences[[its == family for its in self.families]] >= -loss
        return float(self.speeds(self.here, family)[kept].max()) if kept.any() else float("nan")

    def row(self) -> str:
        """Return the pair's line of the table."""
        counts = self.replays[self.widest].counts
        fast = float(np.interp(T5[self.kind], RATIOS, self.curves[True]))
        cells = [
            self.kind,
            f"{self.acceptance[0]:.3f}",
            f"{counts.tokens / counts.large_passes:.2f}",
            f"{self.ratio:.3f}",
            *(f"{self.best(family, loss):.2f}" for family, loss in (("exact", 0.0), ("BiLD", 0.5), ("BiLD", 1.0))),
            f"{self.best('oracle stop', 0.0):.2f}",
            *(self.needed(flat) for flat in (False, True)),
            f"{T5[self.kind]:.3f}: {fast:.2f}",
        ]
        return f"| {' | '.join(cells)} |"


HEAD = """\
| pair | first drafted token stands | tokens per large pass, drafts of 10 | c here | exact | BiLD within 0.5 | \
within 1.0 | oracle stop, no loss | c for 2x here | c for 2x, flat | flat, at T5's c |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"""


def _scaled(price: PassPrice, by: float) -> PassPrice:
    table = {width: by * seconds for width, seconds in price.seconds.items()}
    return dataclasses.replace(
        price, seconds=table, per_position=by * price.per_position, per_source=by * price.per_source
    )


def front(speeds: Floats, differences: Floats) -> list[tuple[float, float]]:
    """Return the points that no other one beats in both, fastest last."""
    found: list[tuple[float, float]] = []
    for speed, difference in sorted(zip(speeds.tolist(), differences.tolist(), strict=True), reverse=True):
        if not found or difference > found[-1][1]:
            found.append((speed, difference))
    return found[::-1]


def draw(pairs: Sequence[ReplayedPair], title: str, path: Path) -> None:
    """Draw the four panels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from bild.report.figure import LIGHT, SERIES, style

    with plt.rc_context(style(LIGHT)):
        figure, ((quality, stands), (wide, ratio)) = plt.subplots(2, 2, figsize=(9.0, 7.2), layout="constrained")
        for pair, color in zip(pairs, SERIES, strict=False):
            chosen = np.array(pair.families)
            for family, dash in (("BiLD", "-"), ("oracle stop", ":")):
                points = front(pair.speeds(pair.here, family), pair.differences[chosen == family])
                quality.plot(*zip(*points, strict=True), dash, color=color, marker="." if family == "BiLD" else None)
            quality.plot(pair.best("exact", 0.0), 0.0, "D", color=color, markersize=7, markeredgecolor="white")
            stands.plot(range(1, len(pair.acceptance) + 1), pair.acceptance, color=color, marker=".", label=pair.kind)
            one, widths = pair.here.large_alone.of(1), range(1, WINDOW + 2)
            wide.plot(widths, [pair.here.large.of(w) / one for w in widths], color=color)
            for flat, dash in ((False, "-"), (True, "--")):
                ratio.plot(RATIOS, pair.curves[flat], dash, color=color)
            ratio.plot(pair.ratio, pair.best("exact", 0.0), "D", color=color, markersize=7, markeredgecolor="white")
            ratio.plot(T5[pair.kind], np.interp(T5[pair.kind], RATIOS, pair.curves[True]), "o", color=color)
        wide.axhline(1.0, linestyle="--", color=LIGHT.quiet)
        ratio.axhline(2.0, linewidth=0.8, color=LIGHT.quiet)
        quality.axvline(1.0, linewidth=0.8, color=LIGHT.quiet)
        quality.set(xlabel="speedup over vanilla here, predicted", ylabel="quality less vanilla's", ylim=(-3.0, None))
        quality.set_title("Exact ◆, BiLD —, oracle stop ···", fontsize=9)
        stands.set(xlabel="place in the draft", ylabel="share that stands, if those before do", ylim=(0.5, 1.0))
        stands.set_title("Acceptance by position (exact, drafts of 10)", fontsize=9)
        wide.set(xlabel="positions of a verification pass", ylabel="its cost, in steps of vanilla decoding")
        wide.set_title("Verification: measured here, and flat (dashed)", fontsize=9)
        ratio.set(
            xlabel="c, cost of a small step in steps of vanilla decoding",
            ylabel="speedup of exact speculation, no loss",
        )
        ratio.set_title("Here — with ◆ at its own c; flat -- with ● at T5's c", fontsize=9)
        figure.legend(*stands.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle(title, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--out", type=Path, default=Path("docs/figures/pairs.png"))
    own, overrides = parser.parse_known_args(argv)
    pairs = []
    for name in own.pairs:
        config = compose([*overrides, f"model={name}", "sweep=quick"], "sweep", SweepConfig)
        pairs.append(ReplayedPair.of(config, KINDS[name]))
    examples = len(pairs[0].replays[0].walks)
    title = f"{config.task.name}, split {config.task.split}, {examples:,} texts: replay, priced"
    draw(pairs, title, own.out)
    print("\n".join([f"{title}; figure: {own.out}", HEAD, *(pair.row() for pair in pairs)]))


if __name__ == "__main__":
    main()
