"""Predictions of one quantity: their coverage, what a surprise does to them, and the quantiles beneath."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studium.fleet.belief import Prior, expected, learned
from studium.fleet.quantiles import beta, incomplete_beta, student_t
from studium.records.profiles import NOTHING_MEASURED, Range, Spread

VAGUE = Prior(centre=math.log(0.1), between=0.5, within=0.2, floor=0.01)
NOBODY_KNOWS = Prior(centre=None, between=0.5, within=0.2, floor=0.01)


def after(values: list[float], prior: Prior = VAGUE, spread: Spread = NOTHING_MEASURED) -> Spread:
    for value in values:
        spread = learned(spread, value, prior)
    return spread


def forecast(spread: Spread, prior: Prior = VAGUE) -> Range:
    found = expected(spread, prior)
    assert found is not None
    return found


def loads(seed: int, count: int, around: float = 0.1) -> list[float]:
    rng = Random(seed)
    return [around * math.exp(rng.gauss(0, 0.1)) for _ in range(count)]


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    [(0.95, 3, 2.353), (0.95, 10, 1.812), (0.99, 4, 3.747), (0.05, 5, -2.015), (0.5, 7, 0.0)],
)
def test_quantiles_of_t_agree_with_the_tables(share: float, freedom: float, value: float):
    assert student_t(share, freedom) == pytest.approx(value, rel=0.01, abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 5), (7, 3), (40, 2)])
def test_the_incomplete_beta_function_is_a_binomial_tail(a: int, b: int):
    trials = a + b - 1
    for x in (0.02, 0.3, 0.5, 0.9):
        tail = sum(math.comb(trials, k) * x**k * (1 - x) ** (trials - k) for k in range(a, trials + 1))
        assert incomplete_beta(x, a, b) == pytest.approx(tail, rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0.6, 1.9), (2.0, 5.0), (30.5, 900.0)])
def test_quantiles_of_beta_are_where_their_share_lies_below(a: float, b: float):
    for share in (0.05, 0.5, 0.95):
        assert incomplete_beta(beta(share, a, b), a, b) == pytest.approx(share, abs=1e-3)


def test_nothing_known_is_not_a_number():
    assert expected(NOTHING_MEASURED, NOBODY_KNOWS) is None


def test_before_any_measurement_the_prior_speaks():
    found = forecast(NOTHING_MEASURED)
    assert found.median == pytest.approx(0.1)
    assert found.low < 0.05 and found.high > 0.2
    assert found.observations == 0


def test_each_measurement_moves_the_forecast_and_narrows_it():
    widths = [
        math.log(found.high / found.low)
        for count in (0, 1, 3, 10, 30)
        if (found := forecast(after(loads(1, count, around=0.3))))
    ]
    assert widths == sorted(widths, reverse=True)
    assert forecast(after(loads(1, 10, around=0.3))).median == pytest.approx(0.3, rel=0.15)


def test_ninety_percent_intervals_hold_about_ninety_percent_of_what_comes():
    rng, inside, asked = Random(7), 0, 0
    for _ in range(150):
        level, noise = rng.gauss(math.log(0.1), VAGUE.between), VAGUE.within * math.exp(rng.gauss(0, 0.3))
        spread = NOTHING_MEASURED
        for _ in range(12):
            value, found = math.exp(rng.gauss(level, noise)), forecast(spread)
            inside, asked = inside + (found.low <= value <= found.high), asked + 1
            spread = learned(spread, value, VAGUE)
    assert 0.86 <= inside / asked <= 0.94


def test_one_load_slowed_by_a_busy_disk_spoils_nothing():
    usual = after(loads(2, 20))
    before, shaken = forecast(usual), after([60.0], spread=usual)
    assert forecast(shaken).median < 1.2 * before.median
    assert forecast(shaken).high < 2 * before.high
    calm = forecast(after(loads(3, 20), spread=shaken))
    assert calm.high / calm.low < 1.3 * before.high / before.low


@pytest.mark.parametrize("prior", [VAGUE, NOBODY_KNOWS])
def test_a_first_measurement_that_was_an_accident_is_soon_forgotten(prior: Prior):
    spread = after([60.0, *loads(4, 8)], prior)
    assert forecast(spread, prior).median < 0.2


def test_three_surprises_in_a_row_are_how_things_are_now():
    usual = after(loads(5, 40))
    moved = after(loads(6, 5, around=3.0), spread=usual)
    assert forecast(moved).median == pytest.approx(3.0, rel=0.5)
    mixed = after([60.0, 0.1, 60.0, 0.1, 60.0, 0.1], spread=usual)
    assert forecast(mixed).median < 0.2


def test_equal_measurements_do_not_make_a_forecast_certain():
    found = forecast(after([0.1] * 500))
    assert found.low < 0.1 < found.high


@given(st.lists(st.floats(5e-324, 1.7e308), min_size=1, max_size=30), st.sampled_from([VAGUE, NOBODY_KNOWS]))
def test_whatever_is_measured_the_forecast_stays_a_number(values: list[float], prior: Prior):
    found = forecast(after(values, prior), prior)
    assert 0 <= found.low <= found.median <= found.high < math.inf
    assert found.observations == len(values)
