"""Prices from timed passes: a law that is known is found again, through noise and spikes, and its error is told."""

from __future__ import annotations

import random

import pytest

from bild.errors import BildError
from bild.results.prices import PassPrice, Prices
from bild.sweep.cost_model import Call, TimedText, fit_prices, relative_errors, spread

LARGE = {1: 10e6, 2: 14e6, 3: 16e6, 5: 20e6, 8: 22e6, 11: 25e6}
SMALL, LARGE_ALONE, SMALL_ALONE, ENTRY, REST = 2e6, 9e6, 1.8e6, 0.3e6, 0.1e6  # ns
PLACE, SOURCE = 0.02e6, 0.005e6  # ns for each position of a large pass


class Machine:
    """Times texts by the law above."""

    def __init__(self, noise: float = 0.0, spikes: float = 0.0) -> None:
        self.dice = random.Random(3)
        self.noise, self.spikes = noise, spikes

    def ns(self, exact: float) -> int:
        spike = 1000 if self.dice.random() < self.spikes else 1
        return round(exact * self.dice.gauss(1, self.noise) * spike)

    def text(self, setting: str) -> TimedText:
        source, length = self.dice.randint(10, 60), self.dice.randint(15, 40)
        large: list[Call] = []
        small: list[Call] = []
        encode = {"large": self.ns(1e6 * source), "small": self.ns(0.2e6 * source)}
        if setting == "vanilla":
            exact = length * (LARGE_ALONE + SOURCE * (source - 35) + PLACE * ((length - 1) / 2 - 14))
            large, encode["small"] = [Call(1, length, 0, self.ns(exact))], 0
        elif setting == "small":
            small, encode["large"] = [Call(1, length, 0, self.ns(length * SMALL_ALONE))], 0
        else:
            place = 0
            while place < length:
                width = self.dice.choice(list(LARGE))
                if width > 1:
                    small.append(Call(1, width - 1, place, self.ns(ENTRY + (width - 1) * SMALL)))
                exact = LARGE[width] + PLACE * (place - 14) + SOURCE * (source - 35)
                large.append(Call(width, 1, place, self.ns(exact)))
                place += width
        rest = round(REST * max(1, len(large)))
        calls = {"large": large, "small": small}
        total = sum(encode.values()) + sum(c.ns for own in calls.values() for c in own) + rest
        passes = {role: [n for c in own for n in (c.feed, *[1] * (c.steps - 1))] for role, own in calls.items()}
        return TimedText(setting, source, total, encode, rest, calls, passes["small"], passes["large"], length + 1)

    def texts(self, count: int) -> list[TimedText]:
        return [self.text(["vanilla", "a", "small", "b"][i % 4]) for i in range(count)]


def large_at(price: PassPrice, width: int, place: float, source: float) -> float:
    usual = price.of(width) + price.per_position * (place - price.position)
    return 1e9 * (usual + price.per_source * (source - price.source))


def test_an_exact_law_is_found_again() -> None:
    prices = fit_prices(Machine().texts(240), {"a": 1})
    for width, ns in LARGE.items():
        assert large_at(prices.large, width, 14, 35) == pytest.approx(ns, rel=0.01)
    assert prices.large.per_position * 1e9 == pytest.approx(PLACE, rel=0.05)
    assert prices.small.of(1) * 1e9 == pytest.approx(SMALL, rel=0.02)
    assert prices.small_alone.of(1) * 1e9 == pytest.approx(SMALL_ALONE, rel=0.01)
    assert large_at(prices.large_alone, 1, 14, 35) == pytest.approx(LARGE_ALONE, rel=0.02)
    assert prices.identity == {"a": 1}
    assert (prices.texts, prices.error.points) == (240, 0)


@pytest.mark.parametrize(("noise", "spikes"), [(0.0, 0.0), (0.2, 0.0), (0.1, 0.0003)])
def test_texts_that_were_not_seen_are_predicted(noise: float, spikes: float) -> None:
    machine = Machine(noise, spikes)
    prices = fit_prices(machine.texts(400), {})
    for setting, error in relative_errors(prices, Machine(noise).texts(400)).items():
        assert abs(error) < 0.06, setting


def test_a_wider_pass_is_never_cheaper() -> None:
    prices = fit_prices(Machine(0.5).texts(120), {})
    table = [prices.large.seconds[width] for width in sorted(prices.large.seconds)]
    assert table == sorted(table)


def test_noise_makes_a_wider_error_bar() -> None:
    calm, wild = (fit_prices(Machine(noise).texts(160), {}).error for noise in (0.0, 1.5))
    assert calm.relative == 0.05  # what prices without measured points have at least
    assert wild.relative > calm.relative


@pytest.mark.parametrize("lacking", ["vanilla", "small", "a"])
def test_too_few_texts_are_told(lacking: str) -> None:
    texts = [text for text in Machine().texts(40) if text.setting not in (lacking, "b")]
    with pytest.raises(BildError, match="Too few texts"):
        fit_prices(texts, {})


def test_the_spread_covers_what_was_seen() -> None:
    assert spread([0.01, -0.01]) == 0.02
    assert spread([0.1, -0.1]) == pytest.approx(0.196)
    assert isinstance(fit_prices(Machine().texts(80), {}), Prices)
