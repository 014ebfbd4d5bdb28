"""The gate on live traffic: streams apart, replies matched, harm of any kind seen, no traffic is hold."""

from random import Random

import pytest

from studium.evals.gate.betting import Tally
from studium.evals.gate.live import (
    MOST_WAITING,
    Side,
    Standing,
    Stream,
    Terms,
    difference,
    judged,
    look,
    paired,
    share_earned,
    single,
)
from studium.records.adapters import Verdict

VERIFIED = Terms(quality=(Stream.VERIFIER,))


def after(stream: Stream, differences: list[float], begin: Standing = Standing()) -> Standing:  # noqa: B008
    standing = begin
    for one in differences:
        standing = paired(standing, stream, one)
    return standing


def test_no_traffic_is_hold():
    decision = look(Standing())
    assert (decision.verdict, decision.reasons) == (Verdict.HOLD, ("no traffic was compared yet",))


def test_a_better_challenger_is_promoted_and_earns_its_share_step_by_step():
    shares = list[float]()
    standing = Standing()
    while look(standing, VERIFIED).verdict is Verdict.HOLD:
        shares.append(share_earned(look(standing, VERIFIED), VERIFIED))
        standing = paired(standing, Stream.VERIFIER, 1.0)
    assert look(standing, VERIFIED).verdict is Verdict.PROMOTE
    assert shares == sorted(shares)
    assert set(shares) == {0.0, 0.05, 0.2, 0.5}


def test_streams_declared_but_silent_ask_for_more_of_the_others():
    standing = after(Stream.VERIFIER, [1.0] * 14)
    assert look(standing, VERIFIED).verdict is Verdict.PROMOTE
    assert look(standing).verdict is Verdict.HOLD


@pytest.mark.parametrize(
    ("stream", "about"),
    [
        (Stream.VERIFIER, "its replies"),
        (Stream.LATENCY, "latency"),
        (Stream.COST, "cost"),
        (Stream.ERRORS, "errors"),
    ],
)
def test_harm_of_any_kind_rolls_back_whatever_else_is_better(stream: Stream, about: str):
    standing = after(Stream.JUDGE, [1.0] * 40)
    standing = after(stream, [-1.0] * 25, standing)
    decision = look(standing, Terms(quality=(Stream.VERIFIER, Stream.JUDGE)))
    assert decision.verdict is Verdict.ROLL_BACK
    assert about in decision.reasons[0]
    assert share_earned(decision) == 0.0


def test_faster_and_cheaper_alone_promotes_nobody():
    standing = after(Stream.LATENCY, [1.0] * 500)
    assert look(standing).verdict is Verdict.HOLD


def test_a_judge_that_follows_the_order_says_nothing():
    assert judged("challenger", "challenger") == 1.0
    assert judged("champion", "champion") == -1.0
    assert judged("challenger", "champion") == judged("tie", "tie") == 0.0
    assert judged("challenger", None) is None


def test_seconds_count_only_beyond_the_tolerance():
    assert difference(-1.0, -1.15, 0.2) == 0.0
    assert difference(-1.0, -1.3, 0.2) < 0 < difference(-1.3, -1.0, 0.2)
    assert difference(0.0, 0.0, 0.2) == 0.0
    assert difference(0.0, -0.01, 0.2) < 0


def test_single_replies_are_matched_within_their_kind_and_counted_once():
    standing = single(Standing(), Stream.FEEDBACK, Side.CHAMPION, 0.0, kind="sums")
    standing = single(standing, Stream.FEEDBACK, Side.CHALLENGER, 1.0, kind="words")
    assert standing.tally(Stream.FEEDBACK) == Tally()
    standing = single(standing, Stream.FEEDBACK, Side.CHALLENGER, 1.0, kind="sums")
    assert standing.tally(Stream.FEEDBACK) == Tally(gains=1)
    standing = single(standing, Stream.FEEDBACK, Side.CHAMPION, 1.0, kind="sums")
    assert standing.tally(Stream.FEEDBACK) == Tally(gains=1)


def test_replies_that_wait_are_limited():
    standing = Standing()
    for _ in range(3 * MOST_WAITING):
        standing = single(standing, Stream.VERIFIER, Side.CHAMPION, 1.0)
    for _ in range(3 * MOST_WAITING):
        standing = single(standing, Stream.VERIFIER, Side.CHALLENGER, 1.0)
    assert standing.tally(Stream.VERIFIER) == Tally(ties=MOST_WAITING)


def test_equal_sides_of_an_unequal_shift_are_as_often_ahead_as_behind():
    """One in twenty replies is the challenger's; matching must not favour the side that is rare."""
    rng = Random(7)
    standing = Standing()
    for _ in range(20_000):
        side = Side.CHALLENGER if rng.random() < 0.05 else Side.CHAMPION
        standing = single(standing, Stream.VERIFIER, side, float(rng.random() < 0.6))
    tally = standing.tally(Stream.VERIFIER)
    assert tally.pairs > 800
    assert abs(tally.gains - tally.losses) < 3 * (tally.gains + tally.losses) ** 0.5
