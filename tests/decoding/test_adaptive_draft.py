"""`max_draft=auto`: the draft limit that pays best by given costs, and how it follows what a text shows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import Draft, DraftCosts, policy_for
from bild.decoding.methods import METHODS
from bild.decoding.policies import rules_for
from bild.decoding.rules import Pace, Tally
from bild.errors import BildError
from tests import lanes
from tests.decoding.scripted import END, START, A, drafts, judges, play, writes

many = lanes.many(200)
FLAT = DraftCosts(0.01, ((1, 1.0), (32, 1.0)))
STEEP = DraftCosts(0.3, ((1, 1.0), (2, 2.0), (32, 32.0)))
MIDDLE = DraftCosts(0.2, ((1, 1.0), (8, 1.2), (32, 2.5)), 0.05)

seconds = st.floats(1e-5, 1.0)
tables = st.builds(
    lambda small, first, others, rest: DraftCosts(small, ((1, first), *sorted(others.items())), rest),
    seconds,
    seconds,
    st.dictionaries(st.integers(2, 40), seconds, min_size=1, max_size=6),
    st.floats(0.0, 0.1),
)


def shares(tally: Tally) -> tuple[float, float]:
    """Count the steps that are sure, and the drafted tokens that stand, as the rule takes them to be."""
    return 1 - tally.unsure / (tally.steps + 4), (tally.stood + 4) / (tally.stood + tally.fell + 5)


def price(costs: DraftCosts, width: int) -> float:
    """A large pass, read off the table."""
    (low, a), (high, b) = next(
        ((x, y) for x, y in zip(costs.large, costs.large[1:], strict=False) if x[0] <= width <= y[0])
    )
    return a + (b - a) * (width - low) / (high - low)


def rate(costs: DraftCosts, limit: int, tally: Tally) -> float:
    """Tokens per second of a round, summed over every way that it can go."""
    sure, stands = shares(tally)
    tokens = time = 0.0
    for drafted in range(limit + 1):  # so many sure steps, and then an unsure one or the limit
        chance = sure**drafted * (1.0 if drafted == limit else 1 - sure)
        steps = min(drafted + 1, limit)
        kept = sum(n * stands**n * (1 - stands) for n in range(drafted)) + drafted * stands**drafted
        tokens += chance * (1 + kept)
        time += chance * (costs.rest + steps * costs.small + price(costs, drafted + 1))
    return tokens / time


@many
@given(tables, st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_no_other_limit_pays_better(costs: DraftCosts, sure: int, unsure: int, stood: int, fell: int) -> None:
    tally = Tally(sure + unsure, unsure, stood, fell)
    rates = [rate(costs, limit, tally) for limit in range(1, costs.longest + 1)]
    limit = Pace(costs).limit(tally)
    assert 1 <= limit <= costs.longest
    assert rates[limit - 1] >= max(rates) * (1 - 1e-9)


@many
@given(tables, st.floats(0.0, 1.0))
def test_where_no_step_is_unsure_the_rate_is_the_plain_one(costs: DraftCosts, stands: float) -> None:
    tally = Tally(40, 0, round(40 * stands), 40 - round(40 * stands))
    a = shares(tally)[1]
    for limit in range(1, costs.longest + 1):
        plain = sum(a**j for j in range(limit + 1)) / (limit * costs.small + price(costs, limit + 1) + costs.rest)
        assert rate(costs, limit, tally) == pytest.approx(plain)


def test_free_passes_make_long_drafts_and_steep_ones_short_drafts() -> None:
    accepted = Tally(1000, 0, 1000, 1)
    assert Pace(FLAT).limit(accepted) == FLAT.longest == 31
    assert Pace(STEEP).limit(accepted) == 1
    assert 1 < Pace(MIDDLE).limit(Tally()) < 31


def test_the_limit_falls_as_more_is_taken_back_and_grows_as_more_stands() -> None:
    pace = Pace(MIDDLE)
    falling = [pace.limit(Tally(60, 0, 60, fell)) for fell in range(0, 60, 3)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > 8 > 2 >= falling[-1]
    growing = [pace.limit(Tally(stood, 0, stood, 1)) for stood in range(0, 200, 10)]
    assert growing == sorted(growing)


def test_what_a_step_costs_shortens_drafts() -> None:
    limits = [Pace(DraftCosts(small, MIDDLE.large)).limit(Tally()) for small in (0.001, 0.05, 0.2, 0.6)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] > limits[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"small": 0.0},
        {"small": math.nan},
        {"rest": -1.0},
        {"rest": math.nan},
        {"large": ()},
        {"large": ((1, 1.0),)},
        {"large": ((2, 1.0), (4, 1.0))},
        {"large": ((1, 1.0), (4, 1.0), (3, 1.0))},
        {"large": ((1, 1.0), (4, math.inf))},
    ],
)
def test_what_is_no_cost_is_refused(wrong: dict) -> None:
    with pytest.raises(BildError, match="are no costs of drafts"):
        DraftCosts(**({"small": 0.1, "large": ((1, 1.0), (2, 1.0))} | wrong))


# --- in the loop


def test_the_loop_follows_the_tally_of_its_own_text() -> None:
    method = MethodConfig("bild", max_draft="auto")
    make = policy_for(method, ThresholdConfig(0.5, 5.0), MIDDLE)
    pace, tally = Pace(MIDDLE), Tally()
    first = pace.limit(tally)
    asked = [first, pace.limit(tally.add(first, False, 1, True)), pace.limit(tally.add(2, True, 1, False))]
    text = [A] * first
    decoded, asks = play(
        make(start=START, eos=END, max_length=60),
        writes(A),
        drafts(*text),
        judges(text, A, A + 1, *text[1:]),  # the second of them is taken back
        drafts(A, A, stop="unsure"),
        judges([A], A, A),
        drafts(END, stop="eos"),
        judges([END], END, A),
    )
    assert [ask.limit for ask in asks if isinstance(ask, Draft)] == asked
    assert asked[1] < first
    assert decoded.tokens[-1] == END
    # The next text begins anew.
    _, again = play(
        make(start=START, eos=END, max_length=60), writes(A), drafts(END, stop="eos"), judges([END], END, A)
    )
    assert [ask.limit for ask in again if isinstance(ask, Draft)] == [first]


@pytest.mark.parametrize("name", [name for name, spec in METHODS.items() if spec.stop is not None])
def test_every_method_with_a_limit_takes_a_table_or_says_why_not(name: str) -> None:
    if name == "heuristic":
        with pytest.raises(BildError, match="method=heuristic learns its window by itself"):
            MethodConfig(name, max_draft="auto")
        return
    method = MethodConfig(name, max_draft="auto", first="small")
    ask = next(policy_for(method, ThresholdConfig(), MIDDLE)(start=START, eos=END, max_length=60))
    assert ask.limit == (1 if name == "cumulative" else Pace(MIDDLE).limit(Tally()))
    with pytest.raises(BildError, match=f"method={name} with max_draft=auto goes by costs that only a live run"):
        policy_for(method, ThresholdConfig())


def test_a_number_needs_no_table_and_heeds_none() -> None:
    rules = rules_for(MethodConfig("bild", max_draft=3), ThresholdConfig(), STEEP)
    assert rules is not None
    assert (rules.max_draft, rules.pace) == (3, None)
