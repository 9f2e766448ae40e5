"""Prices: from the forward passes of a text to its seconds, and the file that they lie in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.errors import BildError
from bild.results.codec import dumps, encode, write_json
from bild.results.prices import PassPrice, PriceError, Prices, interpolate, read_prices

PRICES = Prices(
    schema=1,
    identity={"engine": {"name": "fused"}},
    created="2026-01-01T00:00:00+00:00",
    large=PassPrice({1: 0.010, 4: 0.016}, position=10, source=20, per_position=1e-5, per_source=1e-6),
    small=PassPrice({1: 0.002}),
    large_alone=PassPrice({1: 0.008}),
    small_alone=PassPrice({1: 0.001}),
    encode_large={10: 0.1, 20: 0.2},
    encode_small={10: 0.01, 20: 0.02},
    round=0.0005,
    example=0.001,
    error=PriceError(0.05, 0.04, 0),
    texts=3,
)
passes = st.lists(st.integers(1, 12), max_size=30)


def test_one_text_by_both_models_adds_up() -> None:
    # Positions before the large passes: 0 and 1; the usual place is 10, the usual source 20.
    large = 0.010 + 0.016 + 1e-5 * ((0 + 1) - 2 * 10) + 1e-6 * 2 * (15 - 20)
    wanted = 0.001 + 0.15 + 0.015 + large + 3 * 0.002 + 2 * 0.0005
    assert PRICES.seconds(15, [1, 1, 1], [1, 4]) == pytest.approx(wanted)


def test_a_model_alone_has_its_own_table_and_no_second_encoder() -> None:
    assert PRICES.seconds(10, [], [1] * 5) == pytest.approx(0.001 + 0.1 + 5 * 0.008)
    assert PRICES.seconds(10, [1] * 5, []) == pytest.approx(0.001 + 0.01 + 5 * 0.001)


def test_positions_that_were_taken_back_cost_no_place() -> None:
    whole = PRICES.seconds(20, [1], [5, 5])
    assert PRICES.seconds(20, [1], [5, 5], length=5) == pytest.approx(whole - 1e-5 * 2.5)


@given(st.lists(st.tuples(st.integers(1, 40), passes, passes), min_size=1, max_size=5))
def test_many_texts_are_priced_as_each_by_itself(texts: list[tuple[int, list[int], list[int]]]) -> None:
    sources, small, large = (list(column) for column in zip(*texts, strict=True))
    together = PRICES.seconds_each(sources, small, large)
    assert list(together) == pytest.approx([PRICES.seconds(*text) for text in texts])


def test_a_table_is_read_between_its_entries_and_on_beyond_them() -> None:
    table = {1: 1.0, 4: 2.5, 8: 3.0}
    assert [interpolate(table, width) for width in (1, 2, 8, 12)] == pytest.approx([1.0, 1.5, 3.0, 3.5])
    assert interpolate({3: 7.0}, 9) == 7.0


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    write_json(path, PRICES)
    assert read_prices(path) == PRICES


@pytest.mark.parametrize("text", ["", "{}", "[]", dumps(encode(replace(PRICES, schema=99))), '{"schema": NaN}'])
def test_another_file_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(BildError, match="does not hold prices"):
        read_prices(path)
