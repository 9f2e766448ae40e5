"""The sample of a decision tree that the page replays: nodes as they are, and the score of every text they lead to."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Setting
from bild.errors import BildError
from bild.report.format import metric_words, plural
from bild.report.trace import pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
_UNSIGNED = (("u1", 2**8), ("u2", 2**16))
_ONE_UP = 1  # -1 (none) is stored as 0 where the type has no sign


def sample_of(
    tree: Tree, points: Sequence[Setting], metric: str, prices: Prices | None, *, bytes_: int
) -> dict[str, Any]:
    """Return the bundled sample: evenly spaced examples of the tree, as many as fit into `bytes_` of JSON.

    The tree must reach all `points`; `metric` is the name of the headline score.
    """
    total = len(tree.examples)
    count = min(total, MOST_EXAMPLES)
    while True:
        part = tree if count == total else tree.take([tree.examples[i * total // count].id for i in range(count)])
        made = _sample(part, points, metric, prices, total)
        size = len(json.dumps(made, ensure_ascii=True, separators=(",", ":")))
        if size <= bytes_ or count == 1:
            return made
        count = max(1, min(count - 1, int(0.95 * count * bytes_ / size)))


def _sample(tree: Tree, points: Sequence[Setting], metric: str, prices: Prices | None, total: int) -> dict[str, Any]:
    import numpy as np

    replays = tree.replay_grid([(MethodConfig("vanilla"), ThresholdConfig()), *points])
    outputs = _outputs(tree, replays, metric)
    nodes = [example.nodes for example in tree.examples]
    offsets = np.cumsum([0, *(len(each.parent) for each in nodes)])
    name = metric_words(metric)
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
            "kind": "bleu" if metric.startswith("bleu") else "mean",
            "name": name,
            "example": "its sentence BLEU, on the orders that it has" if metric.startswith("bleu") else f"its {name}",
        },
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


def _outputs(tree: Tree, replays: Sequence[Any], metric: str) -> list[list[dict[str, Any]]]:
    """Return per example each text that some replay gives: its key, the text, and its statistics."""
    from bild.metrics import statistics  # numpy: only where a page is made

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
    outputs, references = zip(*flat, strict=True)
    rows = iter(statistics.compute((metric,), outputs, references)[metric].table.tolist())
    return [[{"key": key, "text": text, "stats": next(rows)} for key, text in texts.items()] for texts in found]


def _children(example: TreeExample) -> dict[tuple[int, int], int]:
    nodes = example.nodes
    pairs = zip(nodes.parent.tolist(), nodes.token.tolist(), strict=True)
    return {pair: node for node, pair in enumerate(pairs) if node > 0}


def _key(children: dict[tuple[int, int], int], tokens: Sequence[int]) -> str:
    """Return what `key` in js/replays.js does: the node before the last token, and that token."""
    at = 0
    for token in tokens[1:-1]:
        at = children[at, token]
    return f"{at}:{tokens[-1]}"


def _pieces(tree: Tree) -> list[tuple[int, str]]:
    """Return every token of the nodes, and how it looks."""
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
    scalars = {"round": prices.round, "example": prices.example, "one_encoder": prices.one_encoder}
    return {**passes, **encoders, **scalars}


def column(parts: Sequence[NDArray[Any]]) -> dict[str, str]:
    """Return one column of all examples as {"type", "data"}, base64 of the smallest type that holds it.

    Floats keep their 32 bits, integers are from -1. `js/tree.js` unpacks it.
    """
    import numpy as np

    values = np.concatenate(parts)
    if values.dtype.kind == "f":
        return _packed("f4", values.astype("<f4"))
    if len(values) and int(values.min()) < -_ONE_UP:
        raise BildError(f"A column of the decision tree holds {int(values.min())}: grow the tree anew.")
    most = int(values.max(initial=0)) + _ONE_UP
    for name, limit in _UNSIGNED:
        if most < limit:
            return _packed(name, (values + _ONE_UP).astype(f"<{name}"))
    return _packed("i4", values.astype("<i4"))


def _packed(name: str, values: np.ndarray[Any, Any]) -> dict[str, str]:
    return {"type": name, "data": base64.b64encode(values.tobytes()).decode("ascii")}
