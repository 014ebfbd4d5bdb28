"""Intervals against textbook values and against the meaning of the word."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studium.evals.intervals import bootstrap_mean, wilson


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
