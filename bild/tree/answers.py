"""Run the policies themselves over a tree: a driver that answers from the nodes as the live one does from two engines.

It is slow and plain: the oracle of `bild.tree.walk`, and the source of a text's rounds when they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Decoded, Draft, Drafted, Verified, Verify, policy_for
from bild.errors import BildError
from bild.tree.nodes import NodeTable


class MissingNodes(BildError):
    """A walk came to a prefix that no model was asked about. `examples` are the ids of the examples it happened in."""

    def __init__(self, examples: Sequence[str] = (), wanted: str = "", grown: str = "") -> None:
        self.examples = list(examples)
        which = f" on {len(self.examples)} examples, {self.examples[0]} first" if self.examples else ""
        super().__init__(
            f"The tree does not reach as far as these thresholds and switches go{which}: "
            f"grow it for them (python -m bild.sweep with {wanted or 'this setting'} in its grid), then replay again"
            f"{f'; sweeps have grown it for {grown}' if grown else ''}."
        )


@dataclass
class Replayed:
    """One text from a tree, with what `bild.measure.live.Run` says of passes."""

    decoded: Decoded
    small_passes: list[int] = field(default_factory=list)
    large_passes: list[int] = field(default_factory=list)


class ReplayedModel:
    """One model as the tree knows it: the tokens that its cache would hold, and the passes it would have made."""

    def __init__(self, table: NodeTable, author: str, eos: int) -> None:
        self.table, self.eos = table, eos
        small = author == "small"
        self.choices = table.small_choice if small else table.large_choice
        self.nlls = table.small_nll if small else table.large_choice_nll
        self.fed: list[int] = []
        self.passes: list[int] = []

    def lacking(self, prefix: list[int]) -> int:
        """Count the tokens of a prefix that the cache lacks; at least the last."""
        pairs = zip(self.fed, prefix, strict=False)
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        return len(prefix) - min(shared, len(prefix) - 1)

    def draft(self, ask: Draft) -> Drafted:
        """Draft as asked, from the nodes."""
        tokens, probs, stop = self._draft(ask)
        if tokens:
            self.passes += [self.lacking(ask.prefix), *([1] * (len(tokens) - 1))]
            self.fed = ask.prefix + tokens[:-1]
        return Drafted(tokens, probs, stop)  # type: ignore[arg-type]

    def _draft(self, ask: Draft) -> tuple[list[int], list[float], str]:
        node, tokens, probs = find(self.table, ask.prefix), list[int](), list[float]()
        while True:
            choice = self.choices[node]
            if choice < 0:
                raise MissingNodes
            if ask.oracle is not None and ask.oracle(*evidence(self.table, node)):
                return tokens, probs, "oracle"
            tokens.append(choice)
            probs.append(math.exp(-self.nlls[node]))
            if probs[-1] < ask.stop_below:
                return tokens, probs, "unsure"
            if choice == self.eos:
                return tokens, probs, "eos"
            if len(tokens) == ask.limit:
                return tokens, probs, "limit"
            node = follow(self.table, node, choice)

    def verify(self, ask: Verify) -> Verified:
        """Verify as asked, from the nodes."""
        table, node = self.table, find(self.table, ask.prefix)
        choice, choice_nll, token_nll, ranks = list[int](), list[float](), list[float](), list[int]()
        for i in range(len(ask.tokens) + 1):
            last = i == len(ask.tokens)
            if last and ask.tokens and (ask.tokens[-1] == self.eos or node < 0 or table.large_choice[node] < 0):
                # The text is complete if these tokens stand, so what follows them was not asked.
                choice.append(-1)
                choice_nll.append(math.nan)
                break
            if table.large_choice[node] < 0:
                raise MissingNodes
            choice.append(table.large_choice[node])
            choice_nll.append(table.large_choice_nll[node])
            if not last:
                assert table.small_choice[node] == ask.tokens[i]
                token_nll.append(table.large_nll[node])
                if ask.ranks:
                    ranks.append(table.large_rank[node])
                node = table.child(node, ask.tokens[i])
                if node < 0 and i + 1 < len(ask.tokens):
                    raise MissingNodes
        self.passes.append(self.lacking(ask.prefix) + len(ask.tokens))
        self.fed = ask.prefix + ask.tokens
        return Verified(choice, choice_nll, token_nll, ranks)


def evidence(table: NodeTable, node: int) -> tuple[bool, float, float, float, int]:
    """Return what a rejection score is made of (`Rules.rejection`), for the small choice at a node."""
    if table.large_choice[node] < 0:
        raise MissingNodes
    same = table.large_choice[node] == table.small_choice[node]
    told = (table.small_prob[node], table.large_choice_nll[node], table.large_nll[node])
    return same, *told, table.large_rank[node]


def find(table: NodeTable, prefix: Sequence[int]) -> int:
    """Return the node of a prefix."""
    node = 0
    for token in prefix[1:]:
        node = follow(table, node, token)
    return node


def follow(table: NodeTable, node: int, token: int) -> int:
    """Return the child that a token leads to."""
    found = table.child(node, token)
    if found < 0:
        raise MissingNodes
    return found


def run_policy(
    table: NodeTable, method: MethodConfig, threshold: ThresholdConfig, *, start: int, eos: int, max_length: int
) -> Replayed:
    """Decode one text by a method at its thresholds. MissingNodes where the tree does not reach."""
    models = {author: ReplayedModel(table, author, eos) for author in ("small", "large")}
    policy = policy_for(method, threshold)(start=start, eos=eos, max_length=max_length)
    try:
        ask = next(policy)
        while True:
            if isinstance(ask, Draft):
                ask = policy.send(models[ask.author].draft(ask))
            elif isinstance(ask, Verify):
                ask = policy.send(models["large"].verify(ask))
            else:
                raise BildError(f"method={method.name} cannot be replayed: a decision tree knows whole models only.")
    except StopIteration as stop:
        decoded: Decoded = stop.value
    if any(token < 0 for token in decoded.tokens):
        raise MissingNodes
    return Replayed(decoded, models["small"].passes, models["large"].passes)
