"""Intervals against textbook values and against the meaning of the word."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studium.evals.intervals import bootstrap, bootstrap_mean, bounded_mean, wilson


def test_wilson_agrees_with_a_value_worked_by_hand():
    found = wilson(8, 10)
    assert found.value == 0.8
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@given(trials=st.integers(1, 5000), data=st.data())
def test_wilson_holds_the_share_and_stays_inside_0_and_1(trials: int, data: st.DataObject):
    successes = data.draw(st.integers(0, trials))
    found = wilson(successes, trials)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert found.low < found.high


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_a_share_of_nothing_is_not_scored(successes: int, trials: int):
    with pytest.raises(ValueError, match="is no share"):
        wilson(successes, trials)


def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    rng, covered = Random(1), 0
    for trial in range(200):
        sample = [rng.gauss(3.0, 1.0) for _ in range(60)]
        found = bootstrap_mean(sample, resamples=200, seed=trial)
        covered += found.low <= 3.0 <= found.high
    assert 175 <= covered <= 200


def test_the_bootstrap_repeats_itself_and_refuses_nothing():
    assert bootstrap_mean([1.0, 2.0, 4.0]) == bootstrap_mean([1.0, 2.0, 4.0])
    with pytest.raises(ValueError, match="not scored"):
        bootstrap_mean([])


@given(trials=st.integers(1, 500), data=st.data())
def test_a_bounded_mean_of_zeros_and_ones_is_wilsons_share(trials: int, data: st.DataObject):
    right = data.draw(st.integers(0, trials))
    assert bounded_mean([1.0] * right + [0.0] * (trials - right)) == wilson(right, trials)


def test_a_bounded_mean_holds_its_level_for_values_that_are_no_coins():
    rng, inside = Random(5), 0
    for _ in range(400):
        found = bounded_mean([rng.betavariate(2, 5) for _ in range(25)])
        inside += found.low <= 2 / 7 <= found.high
    assert inside >= 0.95 * 400


@pytest.mark.parametrize("values", [[], [1.5], [-0.1, 0.2]])
def test_what_is_not_from_0_to_1_has_no_bounded_mean(values: list[float]):
    with pytest.raises(ValueError, match="from 0 to 1"):
        bounded_mean(values)


def test_a_bootstrap_holds_its_statistic():
    values = [1.0, 2.0, 2.0, 9.0]
    found = bootstrap(values, max)
    assert (found.value, found.high) == (9.0, 9.0)
    assert found.low < 9.0
