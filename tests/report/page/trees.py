"""Decision trees of random models as a sweep leaves them, and an independent account of what a walk costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Draft, Drafted, Setting, Verified, policy_for
from bild.errors import BildError
from bild.tree import Nodes, store
from bild.tree.blocks import BlockFile
from bild.tree.nodes import NAMES, TYPES, NodeTable
from tests.decoding.tables import EOS, START, Tables

WORDS = [
    "<pad>", "</s>", " ein", " Hund", " läuft", " über", " die", " Wiese", " &", " <script>alert(1)</script>",
    " „Haus“", "s", " grün",
]  # fmt: skip
LIMIT = 20
FBS, RBS = (0.0, 0.3, 0.5, 0.7, 1.0), (0.0, 0.5, 1.0, 2.0, math.inf)
_FLOATS = tuple(name for name in NAMES if TYPES[name] is np.float32)


@dataclass
class Walker:
    """Answers a policy from a random pair, and files every answer as a node."""

    pair: Tables
    rows: list[dict[str, Any]] = field(default_factory=list)
    index: dict[tuple[int, ...], int] = field(default_factory=dict)
    grow: bool = True

    def node(self, prefix: tuple[int, ...]) -> dict[str, Any]:
        if prefix not in self.index:
            if not self.grow:
                raise BildError("The tree does not reach these thresholds: grow it for them.")
            parent = -1 if len(prefix) == 1 else self.node_index(prefix[:-1])
            self.index[prefix] = len(self.rows)
            empty = {"small_choice": -1, "large_choice": -1, "large_rank": 0} | dict.fromkeys(_FLOATS, math.nan)
            self.rows.append({"parent": parent, "token": prefix[-1], **empty})
        return self.rows[self.index[prefix]]

    def node_index(self, prefix: tuple[int, ...]) -> int:
        self.node(prefix)
        return self.index[prefix]

    def small(self, prefix: tuple[int, ...]) -> tuple[int, float]:
        row = self.node(prefix)
        if row["small_choice"] < 0:
            logp = self.pair.small(prefix)
            row["small_choice"] = int(np.argmax(logp))
            row["small_nll"] = float(np.float32(-max(logp)))
        return row["small_choice"], row["small_nll"]

    def large(self, prefix: tuple[int, ...], token: int | None) -> tuple[int, float, float]:
        row = self.node(prefix)
        if row["large_choice"] < 0 or (token is not None and math.isnan(row["large_nll"])):
            logp = self.pair.large(prefix)
            row["large_choice"] = int(np.argmax(logp))
            row["large_choice_nll"] = float(np.float32(-max(logp)))
            if token is not None:
                row["large_nll"] = float(np.float32(-logp[token]))
                row["large_rank"] = 1 + sum(p > logp[token] for p in logp)
        return row["large_choice"], row["large_choice_nll"], row["large_nll"]

    def draft(self, ask: Draft) -> Drafted:
        tokens, probs = list[int](), list[float]()
        while True:
            prefix = (*ask.prefix, *tokens)
            if ask.author == "small":
                token, nll = self.small(prefix)
            else:
                token, nll, _ = self.large(prefix, None)
            if ask.oracle is not None:
                own, own_nll, token_nll = self.large(prefix, token)
                if ask.oracle(own == token, math.exp(-nll), own_nll, token_nll, self.node(prefix)["large_rank"]):
                    return Drafted(tokens, probs, "oracle")
            tokens.append(token)
            probs.append(math.exp(-nll))
            if probs[-1] < ask.stop_below:
                return Drafted(tokens, probs, "unsure")
            if token == EOS:
                return Drafted(tokens, probs, "eos")
            if len(tokens) == ask.limit:
                return Drafted(tokens, probs, "limit")

    def decode(self, method: MethodConfig, threshold: ThresholdConfig) -> SimpleNamespace:
        """Decoded text and passes; the passes by what a cache of either model would lack."""
        policy = policy_for(method, threshold)(start=START, eos=EOS, max_length=LIMIT)
        fed: dict[str, list[int]] = {"small": [], "large": []}
        passes: dict[str, list[int]] = {"small": [], "large": []}

        def feed(author: str, text: list[int]) -> None:
            cached = fed[author]
            shared = next((i for i, (a, b) in enumerate(zip(cached, text, strict=False)) if a != b), None)
            shared = min(len(cached), len(text)) if shared is None else shared
            passes[author].append(len(text) - min(shared, len(text) - 1))
            fed[author] = list(text)

        ask = next(policy)
        try:
            while True:
                prefix = list(ask.prefix)
                if isinstance(ask, Draft):
                    told: Any = self.draft(ask)
                    for i in range(len(told.tokens)):
                        feed(ask.author, prefix + told.tokens[:i])
                else:
                    seen = [self.large((*prefix, *ask.tokens[:i]), token) for i, token in enumerate(ask.tokens)]
                    seen.append(self.large((*prefix, *ask.tokens), None))
                    ranks = [self.node((*prefix, *ask.tokens[:i]))["large_rank"] for i in range(len(ask.tokens))]
                    told = Verified([s[0] for s in seen], [s[1] for s in seen], [s[2] for s in seen[:-1]], ranks)
                    # The drafted tokens are fed together with what the cache lacks of the prefix.
                    cached = fed["large"]
                    shared = next((i for i, (a, b) in enumerate(zip(cached, prefix, strict=False)) if a != b), None)
                    shared = min(len(cached), len(prefix)) if shared is None else shared
                    passes["large"].append(len(prefix) - min(shared, len(prefix) - 1) + len(ask.tokens))
                    fed["large"] = prefix + ask.tokens
                ask = policy.send(told)
        except StopIteration as stop:
            return SimpleNamespace(decoded=stop.value, small=passes["small"], large=passes["large"])

    def columns(self) -> Nodes:
        return Nodes(**{name: np.array([row[name] for row in self.rows], TYPES[name]) for name in NAMES})


def usual_points(*methods: MethodConfig, fbs: Sequence[float] = FBS, rbs: Sequence[float] = RBS) -> list[Setting]:
    return [(method, ThresholdConfig(fb, rb)) for method in methods for fb in fbs for rb in rbs]


def walkers(count: int, points: Sequence[Setting], seed: int = 0) -> list[Walker]:
    """Random pairs' trees that answer vanilla decoding, the small model alone, and the points."""
    found = []
    for i in range(count):
        walker = Walker(Tables(1000 * seed + i, len(WORDS), 3.0, 0.6, 2.0))
        alone = [(MethodConfig(name), ThresholdConfig()) for name in ("vanilla", "small")]
        for method, threshold in [*alone, *points]:
            walker.decode(method, threshold)
        walker.grow = False
        found.append(walker)
    return found


