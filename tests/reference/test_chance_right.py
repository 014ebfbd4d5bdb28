"""How often a panel is right, foreseen quickly, against going through everything that could be said."""

from itertools import product
from math import prod
from random import Random

import pytest

from studium.serve.choosing.selector import MOST_FORESEEN, chance_right
from studium.serve.choosing.selector import _weight as weight_of  # pyright: ignore[reportPrivateUsage]


def exact(reliabilities: list[float], wrong_answers: int) -> float:
    """Everybody says the right answer (0) or any wrong one; the weightiest answer is taken, equals by lot."""
    total = 0.0
    weights = [weight_of(p, wrong_answers) for p in reliabilities]
    for said in product(range(wrong_answers + 1), repeat=len(reliabilities)):
        chance = prod(
            p if one == 0 else (1 - p) / wrong_answers for p, one in zip(reliabilities, said, strict=True)
        )
        votes = dict.fromkeys(said, 0.0)
        for one, weight in zip(said, weights, strict=True):
            votes[one] += weight
        best = [one for one, vote in votes.items() if vote > max(votes.values()) - 1e-9]
        total += chance * (0 in best) / len(best)
    return total


@pytest.mark.parametrize(("wrong_answers", "most"), [(1, 6), (2, 6), (3, 5), (10, 4)])
def test_what_is_foreseen_is_close_to_what_would_happen(wrong_answers: int, most: int):
    rng = Random(wrong_answers)
    for number in range(1, most + 1):
        for _ in range(4):
            panel = [round(rng.uniform(0.02, 0.98), 2) for _ in range(number)]
            assert chance_right(tuple(panel), wrong_answers) == pytest.approx(
                exact(panel, wrong_answers), abs=0.05
            )


@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_one_alone_is_right_as_often_as_it_is(p: float):
    assert chance_right((p,), 10) == pytest.approx(p)


def test_extremes():
    assert chance_right((0.0,) * MOST_FORESEEN, 10) == 0.0
    assert chance_right((1.0,) * MOST_FORESEEN, 10) == pytest.approx(1.0)
    assert chance_right((), 10) == 0.0
