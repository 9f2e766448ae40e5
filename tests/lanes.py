"""Two lanes: `make check` takes a few cases and examples of each test, `make test` takes them all."""

from __future__ import annotations

import pytest
from hypothesis import settings

_GOLDEN = (5**0.5 - 1) / 2
_quick = False


def choose_lane(config: pytest.Config) -> None:
    """Note which lane this is, before any test is imported."""
    global _quick
    _quick = "not slow" in config.option.markexpr
    settings.register_profile("quick", max_examples=20, deadline=None)
    if _quick:
        settings.load_profile("quick")


def many(examples: int) -> settings:
    """Settings of a property, the same examples every time: so many of them, or in the quick lane a quarter."""
    return settings(derandomize=True, deadline=None, database=None, max_examples=examples // 4 if _quick else examples)


def spread(items: list[pytest.Item]) -> None:
    """Mark as slow all cases of a test that says `spread(n)` but n of them, from all over its parameters."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("spread") is not None:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tests.values():
        kept = places(len(cases), next(cases[0].iter_markers("spread")).args[0])
        for case in (case for place, case in enumerate(cases) if place not in kept):
            case.add_marker("slow")


def places(cases: int, kept: int) -> set[int]:
    """Return places in a row that fall in with no period of its parameters: multiples of the golden section."""
    found: set[int] = set()
    number = 0
    while len(found) < min(cases, kept):
        number += 1
        found.add(int(number * _GOLDEN % 1 * cases))
    return found
