"""The quick ways against slow, obvious ones."""

import math
from random import Random

import mpmath
import pytest

from studium.fleet.quantiles import beta, incomplete_beta
from studium.serve.history.calibration import (
    PRIOR_OFFSET_SD,
    PRIOR_SLOPE_SD,
    Calibration,
    Pair,
    cross_fitted,
    ece,
    ece_interval,
    fit,
    reliability_diagram,
)

SHAPES = [(1.0, 1.0), (0.3, 0.2), (3.0, 4.0), (56.0, 0.5), (52.1, 3.9), (200.0, 50.0), (0.5, 400.0)]


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_the_beta_distribution_agrees_with_mpmath(a, b):
    for x in (1e-6, 0.01, 0.2, 0.5, 0.77, 0.99, 1 - 1e-6):
        exact = float(mpmath.betainc(a, b, 0, x, regularized=True))
        assert incomplete_beta(x, a, b) == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_a_quantile_is_where_the_distribution_reaches_its_share(a, b):
    for share in (0.05, 0.5, 0.95):
        x = beta(share, a, b)
        if 1e-6 < x < 1 - 1e-6:
            assert incomplete_beta(x, a, b) == pytest.approx(share, abs=1e-6)


def overconfident(number: int, seed: int) -> list[Pair]:
    """Answers of which too much is said: their true log-odds are half of those told, less 0.5."""
    rng = Random(seed)
    pairs = []
    for _ in range(number):
        said = rng.uniform(0.05, 0.99)
        truth = 1 / (1 + math.exp(-(0.5 * math.log(said / (1 - said)) - 0.5)))
        pairs.append(Pair(said, float(rng.random() < truth)))
    return pairs


def log_posterior(slope: float, offset: float, pairs: list[Pair]) -> float:
    total = -((slope - 1) ** 2) / (2 * PRIOR_SLOPE_SD**2) - offset**2 / (2 * PRIOR_OFFSET_SD**2)
    for said, right in pairs:
        p = 1 / (1 + math.exp(-(slope * math.log(said / (1 - said)) + offset)))
        total += right * math.log(p) + (1 - right) * math.log(1 - p)
    return total


@pytest.mark.parametrize("number", [1, 3, 20, 150])
def test_the_curve_is_the_best_on_a_grid(number):
    pairs = overconfident(number, seed=number)
    curve = fit(pairs)
    grid = [(s / 50, o / 50) for s in range(5, 110) for o in range(-100, 100)]
    best = max(grid, key=lambda point: log_posterior(*point, pairs))
    assert (curve.slope, curve.offset) == pytest.approx(best, abs=0.021)


def test_without_history_confidence_stays_what_it_is():
    assert [fit([]).of(share) for share in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]


def test_a_few_grades_change_little_and_many_find_the_truth():
    assert abs(fit([Pair(0.9, 0.0)]).of(0.9) - 0.9) < 0.25
    curve = fit(overconfident(2000, seed=1))
    assert curve.slope == pytest.approx(0.5, abs=0.1)
    assert curve.offset == pytest.approx(-0.5, abs=0.15)


def test_the_curve_never_falls_even_where_history_does():
    contrary = [Pair(0.95, 0.0), Pair(0.1, 1.0)] * 100
    curve = fit(contrary)
    assert curve.of(0.2) <= curve.of(0.5) <= curve.of(0.9)


def test_what_was_computed_is_found_again_from_what_was_told():
    curve = Calibration(0.6, -0.4, 50)
    for share in (0.01, 0.4, 0.97):
        assert curve.before(curve.of(share)) == pytest.approx(share)


def test_the_error_is_that_of_the_slow_definition():
    pairs = overconfident(200, seed=5)
    ordered, slow = sorted(pairs), 0.0
    for place in range(10):
        one = ordered[20 * place : 20 * place + 20]
        said, right = sum(p.confidence for p in one) / 20, sum(p.right for p in one) / 20
        slow += 20 / 200 * abs(said - right)
    assert ece(pairs) == pytest.approx(slow)
    assert ece([]) is None and ece_interval([]) is None


def test_the_order_of_answers_with_equal_confidence_changes_nothing():
    half_right = [Pair(0.5, 1.0)] * 100 + [Pair(0.5, 0.0)] * 100
    assert ece(half_right) == ece(half_right[::-1]) == pytest.approx(0.0)
    discrete = [Pair(0.1 * (number % 5), float(number % 3 == 0)) for number in range(300)]
    assert ece(discrete) == pytest.approx(ece(discrete[::-1]))


def test_a_fitted_curve_lowers_the_error_on_answers_it_never_saw():
    before, after = (
        ece_interval(overconfident(1000, seed=2)),
        ece_interval(cross_fitted(overconfident(1000, seed=2))),
    )
    assert before is not None and after is not None
    assert after.value < 0.06 < before.low


def test_bins_hold_as_many_answers_each_and_few_answers_make_few_bins():
    assert [one.pairs for one in reliability_diagram(overconfident(100, seed=3))] == [10] * 10
    assert [one.pairs for one in reliability_diagram(overconfident(7, seed=3))] == [7]
    assert reliability_diagram([]) == []
