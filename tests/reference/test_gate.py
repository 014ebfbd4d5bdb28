"""The gate's mathematics against slow, obvious code and exact enumeration."""

import math
from itertools import product

import numpy as np
import pytest

from studium.evals.gate.betting import SHAPE, Tally, _mixture, log_evidence, mean_of
from studium.evals.gate.bound import change, most_lost

MARGINS = (-0.2, 0.0, 0.05)


def held(outcomes: tuple[int, ...], margin: float) -> float:
    """What gamblers with every stake hold together after so many differences, bet by bet."""
    stakes, log_weights = _mixture(SHAPE)
    total = 0.0
    for stake, log_weight in zip(stakes.tolist(), log_weights.tolist(), strict=True):
        money = math.exp(log_weight)
        for outcome in outcomes:
            money *= 1 + stake * (outcome - margin) / (1 + margin)
        total += money
    return total


@pytest.mark.parametrize("margin", MARGINS)
def test_evidence_is_what_the_gamblers_hold_whatever_the_order(margin: float):
    for outcomes in ((), (1,), (-1, 0, 1, 1), (1, 1, 0, -1), (-1,) * 40, (1,) * 60 + (0,) * 30):
        found = log_evidence(outcomes.count(1), outcomes.count(-1), outcomes.count(0), margin=margin)
        assert float(found) == pytest.approx(math.log(held(outcomes, margin)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("margin", MARGINS)
def test_a_gambler_expects_no_gain_where_the_claim_is_true(margin: float):
    """At the edge of the claim, gains minus losses exactly `margin` of all pairs, the mean over all paths is 1."""
    losses = 0.3
    chances = {1: losses + margin, -1: losses, 0: 1 - 2 * losses - margin}
    mean = sum(
        math.prod(chances[one] for one in path)
        * math.exp(log_evidence(path.count(1), path.count(-1), path.count(0), margin=margin))
        for path in product((1, -1, 0), repeat=7)
    )
    assert mean == pytest.approx(1.0)


def crossed(theta: float, looks: int, alpha: float) -> np.ndarray:
    """The exact probability, per look, that evidence stood at 1/alpha by then, were the share of gains `theta`."""
    waiting, gone, found = np.zeros(looks + 1), 0.0, []
    waiting[0] = 1.0
    for look in range(1, looks + 1):
        moved = waiting * (1 - theta)
        moved[1:] += waiting[:-1] * theta
        gains = np.arange(look + 1)
        here = log_evidence(gains, look - gains) >= -math.log(alpha)
        gone += float(moved[: look + 1][here].sum())
        moved[: look + 1][here] = 0.0
        waiting = moved
        found.append(gone)
    return np.array(found)


def test_looking_after_every_pair_promotes_equals_in_one_of_a_hundred_at_most():
    promoted = crossed(0.5, 1500, 0.01)
    assert 0.002 < promoted[-1] <= 0.01
    assert crossed(0.465, 43, 0.01)[-1] < 0.001  # three points worse on 100 tasks that differ in 43
    assert crossed(0.5, 1500, 0.1)[-1] <= 0.1


def test_a_winner_of_seven_in_ten_is_found_within_sixty_and_a_harmful_one_within_a_hundred_and_fifty():
    assert int((crossed(0.7, 200, 0.01) < 0.5).sum()) + 1 <= 60
    wins, losses = 0.2 * 0.7, 0.8 * 0.3
    differing = int((crossed(losses / (wins + losses), 400, 0.1) < 0.5).sum()) + 1
    assert differing / (wins + losses) < 150


def test_the_mean_of_evidence_is_evidence():
    assert float(mean_of([math.log(4.0), math.log(2.0)])) == pytest.approx(math.log(3.0))


def test_evidence_of_very_many_pairs_stays_finite():
    assert 50_000 < float(log_evidence(100_000, 0)) < 100_000 * math.log(2)
    assert float(log_evidence(0, 100_000)) < -100


def test_a_margin_that_leaves_nothing_to_bet_on_is_refused():
    with pytest.raises(ValueError, match="margin"):
        log_evidence(1, 1, margin=1.0)


def likelihood(tally: Tally, share_lost: float, changed: float) -> float:
    won, tied = share_lost + changed, 1 - 2 * share_lost - changed
    return sum(
        count * math.log(share) if share > 0 else (0.0 if count == 0 else -math.inf)
        for count, share in ((tally.gains, won), (tally.losses, share_lost), (tally.ties, tied))
    )


def score_by_search(tally: Tally, changed: float) -> float:
    """The standardised distance with the likeliest share of losses found by trying them all."""
    shares = np.linspace(max(0.0, -changed), (1 - changed) / 2, 20_001)
    best = max(shares.tolist(), key=lambda share: likelihood(tally, share, changed))
    variance = tally.pairs * (2 * best + changed * (1 - changed))
    return (tally.gains - tally.losses - tally.pairs * changed) / math.sqrt(variance)


@pytest.mark.parametrize("tally", [Tally(12, 3, 45), Tally(0, 0, 60), Tally(1, 0, 59), Tally(5, 9, 0)])
def test_the_interval_ends_where_the_score_test_refuses(tally: Tally):
    found = change(tally)
    assert found.low < (tally.gains - tally.losses) / tally.pairs < found.high
    assert score_by_search(tally, found.high) == pytest.approx(-1.96, abs=0.01)
    assert score_by_search(tally, found.low) == pytest.approx(1.96, abs=0.01)


def test_the_bound_on_a_loss_is_broken_in_one_suite_of_twenty_at_most():
    """Over every count of a small suite, at a true loss of ten points."""
    pairs, lost, won = 60, 0.15, 0.05
    broken = 0.0
    for losses in range(pairs + 1):
        for gains in range(pairs + 1 - losses):
            ties = pairs - losses - gains
            if most_lost(Tally(gains, losses, ties)) < lost - won:
                logs = math.lgamma(pairs + 1) - sum(math.lgamma(n + 1) for n in (losses, gains, ties))
                logs += losses * math.log(lost) + gains * math.log(won) + ties * math.log(1 - lost - won)
                broken += math.exp(logs)
    assert 0.03 < broken < 0.06
