from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.errors import BildError
from bild.report.format import common_decimals, decimals, labels, metric_words, percent, plus_minus, significant, spread
from bild.report.page.points import section_points
from bild.report.sections import make_section
from bild.results import Interval
from tests.records import make_record


@pytest.mark.parametrize(
    ("interval", "wanted"),
    [
        (Interval(27.312, 26.4, 28.2), "27.3 ±0.9"),
        (Interval(1.4318, 1.42, 1.44), "1.43 ±0.01"),
        (Interval(1.0, 1.0, 1.0), "1.00"),
        (Interval(123.4, 101.0, 145.0), "123 ±22"),
        (Interval(0.123456, 0.12345, 0.12346), "0.1235 ±0.0000"),
        (Interval(27.3, 27.0, 28.9), "27.3 ±1.6"),
        (Interval(-0.004, -0.05, 0.04), "0.00 ±0.05"),
        (None, "–"),
    ],
)
def test_a_number_is_rounded_by_its_interval(interval: Interval | None, wanted: str) -> None:
    assert plus_minus(interval) == wanted


def test_the_longer_side_of_an_interval_counts() -> None:
    assert plus_minus(Interval(10.0, 9.9, 10.6)) == "10.0 ±0.6"
    assert plus_minus(Interval(10.0, 9.4, 10.1)) == "10.0 ±0.6"


def test_differences_have_signs_and_no_negative_zero() -> None:
    assert plus_minus(Interval(0.05, -0.02, 0.11), signed=True) == "+0.05 ±0.07"
    assert plus_minus(Interval(-0.72, -0.9, -0.5), signed=True) == "-0.72 ±0.22"
    assert plus_minus(Interval(-0.001, -0.05, 0.05), signed=True) == "0.00 ±0.05"
    assert plus_minus(Interval(0.0, 0.0, 0.0), signed=True) == "0.00"


def test_points_of_one_label_have_the_switches_that_tell_them_apart() -> None:
    authors = {"after_rollback": "large", "scan": "first", "verify_eos": False, "rules": "authors"}
    paper = {"after_rollback": "small", "scan": "all", "verify_eos": True, "rules": "paper"}
    given = [{**authors, "first": "small"}, {**paper, "first": "small"}, {**paper, "first": "large"}]
    found = [make_record(**{f"method__{name}": value for name, value in each.items()}) for each in given]
    assert labels(found) == ["BiLD 0.6/2 first=small, rules=authors", "BiLD 0.6/2 first=small", "BiLD 0.6/2"]
    assert labels(found[:2]) == ["BiLD 0.6/2 rules=authors", "BiLD 0.6/2"]
    assert labels([found[0], found[0]]) == [f"BiLD 0.6/2 #{found[0].hash[:6]}"] * 2
    assert labels(found[:1]) == ["BiLD 0.6/2"]


def test_the_ends_have_one_decimal_more() -> None:
    assert spread(Interval(27.312, 26.4, 28.2)) == "27.31 [26.40, 28.20]"
    assert spread(Interval(-0.72, -0.87, -0.58), signed=True) == "-0.720 [-0.870, -0.580]"
    assert spread(Interval(1.0, 1.0, 1.0)) == "1.00"
    assert spread(None) == "–"


def test_an_interval_that_nothing_is_known_of_says_so() -> None:
    score, ratio = Interval(40.31, -59.69, 140.31), Interval(1.5, 0.015, 150.0)
    assert (plus_minus(score), plus_minus(ratio), spread(ratio)) == ("40.31 ±?", "1.50 ±?", "1.50 [?, ?]")
    assert plus_minus(Interval(2000.0, 1900.0, 2110.0)) == "2000 ±110"


def test_a_column_has_the_decimals_of_its_narrowest_interval() -> None:
    column = [Interval(1.0, 1.0, 1.0), Interval(35.6, 35.0, 36.0), None, Interval(40.0, 39.94, 40.06)]
    assert common_decimals(column) == 2
    assert common_decimals([None, Interval(1.0, 1.0, 1.0), Interval(1e308, -1e308, 1e308)]) == 2
    assert plus_minus(column[1], common_decimals(column)) == "35.60 ±0.60"


@given(st.floats(0.0002, 1e4), st.floats(-1e4, 1e4))
def test_the_interval_shows_one_or_two_digits_and_is_never_zero(width: float, value: float) -> None:
    shown = re.sub(r"[.\s]", "", plus_minus(Interval(value, value - width, value + width)).split("±")[1]).lstrip("0")
    assert shown
    assert len(shown) <= 2 or width >= 10
    assert 0 <= decimals(width) <= 4


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [(0.0, "0.00"), (0.0065, "0.65"), (0.059, "5.90"), (0.09996, "10.0"), (0.19, "19.0"), (1.0, "100.0")],
)
def test_rates_in_percent(rate: float, wanted: str) -> None:
    assert percent(rate) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"), [(0.0, "0"), (0.01234, "0.0123"), (6.056, "6.06"), (12.34, "12.3"), (1234.5, "1234")]
)
def test_numbers_without_an_interval(value: float, wanted: str) -> None:
    assert significant(value) == wanted


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bleu", "BLEU"),
        ("bleu:zh", "BLEU (zh)"),
        ("rougeLsum:unicode", "ROUGE-Lsum (unicode)"),
        ("evaluate:exact_match", "exact_match"),
        ("evaluate:folder/of/mine.py", "mine"),
        ("other", "other"),
    ],
)
def test_scores_are_named_as_people_write_them(name: str, words: str) -> None:
    assert metric_words(name) == words


def test_a_record_of_version_1_is_named_by_its_method_and_thresholds_and_not_by_its_old_label() -> None:
    old = make_record(label="bild-fb0.6-rb2-k10")
    section = make_section([old])
    assert list(section.names.values()) == ["BiLD 0.6/2"]
    assert section_points(section)[0]["name"] == "BiLD 0.6/2"
    with pytest.raises(BildError, match=r"^BiLD 0.6/2 and BiLD 0.6/2 cannot stand"):
        make_section([old, make_record(engine__dtype="fp16")])
