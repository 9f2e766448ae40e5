"""Step three and four: cases in which captured programs have been wrong, and engines that must agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from bild.check.machine import Scale
from bild.config import MethodConfig, TaskConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.engines import Engine, build_engine, common_prefix
from bild.errors import BildError
from bild.measure.live import engines_of, run_live
from bild.models import Pair, load_pair
from bild.models.checkpoint import free_memory
from bild.results.check import OK, SKIPPED, WRONG, Checked
from bild.tasks import load_task

ENGINES = ("graph", "fused", "hf")
TRITON = ("graph-triton",)
_TEXT = 60
"""Tokens of a text that is longer than the room which the engines were built with."""


def cases(scale: Scale) -> Iterator[Checked]:
    """Run what has gone wrong before: an overflow, growth beside another engine, a dropped pair, another GPU."""
    pair = load_pair("embedded", device=str(scale.device))
    known = {"an overflow is forgotten": _poison, "two engines grow": _grow, "engines are dropped": _drop}
    for name, case in known.items():
        wrong = _tried(partial(case, scale, pair))
        yield Checked("cases", name, WRONG if wrong else OK, wrong or "the text is the one before")
    if not scale.on_gpu or torch.cuda.device_count() < 2:
        yield Checked("cases", "cuda:1", SKIPPED, "there is one GPU")
        return
    other = load_pair("embedded", device="cuda:1")
    wrong = _tried(lambda: _parted(_texts(pair, "graph", 5), _texts(other, "graph", 5)))
    yield Checked("cases", "cuda:1", WRONG if wrong else OK, wrong or "the texts are those of cuda:0")


def _tried(case: Callable[[], str | None]) -> str | None:
    try:
        return case()
    except Exception as error:  # a library's error in a case is that case's verdict
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def _engine(pair: Pair, role: str, capacity: int, beside: Engine | None = None) -> Engine:
    options: dict[str, Any] = {"dtype": pair.dtype, "eos": -1, "vocabulary": pair.vocabulary, "capacity": capacity}
    return build_engine("graph", pair.model(role), **options, small=role == "small", beside=beside)


def _source(pair: Pair) -> list[int]:
    return pair.encode("Zwei Hunde spielen im Schnee.")[0]


def _written(engine: Engine, pair: Pair, tokens: int) -> list[int]:
    engine.start(_source(pair))
    return engine.draft([pair.start], tokens, 0.0)[0]


def _poison(scale: Scale, pair: Pair) -> str | None:
    """Decode an example whose activations overflow, then a healthy one."""
    engine = _engine(pair, "large", 64)
    before = _written(engine, pair, 12)
    embed, token = engine.weights.embed, _source(pair)[0]  # type: ignore[attr-defined]
    kept = embed[token].clone()
    embed[token] = torch.inf
    try:
        _written(engine, pair, 12)
        return "an infinite embedding was not noticed"
    except BildError:
        pass
    finally:
        embed[token] = kept
    return _parted([before], [_written(engine, pair, 12)])


def _grow(scale: Scale, pair: Pair) -> str | None:
    """Let two engines, in turn, write beyond the room that they were built with."""
    roomy = {role: _written(_engine(pair, role, 2 * _TEXT), pair, _TEXT) for role in ("large", "small")}
    large = _engine(pair, "large", scale.capacity)
    small = _engine(pair, "small", scale.capacity, beside=large)
    for _ in range(2):
        for role, engine in (("large", large), ("small", small)):
            if wrong := _parted([roomy[role]], [_written(engine, pair, _TEXT)]):
                return f"{role}: {wrong}"
    return None


def _drop(scale: Scale, pair: Pair) -> str | None:
    """Drop one of two pairs of engines, and run the other."""
    stays, goes = _engine(pair, "large", 64), _engine(pair, "small", 64)
    before = _written(stays, pair, 24)
    _written(goes, pair, 24)
    del goes
    free_memory()
    return _parted([before], [_written(stays, pair, 24)])


def _texts(pair: Pair, engine: str, count: int, method: str = "vanilla") -> list[list[int]]:
    task = TaskConfig(samples=count)
    policy = policy_for(MethodConfig(method), ThresholdConfig())
    found = []
    for example in load_task(task).examples:
        made = policy(start=pair.start, eos=pair.eos, max_length=task.target_limit)
        run = run_live(made, pair.encode(example.source)[0], *engines_of(pair, method, engine))
        found.append(run.decoded.tokens)
    return found


def _parted(mine: list[list[int]], theirs: list[list[int]]) -> str | None:
    """Say how many texts differ and where the first one parts, or None where all are equal."""
    different = [i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b]
    if not different:
        return None
    a, b = mine[different[0]], theirs[different[0]]
    return f"{len(different)} of {len(mine)} texts differ, the first at token {common_prefix(a, b)}"


def agreement(scale: Scale) -> Iterator[Checked]:
    """Decode the same texts by every engine: id for id in fp32, and a second time bit for bit; counted in fp16."""
    for dtype in scale.dtypes:
        pair = load_pair("embedded", device=str(scale.device), dtype=dtype)
        exact = {name: _texts(pair, name, scale.texts) for name in (*ENGINES, *TRITON * scale.on_gpu)}
        for name in filter(lambda name: name != "hf", exact):
            wrong = _parted(exact[name], exact["hf"])
            share = sum(a == b for a, b in zip(exact[name], exact["hf"], strict=True)) / scale.texts
            # In half precision near-ties go either way; more than one in five is no rounding.
            good = wrong is None or (dtype != "fp32" and share >= 0.8)
            seen = wrong or f"{scale.texts} texts are equal"
            yield Checked("agreement", f"{name} = hf, {dtype}", OK if good else WRONG, seen, {"equal": share})
        again = _parted(exact["graph"], _texts(pair, "graph", scale.texts))
        yield Checked("agreement", f"graph twice, {dtype}", WRONG if again else OK, again or "the same ids")
        both = {name: _texts(pair, name, scale.texts, "bild") for name in ("graph", "fused")}
        wrong = _parted(both["graph"], both["fused"])
        good = wrong is None or dtype != "fp32"
        yield Checked("agreement", f"BiLD, {dtype}", OK if good else WRONG, wrong or "graph = fused")
        del pair
        free_memory()
