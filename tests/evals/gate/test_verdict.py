"""The gate's words: promote, hold, roll back, not measured, and what it takes to get each."""

from random import Random

import pytest

from studium.evals.gate.betting import Tally
from studium.evals.gate.verdict import Limits, Pair, count, judge, tallies
from studium.records.adapters import Verdict


def pairs(domain: str, wins: int = 0, losses: int = 0, right: int = 0, wrong: int = 0) -> list[Pair]:
    """Return pairs in an order of chance."""
    scores = [(0.0, 1.0)] * wins + [(1.0, 0.0)] * losses + [(1.0, 1.0)] * right + [(0.0, 0.0)] * wrong
    Random(1).shuffle(scores)
    return [Pair(str(number), domain, 1 + number % 2, a, b) for number, (a, b) in enumerate(scores)]


SUITE = pairs("sums", wins=2, right=80)
BETTER = pairs("sums", wins=40, losses=5, right=50)


def test_better_on_fresh_problems_and_no_worse_on_the_suite_is_promoted():
    decision = judge(BETTER, SUITE)
    assert decision.verdict is Verdict.PROMOTE
    assert decision.better >= 100
    assert decision.at_pair is not None
    assert decision.at_pair < 95


def test_the_verdict_of_a_moment_stays_whatever_comes_after():
    """Anytime-valid: who has reached the limit has reached it."""
    decision = judge(BETTER, SUITE)
    assert decision.at_pair is not None
    assert judge(BETTER[: decision.at_pair], SUITE).verdict is Verdict.PROMOTE
    assert judge(BETTER[: decision.at_pair - 1], SUITE).verdict is Verdict.HOLD


@pytest.mark.parametrize(
    ("suite", "verdict", "said"),
    [
        (None, Verdict.HOLD, "was not asked"),
        (pairs("sums", losses=5, wins=2, right=60), Verdict.HOLD, "a loss of 5 is allowed"),
        (pairs("sums", right=8), Verdict.HOLD, "points are lost (0 lost"),
        (pairs("sums", right=90) + pairs("words", losses=12), Verdict.ROLL_BACK, "words (12 lost, 0 won)"),
        (pairs("sums", wrong=90), Verdict.NOT_MEASURED, "0 to 0 right of 90"),
        ([], Verdict.NOT_MEASURED, "0 to 0 right of 0"),
        ([one._replace(challenger=None) for one in SUITE], Verdict.NOT_MEASURED, "of 0 scored"),
    ],
)
def test_a_better_challenger_is_promoted_only_on_a_suite_that_was_measured_and_not_lost(
    suite: list[Pair] | None, verdict: Verdict, said: str
):
    decision = judge(BETTER, suite)
    assert decision.verdict is verdict
    assert said in " ".join(decision.reasons)


@pytest.mark.parametrize(
    "fresh",
    [[], pairs("sums", wrong=200), [one._replace(champion=None) for one in BETTER]],
    ids=["no pairs", "0 to 0", "nothing scored"],
)
def test_nothing_compared_is_not_measured_and_never_ok(fresh: list[Pair]):
    assert judge(fresh, SUITE).verdict is Verdict.NOT_MEASURED


def test_all_right_on_both_sides_is_measured_and_held():
    assert judge(pairs("sums", right=200), SUITE).verdict is Verdict.HOLD


def test_worse_is_rolled_back_long_before_all_was_asked():
    decision = judge(pairs("sums", wins=5, losses=40, right=50), None)
    assert decision.verdict is Verdict.ROLL_BACK
    assert decision.at_pair is not None
    assert decision.at_pair < 60


def test_harm_to_one_domain_counts_although_the_others_gain():
    fresh = pairs("sums", wins=60, right=20) + pairs("words", losses=25, right=20)
    decision = judge(fresh, SUITE)
    assert decision.verdict is Verdict.ROLL_BACK
    assert "words (25 lost, 0 won)" in decision.reasons[0]


def test_who_often_gives_nothing_to_score_is_not_promoted_on_the_rest():
    silent = [one._replace(item=f"s{one.item}", challenger=None) for one in BETTER[:20]]
    decision = judge(BETTER + silent, SUITE)
    assert decision.verdict is Verdict.HOLD
    assert "20 of 115 fresh problems were not scored" in decision.reasons[-1]
    assert judge(BETTER + silent[:4], SUITE).verdict is Verdict.PROMOTE


def test_stricter_limits_ask_for_more():
    weak = pairs("sums", wins=18, losses=3, right=60)
    assert judge(weak, SUITE, Limits(alpha=0.05)).verdict is Verdict.PROMOTE
    assert judge(weak, SUITE, Limits(alpha=1e-6)).verdict is Verdict.HOLD


def test_counts_are_per_domain_and_level_and_leave_out_what_was_not_scored():
    fresh = [*pairs("sums", wins=3, losses=1, wrong=2), Pair("x", "words", 1, 1.0, None)]
    counts = tallies(fresh)
    assert counts["sums", None].tally == Tally(3, 1, 2)
    assert counts["sums", 1].tally + counts["sums", 2].tally == Tally(3, 1, 2)
    assert (counts["words", None].unscored, counts["words", None].tally.pairs) == (1, 0)
    assert count(fresh).champion_right == 1
