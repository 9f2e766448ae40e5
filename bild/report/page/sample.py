"""The sample of a decision tree that the page replays: nodes as they are, and the score of every text they lead to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import settings, thresholds_of
from bild.report.page.pack import column
from bild.report.page.points import plain_threshold, switches
from bild.report.pieces import pieces
from bild.report.wording import METRIC_NAMES, plural

if TYPE_CHECKING:
    from bild.results.prices import PassPrice, Prices
    from bild.tree import Tree, TreeExample

COLUMNS = {
    "parent": "parent",
    "token": "token",
    "small_choice": "smallChoice",
    "small_nll": "smallNll",
    "large_choice": "largeChoice",
    "large_choice_nll": "largeChoiceNll",
    "large_nll": "largeNll",
    "large_rank": "largeRank",
}
"""Columns of the nodes, and what the page calls them."""
MOST_EXAMPLES = 200
_WIDEST = 257  # of a pass, in new positions: beyond every target limit in use

Setting = tuple[MethodConfig, ThresholdConfig]


@dataclass(frozen=True)
class Grid:
    """BiLD under one set of switches, at these thresholds."""

    method: MethodConfig
    fbs: tuple[float, ...]
    rbs: tuple[float, ...]

    @property
    def name(self) -> str:
        """`the paper's rules, drafts of at most 10 tokens`, and the switches that differ from the rules."""
        own = f"{'the paper' if self.method.rules == 'paper' else 'the authors'}’{'s' * (self.method.rules == 'paper')}"
        given = [
            f"{name.replace('_', ' ')}: {getattr(self.method, name)}"
            for name in ("first", "after_rollback", "scan", "unsure", "verify_eos")
            if getattr(self.method, name) is not None
        ]
        limit = self.method.max_draft
        drafts = f"of at most {plural(limit, 'token')}" if isinstance(limit, int) else "limited by measured costs"
        return "; ".join([f"{own} rules, drafts {drafts}", *given])


def grids_of(points: Sequence[Setting]) -> list[Grid]:
    """The BiLD points by their switches, in the order they come first."""
    found: dict[str, list[Setting]] = {}
    for method, threshold in points:
        if method.name == "bild":
            found.setdefault(repr(method), []).append((method, threshold))
    return [
        Grid(same[0][0], *(tuple(sorted({thresholds_of(*each)[name] for each in same})) for name in ("fb", "rb")))
        for same in found.values()
    ]


def sample_of(
    tree: Tree,
    points: Sequence[Setting],
    metric: str,
    prices: Prices | None,
    *,
    bytes_: int,
    start: tuple[float, float],
) -> dict[str, Any]:
    """The bundled sample: evenly spaced examples of the tree, as many as fit into `bytes_` of JSON.

    `points` must be replayable; `metric` is the name of the headline score, `start` where the sliders begin.
    """
    total = len(tree.examples)
    count = min(total, MOST_EXAMPLES)
    while True:
        part = tree if count == total else tree.take([tree.examples[i * total // count].id for i in range(count)])
        made = _sample(part, points, metric, prices, total, start)
        size = len(json.dumps(made, ensure_ascii=True, separators=(",", ":")))
        if size <= bytes_ or count == 1:
            return made
        count = max(1, min(count - 1, int(0.95 * count * bytes_ / size)))


def _sample(
    tree: Tree, points: Sequence[Setting], metric: str, prices: Prices | None, total: int, start: tuple[float, float]
) -> dict[str, Any]:
    import numpy as np

    grids = grids_of(points)
    vanilla = (MethodConfig("vanilla"), ThresholdConfig())
    replays = tree.replay_grid([vanilla, *((m, t) for m, t in points if m.name == "bild")])
    outputs = _outputs(tree, replays, metric)
    nodes = [example.nodes for example in tree.examples]
    offsets = np.cumsum([0, *(len(each.parent) for each in nodes)])
    name = METRIC_NAMES.get(metric, metric)
    n = len(tree.examples)
    which = f"All {plural(n, 'example')}" if n == total else f"A sample of {n:,} of the {plural(total, 'example')}"
    return {
        "words": f"{which} of the decision tree lie in this page, and each move of a slider decodes them anew.",
        "limits": {
            "start": tree.identity["start"],
            "eos": tree.identity["eos"],
            "maxLength": tree.identity["task"]["target_limit"],
        },
        "metric": {
            "kind": "bleu" if metric == "bleu" else "mean",
            "name": name,
            "example": "its sentence BLEU, on the orders that it has" if metric == "bleu" else f"its {name}",
        },
        "start": {"fb": start[0], "rb": plain_threshold(start[1])},
        "grids": [
            {
                "name": grid.name,
                "method": _method(grid.method),
                "fbs": list(grid.fbs),
                "rbs": [plain_threshold(rb) for rb in grid.rbs],
            }
            for grid in grids
        ],
        "examples": [
            {
                "id": str(example.id),
                "source": example.source,
                "reference": example.reference,
                "source_tokens": len(example.source_tokens),
                "outputs": found,
            }
            for example, found in zip(tree.examples, outputs, strict=True)
        ],
        "offsets": offsets.tolist(),
        "columns": {own: column([getattr(each, theirs) for each in nodes]) for theirs, own in COLUMNS.items()},
        "pieces": _pieces(tree),
        "prices": None if prices is None else _prices(prices),
    }


def _method(method: MethodConfig) -> dict[str, Any]:
    """The switches as they will be used; verifying the end depends on rb, which the policy in the page sees to."""
    resolved = settings(method, ThresholdConfig(rb=1.0))
    return {name: resolved.get(name) for name in switches(method)}


def _outputs(tree: Tree, replays: Sequence[Any], metric: str) -> list[list[dict[str, Any]]]:
    """Per example, each text that some replay gives: its key, the text, and its statistics."""
    found: list[dict[str, str]] = []
    for at, example in enumerate(tree.examples):
        children = _children(example)
        texts: dict[str, str] = {}
        for replay in replays:
            key = _key(children, replay.tokens[at])
            if key not in texts:
                texts[key] = replay.text[at]
        found.append(texts)
    flat = [
        (text, example.reference)
        for texts, example in zip(found, tree.examples, strict=True)
        for text in texts.values()
    ]
    table = _table(metric, [text for text, _ in flat], [reference for _, reference in flat])
    rows = iter(table.tolist())
    return [[{"key": key, "text": text, "stats": next(rows)} for key, text in texts.items()] for texts in found]


def _table(metric: str, texts: Sequence[str], references: Sequence[str]) -> Any:
    from bild.metrics import statistics  # numpy: only where a page is made

    if metric == "bleu":
        return statistics.bleu(texts, references).table
    return statistics.rouge(texts, references, types=(metric,))[metric].table


def _children(example: TreeExample) -> dict[tuple[int, int], int]:
    nodes = example.nodes
    pairs = zip(nodes.parent.tolist(), nodes.token.tolist(), strict=True)
    return {pair: node for node, pair in enumerate(pairs) if node > 0}


def _key(children: dict[tuple[int, int], int], tokens: Sequence[int]) -> str:
    """As `key` in js/replays.js: the node before the last token, and that token."""
    at = 0
    for token in tokens[1:-1]:
        at = children[at, token]
    return f"{at}:{tokens[-1]}"


def _pieces(tree: Tree) -> list[tuple[int, str]]:
    """Every token of the nodes, and how it looks."""
    import numpy as np

    columns = ("token", "small_choice", "large_choice")
    used = np.unique(np.concatenate([getattr(e.nodes, name) for e in tree.examples for name in columns])).tolist()
    return sorted(pieces(used, tree.decode).items())


def _prices(prices: Prices) -> dict[str, Any]:
    def price(each: PassPrice) -> dict[str, Any]:
        return {
            "seconds": [each.of(width) for width in range(_WIDEST)],
            "position": each.position,
            "source": each.source,
            "per_position": each.per_position,
            "per_source": each.per_source,
        }

    def encoder(table: dict[int, float]) -> list[list[float]]:
        return [sorted(table), [table[length] for length in sorted(table)]]

    passes = {name: price(getattr(prices, name)) for name in ("large", "small", "large_alone", "small_alone")}
    encoders = {name: encoder(getattr(prices, name)) for name in ("encode_large", "encode_small")}
    return {**passes, **encoders, "round": prices.round, "example": prices.example}
