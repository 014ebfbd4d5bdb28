"""What follows from a challenger's traffic: decided from facts, one step at a time."""

from dataclasses import replace

import pytest

from studium.errors import BadRequest
from studium.evals.gate.live import Stream
from studium.manage.rollouts import LEAST_AT_A_STEP, Act, Seen, fold, next_step, replayed, seal, terms_of
from studium.records.adapters import Phase, Route, Verdict
from studium.records.rollouts import Exposure, Rollout

ROLLOUT = Rollout(7, "a", "old", "new", 0.0, steps=(0.05, 0.5), quality=("verifier",))
SHADOW = Route("a", "old", "new", Phase.SHADOW, 0.0, 7)


def shadowed(champion: float, challenger: float, times: int) -> list[Exposure]:
    one = Exposure(7, 0.0, "r", "shadow", "sums", {"verifier": champion}, {"verifier": challenger})
    return [one] * times


def shifted(side: str, score: float, times: int) -> list[Exposure]:
    told = {"verifier": score, "errors": 1.0}
    sides = (told, {}) if side == "champion" else ({}, told)
    return [Exposure(7, 0.0, "r", "shift", "sums", *sides)] * times


def seen(*exposures: list[Exposure]) -> Seen:
    return fold(Seen(), [one for some in exposures for one in some], terms_of(ROLLOUT))


def test_no_traffic_and_equal_answers_are_held():
    assert next_step(SHADOW, ROLLOUT, Seen(), autopromote=True).act is Act.NOTHING
    ties = seen(shadowed(1.0, 1.0, 500), shadowed(0.0, 0.0, 500))
    assert next_step(SHADOW, ROLLOUT, ties, autopromote=True).act is Act.NOTHING


def test_who_is_better_goes_one_step_at_a_time_and_answers_people_before_it_is_promoted():
    won = seen(shadowed(0.0, 1.0, 60))
    first = next_step(SHADOW, ROLLOUT, won, autopromote=True)
    assert (first.act, first.share) == (Act.SHARE, 0.05)
    at_five = replace(SHADOW, phase=Phase.SHIFT, share=0.05)
    assert next_step(at_five, ROLLOUT, won, autopromote=True).act is Act.NOTHING
    served = fold(won, shifted("challenger", 1.0, LEAST_AT_A_STEP), terms_of(ROLLOUT))
    second = next_step(at_five, ROLLOUT, served, autopromote=True)
    assert (second.act, second.share) == (Act.SHARE, 0.5)
    half = replace(at_five, share=0.5)
    assert next_step(half, ROLLOUT, served, autopromote=True).act is Act.READY
    served = fold(served, shifted("challenger", 1.0, LEAST_AT_A_STEP), terms_of(ROLLOUT))
    assert next_step(half, ROLLOUT, served, autopromote=True).act is Act.PROMOTE
    assert next_step(half, ROLLOUT, served, autopromote=False).act is Act.READY


def test_who_was_begun_to_stay_stays_and_is_never_promoted_by_itself():
    stays = replace(ROLLOUT, steps=())
    won = seen(shadowed(0.0, 1.0, 60))
    assert next_step(SHADOW, stays, won, autopromote=True).act is Act.READY


@pytest.mark.parametrize("autopromote", [True, False])
def test_who_is_worse_or_slower_or_breaks_is_withdrawn_whatever_was_configured(autopromote: bool):
    worse = seen(shadowed(1.0, 0.0, 20))
    slower = [Exposure(7, 0.0, "r", "shadow", "", {"latency": -1.0}, {"latency": -2.0})] * 30
    broken = [Exposure(7, 0.0, "r", "shadow", "", {"errors": 1.0}, {"errors": 0.0})] * 30
    for told in (worse, seen(slower), seen(broken)):
        assert next_step(SHADOW, ROLLOUT, told, autopromote=autopromote).act is Act.WITHDRAW


def test_in_the_shift_a_reply_meets_one_of_the_other_side_on_the_same_kind():
    told = seen(shifted("champion", 0.0, 5), shifted("challenger", 1.0, 3))
    assert told.standing.tally(Stream.VERIFIER).gains == 3
    other = [replace(one, kind="poems") for one in shifted("challenger", 1.0, 3)]
    assert seen(shifted("champion", 0.0, 5), other).standing.tally(Stream.VERIFIER).pairs == 0


def test_a_route_that_somebody_changed_ends_it():
    elsewhere = replace(SHADOW, champion="another")
    assert next_step(elsewhere, ROLLOUT, Seen(), autopromote=True).act is Act.OVER


def test_evidence_of_a_rollout_replays_to_its_word_and_nonsense_is_refused():
    evidence = seal(ROLLOUT, shadowed(0.0, 1.0, 60), at=1.0)
    assert evidence.verdict is Verdict.PROMOTE is replayed(evidence.body).verdict
    assert (evidence.champion, evidence.challenger) == ("old", "new")
    fewer = {**evidence.body, "exposures": evidence.body["exposures"][:3]}
    assert replayed(fewer).verdict is Verdict.HOLD
    with pytest.raises(BadRequest):
        replayed({**evidence.body, "exposures": [{"nonsense": 1}]})
