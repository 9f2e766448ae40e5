"""Three lanes: `make check` takes a few cases and examples of each test, `make test` more, and CASES=all every one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import settings

T = TypeVar("T")
_GOLDEN = (5**0.5 - 1) / 2
_quick = False
_ALL = os.environ.get("CASES") == "all"


def choose_lane(config: pytest.Config) -> None:
    """Note which lane this is, before any test is imported."""
    global _quick
    _quick = "not slow" in config.option.markexpr
    settings.register_profile("quick", max_examples=20, deadline=None)
    if _quick:
        settings.load_profile("quick")


def many(examples: int) -> settings:
    """Settings of a property, the same examples every time: a quarter of so many, or all of them."""
    share = 1 if _ALL else 4
    return settings(derandomize=True, deadline=None, database=None, max_examples=examples // share)


def some(cases: Sequence[T], kept: int) -> list[T]:
    """Return so many of the cases that a test goes through by itself, from all over, in their order; or all of them."""
    return list(cases) if _ALL else [cases[place] for place in sorted(places(len(cases), kept))]


def spread(items: list[pytest.Item]) -> None:
    """Keep of a test that says `spread(n)` twice n cases, from all over its parameters, and n in the quick lane.

    The others of the quick lane are marked as slow. One that is marked `whole` is for CASES=all alone.
    """
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("spread") is not None:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out = {item for item in items if item.get_closest_marker("whole") and not _ALL}
    for cases in tests.values():
        quick = next(cases[0].iter_markers("spread")).args[0]
        few, more = places(len(cases), quick), places(len(cases), len(cases) if _ALL else 2 * quick)
        for place, case in enumerate(cases):
            if place not in few:
                case.add_marker("slow")
            if place not in more:
                left_out.add(case)
    items[:] = [item for item in items if item not in left_out]


def long_first(items: list[pytest.Item]) -> None:
    """Put the files with a time limit of their own at the front: begun last, one would keep a single worker busy."""
    long = {item.path for item in items if item.get_closest_marker("timeout") is not None}
    items.sort(key=lambda item: item.path not in long)


def places(cases: int, kept: int) -> set[int]:
    """Return places in a row that fall in with no period of its parameters: multiples of the golden section."""
    found: set[int] = set()
    number = 0
    while len(found) < min(cases, kept):
        number += 1
        found.add(int(number * _GOLDEN % 1 * cases))
    return found
