"""Grow decision trees: the walks of all points ask, both models answer in batches over examples and branches.

Examples are taken in chunks that fit the memory allowed, shortest sources first; a chunk is stored when all its walks
have ended, so a kill loses one chunk, and the next run grows the same one from the same state. `Frontier` is the state
of all walks in one tree: how far they have come, and which nodes they wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from bild.config import DecodeConfig, TaskConfig
from bild.decoding import Setting
from bild.errors import BildError, out_of_memory
from bild.models import Pair
from bild.models.checkpoint import free_memory
from bild.models.shapes import default_budget
from bild.tasks import Dataset
from bild.tree.blocks import NODES, BlockFile
from bild.tree.family import Grouped, group
from bild.tree.forward import OverBudget, Told
from bild.tree.forward_host import branches_of
from bild.tree.identity import open_folder
from bild.tree.nodes import NodeTable, TreeExample
from bild.tree.store import Head
from bild.tree.tree import Tree, open_tree
from bild.tree.walk import DraftWalk, Judged, State, Step, Walker

CHUNK = 512
"""The most examples of a chunk."""
_NODES = 48
"""Nodes of an example to make room for at first."""


def grow(
    folder: Path,
    pair: Pair,
    task: TaskConfig,
    data: Dataset,
    points: Sequence[Setting],
    *,
    engine: str = "fused",
    decode: DecodeConfig | None = None,
    examples: Sequence[str] | None = None,
    budget: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tree:
    """Grow the trees of a task's examples until every point can be replayed on them, adding only what is missing.

    `folder` is `results/<task>/<pair>/tree`; the tree lies in it under its hash. `engine` is the live engine that the
    tree's rounding is measured against, `decode` how tokens are chosen (greedily), `examples` the ids of those to grow
    (all), `budget` the memory for keys and values in bytes; `progress` is told (examples done, examples in all).

    Raises BildError where another process grows the same tree, a method cannot be replayed, the disk is full, or a
    model's logits are not finite; what was stored before is kept.
    """
    path = open_folder(folder, pair, task, data, engine, decode or DecodeConfig())
    with BlockFile(path / NODES) as block:
        tree = open_tree(path)
        wanted = tree if examples is None else tree.take(examples)
        extend(tree, pair, points, wanted.missing(points), block, budget, progress, len(wanted.examples))
    return tree


def extend(
    tree: Tree,
    pair: Pair,
    points: Sequence[Setting],
    lacking: Collection[str],
    block: BlockFile,
    budget: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    total: int | None = None,
) -> None:
    """Grow these examples of a tree that is as its file is, in place, until every point can be replayed on them.

    `progress` is told (examples done, `total` of them), the whole ones among them; `total`: all of the tree.
    """
    todo = [i for i, example in enumerate(tree.examples) if example.id in lacking]
    if not todo:
        return
    grower = Grower(pair, tree.examples, group(points), tree.head, budget)
    total = len(tree.examples) if total is None else total
    done = total - len(todo)
    for chunk in grower.chunks(todo):
        done += grower.grow(chunk, block.append)
        if progress is not None:
            progress(done, total)


Keep = Callable[[Mapping[int, NodeTable]], None]
"""Take grown examples by index, to store them or not."""


class Grower:
    """Both models over chunks of examples."""

    def __init__(
        self, pair: Pair, examples: Sequence[TreeExample], grouped: Grouped, head: Head, budget: int | None
    ) -> None:
        self.examples = examples
        self.grouped = grouped
        self.ids = head.ids
        self.decode = head.decode
        self.target_limit: int = head.identity["task"]["target_limit"]
        kernels = pair.kernels_kept(head.kernels)
        self.models = {role: branches_of(pair, role, kernels) for role in ("large", "small")}
        # Read when the weights are in place: what is free now is free for keys and values.
        self.budget = default_budget(pair.device) if budget is None else budget
        both = sum(model.row_bytes for model in self.models.values())
        for model in self.models.values():
            model.budget = self.budget * model.row_bytes // both

    def chunks(self, todo: Sequence[int]) -> list[list[int]]:
        """Divide examples, by the length of their source, into as many at a time as should fit."""
        nodes = min(_NODES, 2 * self.target_limit)
        found: list[list[int]] = []
        for index in sorted(todo, key=lambda i: (len(self.examples[i].source_tokens), i)):
            length = len(self.examples[index].source_tokens)
            need = sum(m.source_bytes(length) + nodes * m.row_bytes for m in self.models.values())
            if not found or len(found[-1]) >= CHUNK or (len(found[-1]) + 1) * need > self.budget:
                found.append([])
            found[-1].append(index)
        return found

    def grow(self, chunk: Sequence[int], keep: Keep) -> int:
        """Grow some examples and hand them to `keep`, in halves where they do not fit; returns how many."""
        if self._grown(chunk):
            keep({i: self.examples[i].table for i in chunk})
            return len(chunk)
        # Outside of the `except`: the traceback there holds all that the failed pass had in memory.
        for model in self.models.values():
            model.forget()
        free_memory()
        if len(chunk) == 1:
            raise BildError(
                f"The tree of the example {self.examples[chunk[0]].id} does not fit into memory: "
                "run on a device with more memory, or lower task.target_limit."
            )
        half = len(chunk) // 2
        return self.grow(chunk[:half], keep) + self.grow(chunk[half:], keep)

    def _grown(self, chunk: Sequence[int]) -> bool:
        """Grow some examples; false, and none of them grown, where they do not fit."""
        tables = [self.examples[i].table for i in chunk]
        before = [table.copied() for table in tables]
        try:
            Wave(self, chunk).run()
        except Exception as error:
            if not isinstance(error, OverBudget) and out_of_memory(error) is None:
                raise
            for table, former in zip(tables, before, strict=True):
                table.become(former)
            return False
        return True


class Wave:
    """The examples of one chunk: asks are collected from all of them, and answered together."""

    def __init__(self, grower: Grower, chunk: Sequence[int]) -> None:
        self.grower = grower
        examples = [grower.examples[i] for i in chunk]
        sources = [example.source_tokens for example in examples]
        for model in grower.models.values():
            model.start(sources, grower.decode)
        limits = {"eos": grower.ids["eos"], "max_length": grower.target_limit}
        self.trees = [Growing(example.table, grower.grouped, **limits) for example in examples]
        self.rows: dict[str, list[list[int]]] = {role: [[] for _ in chunk] for role in grower.models}
        """By model and example, the row of each node that was fed; -1 for the others."""

    def run(self) -> None:
        """Ask and answer until no walk waits any more."""
        self.large: list[set[int]] = [set() for _ in self.trees]
        """By example, the nodes that the large model will be asked about when no draft waits any more."""
        small = self._wants({e: tree.wants("small") for e, tree in enumerate(self.trees)})
        while True:
            if small:
                self._ask("small", small)
                small = self._wants({e: self.trees[e].wants("small") for e in small})
                continue
            large = {e: sorted(nodes) for e, nodes in enumerate(self.large) if nodes}
            if not large:
                return
            self._ask("large", large)
            for e in large:
                self.large[e].clear()
            small = self._wants({e: self.trees[e].wants("large") for e in large})

    def _wants(self, wants: dict[int, tuple[list[int], list[int]]]) -> dict[int, list[int]]:
        """Note what the large model will be asked, and return what the small one is asked now, by example.

        The large model is told the small one's choice, whose nll it reports; so the small one is asked wherever it is.
        """
        asks: dict[int, list[int]] = {}
        for e, (small, large) in wants.items():
            self.large[e].update(large)
            known = self.trees[e].table.small_choice
            ask = [node for node in (*small, *large) if known[node] < 0]
            if ask:
                asks[e] = ask
        return asks

    def _ask(self, role: str, asks: Mapping[int, Sequence[int]]) -> None:
        """Feed nodes, and whatever of their paths was not fed yet; tell the trees what the model says."""
        fed: list[tuple[int, int, int, int, int]] = []
        model = self.grower.models[role]
        # Examples of a batch should be of about one size, and in their order else, which is that of their lengths.
        for e, ask in sorted(asks.items(), key=lambda item: len(item[1]) // 8):
            table, rows = self.trees[e].table, self.rows[role][e]
            rows += [-1] * (len(table) - len(rows))
            for node in ask:
                path = []
                while node >= 0 and rows[node] < 0:
                    path.append(node)
                    node = table.parent[node]
                for new in reversed(path):
                    rows[new] = model.count + len(fed)
                    parent = rows[table.parent[new]] if new else -1
                    fed.append((e, new, parent, table.token[new], table.small_choice[new] if role == "large" else -1))
        examples, nodes, parents, tokens, given = zip(*fed, strict=True)
        self._tell(role, examples, nodes, given, model.feed(examples, parents, tokens, given))

    def _tell(self, role: str, examples: Sequence[int], nodes: Sequence[int], given: Sequence[int], told: Told) -> None:
        for i, (e, node) in enumerate(zip(examples, nodes, strict=True)):
            table = self.trees[e].table
            if role == "small" and table.small_choice[node] < 0:
                table.hear_small(node, told.choice[i], told.choice_nll[i], told.gap[i], told.entropy[i])
            elif role == "large" and table.large_choice[node] < 0 and given[i] >= 0:
                own = (told.choice[i], told.choice_nll[i], told.given_nll[i], told.gap[i], told.entropy[i])
                table.hear_large(node, *own, told.rank[i], told.rank_gap[i])
                table.heard.append(node)


class Frontier:
    """All points of one family in one tree. Points that meet in a state go on together."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.waiting: dict[str, list[DraftWalk | Judged]] = {"small": [], "large": []}
        """What waits for answers of each model."""
        start = walker.start()
        self.seen: dict[State, int] = {}
        """The points that came by each state."""
        self._fresh: list[tuple[State, int]] = [(start, walker.family.everyone)]

    def advance(self, author: str, small: list[int], large: list[int]) -> None:
        """Go on with what waited for a model; add the nodes to ask the small model about, and the large one."""
        waiting, self.waiting[author] = self.waiting[author], []
        for waits in waiting:
            self._take(self.walker.go_on(waits), small, large)
        while self._fresh:
            self._take(self.walker.step(*self._fresh.pop()), small, large)

    def _take(self, step: Step, small: list[int], large: list[int]) -> None:
        small += step.small
        large += step.large
        self.waiting["small"] += step.on_small
        self.waiting["large"] += step.on_large
        for edge in step.edges:
            if edge.state is not None:
                known = self.seen.get(edge.state, 0)
                new = edge.points & ~known
                if new:
                    self.seen[edge.state] = known | new
                    self._fresh.append((edge.state, new))


class Growing:
    """One example's tree while it grows."""

    def __init__(self, table: NodeTable, grouped: Grouped, *, eos: int, max_length: int) -> None:
        self.table = table
        self.eos = eos
        self.max_length = max_length
        self.frontiers = [
            Frontier(Walker(table, family, eos=eos, max_length=max_length, grow=True)) for family in grouped.families
        ]
        self.heads = dict.fromkeys(grouped.alone, 0)
        """The node that each model's own text has come to."""

    def wants(self, author: str) -> tuple[list[int], list[int]]:
        """Go on wherever a model was waited for: (nodes to ask the small model about, the large one)."""
        small, large = list[int](), list[int]()
        for frontier in self.frontiers:
            frontier.advance(author, small, large)
        for alone in self.heads:
            choices = self.table.small_choice if alone == "small" else self.table.large_choice
            node = self.heads[alone]
            while choices[node] >= 0:
                token = choices[node]
                if token == self.eos or self.table.depth[node] + 2 == self.max_length:
                    break
                child = self.table.child(node, token)
                node = self.table.add(node, token) if child < 0 else child
            else:
                (small if alone == "small" else large).append(node)
            self.heads[alone] = node
        return small, large