def write_tree(folder: Path, grown: Sequence[Walker], data: str, metric: str = "bleu") -> Path:
    """A tree's folder, as a sweep leaves it, of random models; one source holds markup."""
    identity = {
        "task": {"name": "random", "prompt": "", "source_limit": 99, "target_limit": LIMIT, "metric": metric},
        "data": data,
    }
    examples = [
        store.StoredExample(
            f"e{i}",
            f"A dog <script>document.title = 'broken {i}'</script> runs & jumps",
            " ".join(word.strip() for word in WORDS[2 + i % 3 : 7 + i % 5]),
            [2] * (8 + i % 7),
            False,
        )
        for i in range(len(grown))
    ]
    more = {
        "ids": {"start": START, "eos": EOS, "vocabulary": len(WORDS)},
        "rounding": {"nll": 1e-6, "gap": 1e-6},
    }
    path = folder / store.folder_name(identity)
    path.mkdir(parents=True)
    store.create(path, identity, more, examples, tokenizer())
    with BlockFile(path / "nodes.bin") as blocks:
        blocks.append({i: table_of(walker.rows) for i, walker in enumerate(grown)})
    return path


def table_of(rows: Sequence[dict[str, Any]]) -> NodeTable:
    """The nodes of some rows, as a tree that grows has them."""
    table = NodeTable(rows[0]["token"])
    for node, row in enumerate(rows):
        if node:
            table.add(row["parent"], row["token"])
        for author, hear in (("small_", table.hear_small), ("large_", table.hear_large)):
            if row[f"{author}choice"] >= 0:
                hear(node, *(row[name] for name in NAMES if name.startswith(author)))
    return table


def tokenizer() -> str:
    """The JSON of a tokenizer that joins WORDS as they are."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    made.decoder = decoders.Fuse()
    made.add_special_tokens([AddedToken(word) for word in WORDS[:2]])
    return str(made.to_str())
