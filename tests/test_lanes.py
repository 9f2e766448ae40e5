"""The cases that `make check` leaves to `make test`: never a whole test that is not marked slow."""

from __future__ import annotations

import pytest

from tests.lanes import places


@pytest.mark.parametrize(("cases", "kept"), [(1, 1), (5, 9), (45, 6), (324, 40), (119, 30)])
def test_so_many_places_are_kept(cases: int, kept: int) -> None:
    found = places(cases, kept)
    assert len(found) == min(cases, kept)
    assert found <= set(range(cases))
    assert found == places(cases, kept)


def test_every_value_of_every_parameter_has_its_turn() -> None:
    rows, columns = 9, 5
    found = places(rows * columns, 18)
    assert {place // columns for place in found} == set(range(rows))
    assert {place % columns for place in found} == set(range(columns))
